# Everything here works on a machine with Python 3.11+, make and git: each target does the set-up it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: train test test-all lint format bench venv clean

train: $(STAMP)  ## the main job: discover Strassen's algorithm
	$(BIN)/matrixrl matmul train --preset quick

test: $(STAMP)  ## everything that proves the behaviour, under ten minutes on two cores
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-all: $(STAMP)  ## the long checks too: kills, seeds, learning
	$(BIN)/python -m pytest -n 2

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)  ## speed; the record is benchmarks/RESULTS.md
	$(BIN)/matrixrl matmul bench

venv: $(STAMP)  ## the set-up alone

# The stamp is written last, so a set-up that was interrupted is done again and one that was finished is not.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "matrixrl needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name another with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache build dist
