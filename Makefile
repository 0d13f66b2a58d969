# make demo: environment, embedded shop, training, before/after table. make demo-rl: what reinforcement learning buys on
# top of it. make test: the whole suite.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SEED ?= 0
ITEMS ?= 5000

.PHONY: demo demo-rl test check env

env: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e '.[test]'
	touch $@

demo: env
	$(BIN)/goodrate demo --set seed=$(SEED) --set items=$(ITEMS)

demo-rl: env
	$(BIN)/goodrate demo --rl --set seed=$(SEED) --set items=$(ITEMS)

test: env
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/python -m pytest
