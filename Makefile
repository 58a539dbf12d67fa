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
# $(call unless,KEY=VALUE): a default that ARGS does not set
unless = $(if $(filter $(firstword $(subst =, ,$(1)))=%,$(ARGS)),,$(1))
.DEFAULT_GOAL := help

.PHONY: help setup demo test test-slow test-fashion test-browser test-latex slurm-test lint \
  lock format data tables figures report reproduce publish results export import plan settings \
  cache rekey bench \
  faults kinds clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/ready: pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 10) <= v < (3, 14) \
	  else f"Winnow needs Python 3.10 to 3.13; this is {v[0]}.{v[1]}: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip
	@echo "installing torch and the rest into $(VENV): some minutes, about 6 GB on Linux"
	$(BIN)/pip install --disable-pip-version-check --progress-bar off -c requirements.lock \
	  -e '.[dev,figures,report,slurm,tensorboard,wandb]' 2>&1 \
	  | sed -nE '/^ *(Collecting|Building|Installing|Successfully|ERROR|error)/p' | cut -c1-120
	$(RUN) -c 'import torch, torchvision, hydra, pandas, sklearn, safetensors; \
	  print("ready: torch", torch.__version__)'
	touch $@

setup: $(VENV)/ready ## create .venv with the versions in requirements.lock

demo: $(VENV)/ready ## run Table 1 of the IMC paper: thirteen methods on digits
	$(RUN) scripts/reproduce.py imc_table01@digits $(call unless,models=resnet20) \
	  $(call unless,train=quick) $(call unless,seeds=0) $(ARGS)

test: $(VENV)/ready ## run the test suite
	$(RUN) -m pytest -n auto --dist loadfile \
	  -m 'not slow and not fashion and not slurm and not browser and not latex' $(ARGS)

test-slow: $(VENV)/ready ## run the tests that take minutes
	$(RUN) -m pytest -m slow $(ARGS)

test-fashion: $(VENV)/ready ## run the tests on the Fashion-MNIST files
	$(RUN) -m pytest -m fashion $(ARGS)

test-browser: $(VENV)/ready ## run the tests of HTML pages in Chromium (apt-get install chromium)
	$(RUN) -m pytest -m browser $(ARGS)

test-latex: $(VENV)/ready ## compile the LaTeX of every table (needs pdflatex with booktabs)
	$(RUN) -m pytest -m latex $(ARGS)

slurm-test: $(VENV)/ready ## run a sweep with Slurm on this machine (as root)
	$(RUN) -m pytest -m slurm $(ARGS)

lint: $(VENV)/ready ## run ruff, mypy and import-linter (allowed imports between packages)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: $(VENV)/ready ## renew requirements.lock from pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --all-extras --no-annotate \
	  --custom-compile-command "make lock" pyproject.toml -o requirements.lock

format: $(VENV)/ready ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

data: $(VENV)/ready ## download and verify a data set: make data DATASET=cifar10
	$(RUN) scripts/fetch_data.py $(DATASET) $(ARGS)

plan: $(VENV)/ready ## print the cost of a table: make plan TABLE=imc_table01@digits
	$(RUN) scripts/plan.py $(TABLE) $(ARGS)

reproduce: $(VENV)/ready ## run what a table lacks, print it: TABLE=imc_table01 ARGS="seeds=0"
	$(RUN) scripts/reproduce.py $(TABLE) $(ARGS)

tables: $(VENV)/ready ## print tables from records: all that have some, or TABLE=imc_table01
	$(RUN) scripts/tables.py $(if $(filter file,$(origin TABLE)),,$(TABLE)) $(ARGS)

settings: $(VENV)/ready ## print our settings beside the papers': all in short, or TABLE=imc_table01
	$(RUN) scripts/settings.py $(if $(filter file,$(origin TABLE)),,$(TABLE)) $(ARGS)

figures: $(VENV)/ready ## draw figures from records: all that have some, or TABLE=imc_figure01
	$(RUN) scripts/figures.py $(if $(filter file,$(origin TABLE)),,$(TABLE)) $(ARGS)

report: $(VENV)/ready ## write a page of all tables, figures and verdicts: results/report.html
	$(RUN) scripts/report.py $(ARGS)

publish: $(VENV)/ready ## copy a table's or figure's records to results/published
	$(RUN) scripts/publish.py $(TABLE) $(ARGS)

results: $(VENV)/ready ## write README.md's and RESULTS.md's numbers from results/published
	$(RUN) scripts/results.py $(ARGS)

cache: $(VENV)/ready ## list the cache; ARGS: verify=true checks it, remove=true removes the unused
	$(RUN) scripts/cache.py $(ARGS)

export: $(VENV)/ready ## write a run's ticket for plain PyTorch: ID=RUN_ID ARGS="format=torch"
	$(RUN) scripts/export.py $(ID) $(ARGS)

import: $(VENV)/ready ## take over the records of another machine: FROM=DIR
	$(RUN) scripts/import_.py $(FROM) $(ARGS)

rekey: $(VENV)/ready ## convert and seal results and cache of version 0.1.0; computes nothing
	$(RUN) scripts/rekey.py $(ARGS)

bench: $(VENV)/ready ## measure speed beside rivals and limits: ONLY=done_vs_torch,help_vs_torch
	$(RUN) scripts/bench.py $(if $(ONLY),only=$(ONLY)) $(ARGS)

faults: $(VENV)/ready ## try kills, damage, bad input: ARGS="minutes=5 workers=2 only=kills"
	$(RUN) scripts/faults.py $(ARGS)

kinds: $(VENV)/ready ## measure how much the kind of CPU changes an accuracy
	$(RUN) scripts/kinds.py $(ARGS)

clean: ## remove the environment and the caches of tools; keep records and the stage cache
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
