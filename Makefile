# Two commands on a fresh machine with Python 3.11 and make:
#   make demo   the whole way on this machine: measure, fit, federate, report
#   make test   the whole test suite
# Each makes the virtual environment and installs what it needs first, and may be run again at any time.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
DEMO ?= demo-out
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

.PHONY: help demo test lint types format clean

help:
	@echo "make demo    measure this machine, fit, federate, write the report to $(DEMO)/"
	@echo "make test    run the whole test suite"
	@echo "make lint    ruff format --check, ruff check, mypy"
	@echo "make format  let ruff format and mend"
	@echo "make clean   remove the virtual environment and what was built"

demo: $(VENV)/.installed-all
	$(BIN)/devprof demo --output $(DEMO)

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n auto --dist loadscope --no-loadscope-reorder

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(BIN)/python:
	@echo "making a virtual environment in $(VENV) with $(PYTHON)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name it: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-all: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing devprof with all extras into $(VENV) (a minute or two)"
	@$(PIP_INSTALL) ".[all]"
	@touch $@

$(VENV)/.installed-dev: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing devprof with all extras and the tools of its tests into $(VENV) (a minute or two)"
	@$(PIP_INSTALL) ".[dev]"
	@touch $@ $(VENV)/.installed-all

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
