# `make help` lists the targets. Targets that run Python first create a missing environment.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python
TABLE ?= imc_table01@digits
DATASET ?= fashion_mnist
ARGS ?=
.DEFAULT_GOAL := help

.PHONY: help setup demo test test-slow test-fashion slurm-test lint format data tables figures report reproduce publish plan cache rekey bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 10) <= sys.version_info < (3, 14) else f"Winnow needs Python 3.10 to 3.13; this is {sys.version.split()[0]}: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip
	@echo "installing torch and the rest into $(VENV): some minutes, about 6 GB on Linux"
	$(BIN)/pip install --disable-pip-version-check --progress-bar off -e '.[dev,figures,report,tensorboard,wandb]' 2>&1 | sed -nE '/^ *(Collecting|Building|Installing|Successfully|ERROR|error)/p' | cut -c1-120
	$(RUN) -c 'import torch, torchvision, hydra, pandas, sklearn, safetensors; print("ready: torch", torch.__version__)'
	touch $@

setup: $(VENV)/ready ## create .venv and install the dependencies in pyproject.toml

demo: $(VENV)/ready ## run Table 1 of the IMC paper: thirteen methods on the embedded digits (ResNet-20)
	$(RUN) scripts/reproduce.py imc_table01@digits models=resnet20 train=quick seeds=0 $(ARGS)

test: $(VENV)/ready ## run the test suite
	$(RUN) -m pytest -n auto --dist loadgroup -m 'not slow and not fashion and not slurm' $(ARGS)

test-slow: $(VENV)/ready ## run the tests that take minutes
	$(RUN) -m pytest -m slow $(ARGS)

test-fashion: $(VENV)/ready ## run the tests on the Fashion-MNIST files (apt-get install dataset-fashion-mnist)
	$(RUN) -m pytest -m fashion $(ARGS)

slurm-test: $(VENV)/ready ## run a sweep with Slurm on this machine (as root; apt-get install slurm-wlm munge)
	$(BIN)/pip install --quiet --disable-pip-version-check 'submitit>=1.5'
	$(RUN) -m pytest -m slurm $(ARGS)

lint: $(VENV)/ready ## run ruff, mypy and import-linter (allowed imports between packages)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/ready ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

data: $(VENV)/ready ## download and verify a data set: make data DATASET=cifar10
	$(RUN) scripts/fetch_data.py $(DATASET) $(ARGS)

plan: $(VENV)/ready ## print the cost of a table and the state of its runs: make plan TABLE=imc_table01@digits
	$(RUN) scripts/plan.py $(TABLE) $(ARGS)

reproduce: $(VENV)/ready ## run the missing runs of a table, then print it: make reproduce TABLE=imc_table01 ARGS="models=resnet20 seeds=0"
	$(RUN) scripts/reproduce.py $(TABLE) $(ARGS)

tables: $(VENV)/ready ## print tables from the available records and write them to results/tables
	$(RUN) scripts/tables.py $(TABLE) $(ARGS)

figures: $(VENV)/ready ## draw figures from the available records to results/figures: all, or make figures TABLE=sketching_figure02
	$(RUN) scripts/figures.py $(if $(filter file,$(origin TABLE)),,$(TABLE)) $(ARGS)

report: $(VENV)/ready ## write a page with all tables, figures, verdicts and missing entries: results/report.html
	$(RUN) scripts/report.py $(ARGS)

publish: $(VENV)/ready ## copy the records of a table or figure to results/published (measured by committed code); TABLE, ARGS as for reproduce
	$(RUN) scripts/publish.py $(TABLE) $(ARGS)

cache: $(VENV)/ready ## list the contents of the cache and what is unused; ARGS="remove=true" removes what is unused
	$(RUN) scripts/cache.py $(ARGS)

rekey: $(VENV)/ready ## convert results and cache of version 0.1.0 to the current identities without computing anything
	$(RUN) scripts/rekey.py $(ARGS)

bench: $(VENV)/ready ## measure speed as ratios to a rival in the same run; save the throughput for make plan
	$(RUN) scripts/bench.py $(ARGS)

clean: ## remove the environment and the caches of tools; keep records and the stage cache
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
