# Everything here works on a machine with Python 3.11+, make and git: each target does the set-up it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# One environment, filled in two steps: what training needs, then what tests, linters, W&B and notebooks need.
BASE := $(VENV)/.installed-base
ALL := $(VENV)/.installed

.PHONY: train test test-all lint format bench docs screenshots venv clean

train: $(BASE)  ## the main job: discover Strassen's algorithm
	$(BIN)/matrixrl matmul train --preset quick

test: $(ALL)  ## everything that proves the behaviour, under ten minutes on two cores
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-all: $(ALL)  ## the long checks too: kills, seeds, learning
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(ALL)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: $(ALL)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(BASE)  ## speed; the record is benchmarks/RESULTS.md
	$(BIN)/matrixrl matmul bench

docs: $(ALL)  ## the reference from the docstrings and all pages, into build/docs; warnings are errors
	$(BIN)/python docs/build.py build/docs

screenshots: $(ALL)  ## pictures of the dashboard for README and docs; needs chromium; RUNS_DIR=... shows runs of your own
	$(BIN)/python docs/screenshots.py docs/images $(if $(RUNS_DIR),--runs-dir $(RUNS_DIR))

venv: $(ALL)  ## the set-up alone: everything but accelerators and the baselines

# A stamp is written last, so a set-up that was interrupted is done again and one that was finished is not.
$(BASE): pyproject.toml setup.py constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "matrixrl needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name another with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	@echo "installing what training needs into $(VENV): about 750 MB"
	$(PIP) -e .
	touch $(BASE)

$(ALL): $(BASE)
	@echo "installing what tests, W&B and notebooks need into $(VENV): about 900 MB more"
	$(PIP) -e ".[test]"
	touch $(ALL)

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache build dist
