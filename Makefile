# `make study` and `make test` do everything from a bare machine with Python >= 3.11 and make.
PYTHON ?= python3
VENV ?= .venv
UV_VERSION = 0.13.9

BIN = $(VENV)/bin
READY = $(VENV)/.ready
UV = $(BIN)/uv pip

.PHONY: setup study test test-slow lint format bench docs ui cluster cluster-stop clean lock

setup: $(READY)

# Pinned versions with hashes; bytecode is compiled once here, otherwise every Ray worker compiles torch anew.
$(READY): constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ipgl needs Python >= 3.11, but $(PYTHON) is " + sys.version.split()[0] + "; name another one: make PYTHON=python3.12 setup")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(UV) install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r constraints.txt
	$(UV) install --quiet --python $(BIN)/python --no-deps -e .
	touch $(READY)

study: setup
	$(BIN)/ipgl study run studies/quickstart.yaml

test: setup
	$(BIN)/python -m pytest

test-slow: setup
	$(BIN)/python -m pytest -m "slow and not gpu"

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	$(BIN)/python -m pytest tests/benchmarks -m bench -s

# The documentation's site, in site/; any warning is an error.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

ui: setup
	$(BIN)/ipgl ui

# A Ray cluster and MLflow on this machine; options: make cluster CLUSTER_OPTIONS="--workers 3 --cpus 6"
cluster: setup
	$(BIN)/python cluster/local/cluster.py up $(CLUSTER_OPTIONS)

cluster-stop:
	$(BIN)/python cluster/local/cluster.py down

# Re-pin all dependencies: versions and hashes, no registry addresses.
lock: setup
	$(UV) compile --quiet --universal --generate-hashes --no-header --no-annotate --upgrade --extra dev --extra docs --python-version 3.11 pyproject.toml -o constraints.txt

clean:
	rm -rf $(VENV) runs site .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
