# Two commands set everything up: `make demo` and `make test`. Each makes the virtual environment if it is not there.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# For instance PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu" for a torch without CUDA.
PIP_ARGS ?=

.PHONY: demo test lint types unit figures docs clean

demo: $(VENV)/.installed
	$(BIN)/layerclock quickstart

test: lint types unit

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

unit: $(VENV)/.installed
	$(BIN)/pytest -q -n 2 --dist loadfile

figures: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-deps geffnet "pytorchcv<0.0.68"
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt transformers
	$(BIN)/python benchmarks/run_all.py

docs: $(VENV)/.installed
	$(BIN)/python -m sphinx -W -q -b html docs build/docs

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Layerclock needs Python 3.11 or newer; name one with PYTHON=python3.12')"
	$(PYTHON) -m venv $(VENV) || (echo "venv is missing: on Debian and Ubuntu, apt install python3-venv" && exit 1)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt "setuptools>=77" wheel
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt --no-build-isolation --editable ".[dev]"
	touch $@

clean:
	rm -rf build dist src/*.egg-info .mypy_cache .pytest_cache .ruff_cache
