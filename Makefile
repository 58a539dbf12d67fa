# `make help` lists the targets. Every target that runs Python sets the environment up first when it is missing.
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

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 10) <= sys.version_info < (3, 14) else f"Winnow needs Python 3.10 to 3.13; this is {sys.version.split()[0]}: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip
	@echo "installing torch and the rest into $(VENV): some minutes, about 6 GB on Linux"
	$(BIN)/pip install --disable-pip-version-check --progress-bar off -e '.[dev,figures,report,tensorboard,wandb]' 2>&1 | sed -nE '/^ *(Collecting|Building|Installing|Successfully|ERROR|error)/p' | cut -c1-120
	$(RUN) -c 'import torch, torchvision, hydra, pandas, sklearn, safetensors; print("ready: torch", torch.__version__)'
	touch $@

setup: $(VENV)/ready ## make .venv and install everything from pyproject.toml

demo: $(VENV)/ready ## the main job: Table 1 of the IMC paper, thirteen methods on embedded real images (ResNet-20)
	$(RUN) scripts/reproduce.py imc_table01@digits models=resnet20 train=quick seeds=0 $(ARGS)

test: $(VENV)/ready ## the test suite
	$(RUN) -m pytest -n auto --dist loadgroup -m 'not slow and not fashion and not slurm' $(ARGS)

test-slow: $(VENV)/ready ## the tests that take minutes
	$(RUN) -m pytest -m slow $(ARGS)

test-fashion: $(VENV)/ready ## the tests on the real Fashion-MNIST files (apt-get install dataset-fashion-mnist)
	$(RUN) -m pytest -m fashion $(ARGS)

slurm-test: $(VENV)/ready ## a sweep through a real Slurm on this machine (apt-get install slurm-wlm munge; as root)
	$(BIN)/pip install --quiet --disable-pip-version-check 'submitit>=1.5'
	$(RUN) -m pytest -m slurm $(ARGS)

lint: $(VENV)/ready ## ruff, mypy, and the borders between rooms (import-linter)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/ready ## put the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

data: $(VENV)/ready ## fetch a data set: make data DATASET=cifar10
	$(RUN) scripts/fetch_data.py $(DATASET) $(ARGS)

plan: $(VENV)/ready ## what a table will cost and what is there: make plan TABLE=imc_table01@digits
	$(RUN) scripts/plan.py $(TABLE) $(ARGS)

reproduce: $(VENV)/ready ## run what a table misses, then print it: make reproduce TABLE=imc_table01 ARGS="models=resnet20 seeds=0"
	$(RUN) scripts/reproduce.py $(TABLE) $(ARGS)

tables: $(VENV)/ready ## print tables from the records that are there, and write them to results/tables
	$(RUN) scripts/tables.py $(TABLE) $(ARGS)

figures: $(VENV)/ready ## draw figures from the records that are there, to results/figures; all of them, or make figures TABLE=sketching_figure02
	$(RUN) scripts/figures.py $(if $(filter file,$(origin TABLE)),,$(TABLE)) $(ARGS)

report: $(VENV)/ready ## all tables and figures that were written, with verdicts and what is missing, on one page: results/report.html
	$(RUN) scripts/report.py $(ARGS)

publish: $(VENV)/ready ## ship the records behind a table or figure, measured by committed code, in results/published; TABLE and ARGS as for reproduce
	$(RUN) scripts/publish.py $(TABLE) $(ARGS)

cache: $(VENV)/ready ## what the cache holds and what has no use any more; removes that with ARGS="remove=true"
	$(RUN) scripts/cache.py $(ARGS)

rekey: $(VENV)/ready ## give results and cache of version 0.1.0 the identities that they have now; nothing is computed again
	$(RUN) scripts/rekey.py $(ARGS)

bench: $(VENV)/ready ## speed as ratios against a rival measured in the same run; kept for the hours of make plan
	$(RUN) scripts/bench.py $(ARGS)

clean: ## remove the environment and caches of tools; records and the stage cache stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
