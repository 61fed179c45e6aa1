# `make` lists the targets. Needs Python 3.11 or newer, git and make; the rest comes into .venv.
# SCALE=smoke|laptop|workstation|paper (default: config/config.yaml), CORES=4 (default: all).

SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
# Its name holds the place, because a virtual environment cannot be moved.
STAMP := $(VENV)/.complete-$(shell pwd | cksum | cut -d ' ' -f 1)
SCALE ?=
CORES ?= all
PYTEST ?=

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# uv leaves it to Python to compile modules, when they are first imported.
unexport PYTHONDONTWRITEBYTECODE
# Snakemake does not start where it cannot make a folder below HOME.
ifndef XDG_CACHE_HOME
ifneq ($(shell [ -w "$$HOME/.cache" ] || [ -w "$$HOME" ] || echo no),)
export XDG_CACHE_HOME := $(CURDIR)/.snakemake/cache
endif
endif
snakemake = snakemake --cores $(CORES) $(if $(SCALE),--config scale=$(SCALE))
code = rarl tests examples workflow

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(STAMP): requirements.txt requirements.lock pyproject.toml workflow/install.sh workflow/uv.txt
	@workflow/install.sh $(VENV) $(STAMP)

.PHONY: install
install: $(STAMP) ## the virtual environment .venv with pinned dependencies

.PHONY: reproduce
reproduce: $(STAMP) ## datasets, runs, tables, figures and report; stop with Ctrl-C, start again to go on
	@# Datasets first: lost ones are made again, the same byte for byte, and then nothing that learned from them is due.
	@if [ -d .snakemake/metadata ]; then $(snakemake) -- datasets; fi
	@$(snakemake) -- all preview site

.PHONY: smoke
smoke: $(STAMP) ## the whole workflow in five minutes, with a few learner steps per run: a taste, no results
	@snakemake --cores $(CORES) --config scale=smoke -- all site

pytest = OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} pytest -q --numprocesses auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder

.PHONY: test
test: $(STAMP) ## all tests but the slow ones and those that need servers; PYTEST='-k name' chooses
	@$(pytest) -m "not servers and not slow" $(PYTEST)

.PHONY: test-fast
test-fast: $(STAMP) ## two minutes: networks, agents, environments, sampling, statistics, settings
	@$(pytest) -m "not servers and not slow and not workflow" $(PYTEST) tests/nn tests/agents tests/envs \
	  tests/trajectories/test_sampling.py tests/replay/test_sum_tree.py tests/replay/test_state_replay.py \
	  tests/reporting/test_statistics.py tests/config tests/test_code_digest.py

.PHONY: test-all
test-all: $(STAMP) ## also slow ones and those that need servers; these are skipped, with the reason, where they are missing
	@$(pytest) $(PYTEST)

.PHONY: lint
lint: $(STAMP) ## style, types and faults of code and rules
	@ruff check $(code)
	@ruff format --check $(code)
	@mypy
	@snakefmt --line-length 120 --check Snakefile workflow
	@snakemake --lint

.PHONY: format
format: $(STAMP) ## put code, rules and schemas into their canonical form
	@ruff check --fix --quiet $(code)
	@ruff format $(code)
	@snakefmt --line-length 120 Snakefile workflow
	@python -m rarl.workflow.schemas

.PHONY: lock
lock: ## write requirements.lock anew from requirements.txt, pins kept where they fit (with the uv of `make install`)
	@uv --no-config pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet \
	  --excludes <(echo torch) --custom-compile-command "make lock" requirements.txt --output-file requirements.lock

.PHONY: bench
bench: $(STAMP) ## time and memory of every variant beside its base, measured in one run
	@python -m rarl costs $(if $(SCALE),--scale $(SCALE)) --output benchmarks/costs.csv

.PHONY: report
report: $(STAMP) ## pages and site of a report from the runs that there are, in reports/SCALE/
	@python -m rarl report $(if $(SCALE),--scale $(SCALE))

.PHONY: record
record: $(STAMP) ## bring the default scale up to date and let DVC note what belongs to this commit
	@if [ -n "$(SCALE)" ]; then echo "DVC keeps the scale of config/config.yaml; change it there instead of SCALE="; exit 1; fi
	@python -m rarl record --check
	@$(snakemake) -- all site
	@python -m rarl record > /dev/null
	@dvc commit --force
	@echo "Recorded. Next: git add .dvc/config config/config.yaml dvc.lock results reports && git commit; dvc push"

.PHONY: clean
clean: ## remove caches and logs; results and the state of stopped runs stay
	@rm -rf logs benchmarks .pytest_cache .ruff_cache .mypy_cache .hypothesis build *.egg-info
	@find $(code) -name __pycache__ -type d -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## remove .venv too
	@rm -rf $(VENV)
