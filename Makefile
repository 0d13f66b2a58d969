# make demo: environment, embedded shop, training, before/after table. make demo-rl: what reinforcement learning buys on
# top of it. make test: lint, types and the whole suite. make docs: the pages and the API reference, in build/docs, where
# a link that leads nowhere is an error.
# make faults: what is killed, broken, filled up and asked at random, for hours; reports in benchmarks/results/faults.
# make audit: known holes of the pinned packages, and what the release is made of (build/sbom.json, CycloneDX).
# make lock: the newest set of packages that fits pyproject.toml (everything under LOCK stays as it is without UPGRADE=1).
#
# LOCK=constraints.txt pins every package; LOCK= takes the newest ones, LOCK=mine.txt another set.
# TORCH_INDEX=https://download.pytorch.org/whl/cpu installs torch without CUDA, which is several GB smaller on Linux.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SEED ?= 0
ITEMS ?= 5000
LOCK ?= constraints.txt
# Processes that share the tests, by file; each takes up to 2.5 GB and one core.
TEST_WORKERS ?= 2
LOCKED_TORCH := torch==2.13.0
PIP_INSTALL = $(BIN)/pip install -q $(if $(LOCK),-c $(LOCK))

.PHONY: demo demo-rl test faults audit docs env lock

env: $(VENV)/.all

# The package with an extra; each stamp holds from one change of pyproject.toml or of the lock to the next.
$(VENV)/.%: $(VENV)/.torch pyproject.toml $(LOCK)
	$(PIP_INSTALL) -e '.[$*]'
	touch $@

# torch goes first and alone: its index must not be asked for anything else.
$(VENV)/.torch: $(LOCK)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	touch $@

demo: env
	$(BIN)/goodrate demo --set seed=$(SEED) --set items=$(ITEMS)

demo-rl: env
	$(BIN)/goodrate demo --rl --set seed=$(SEED) --set items=$(ITEMS)

test: $(VENV)/.test
	$(BIN)/ruff check src tests benchmarks docs/site
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile

# Of each kind of work so many kills, of each reader so many broken files. Root is needed for disks of one's own; as
# another user, disk.py --user.
KILLS ?= 10
INPUTS ?= 4400
FAULTS := benchmarks/results/faults
TRY := OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 nice -n 10 $(BIN)/python

faults: $(VENV)/.test
	$(TRY) tests/faults/kills.py --kills $(KILLS) --out $(FAULTS)/kills
	$(TRY) tests/faults/fuzz.py --inputs $(INPUTS) --out $(FAULTS)/fuzz.json
	$(TRY) tests/faults/api.py --examples 100 --out $(FAULTS)/api.json
	$(TRY) tests/faults/disk.py --out $(FAULTS)/disk

audit: $(VENV)/.test
	test -x $(VENV)-audit/bin/pip-audit || ($(PYTHON) -m venv $(VENV)-audit && \
		$(VENV)-audit/bin/pip install -q pip-audit cyclonedx-bom)
	mkdir -p build
	$(VENV)-audit/bin/cyclonedx-py environment $(BIN)/python --output-format JSON --output-file build/sbom.json
	$(VENV)-audit/bin/pip-audit --path $$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])') \
		--format json --output build/audit.json
	$(BIN)/python tests/faults/audited.py build/audit.json

docs: $(VENV)/.docs
	$(BIN)/python docs/site/sources.py build/pages
	$(BIN)/python -m sphinx -q -W --keep-going -c docs/site build/pages build/docs

# For every platform and Python from 3.11 on, from package names and bounds alone: no torch is downloaded.
lock:
	test -x $(VENV)-lock/bin/uv || ($(PYTHON) -m venv $(VENV)-lock && $(VENV)-lock/bin/pip install -q uv)
	echo '$(LOCKED_TORCH)' | $(VENV)-lock/bin/uv pip compile pyproject.toml - -q --all-extras --universal \
		--python-version 3.11 --annotation-style line --custom-compile-command 'make lock' \
		$(if $(UPGRADE),--upgrade) -o constraints.txt
