PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-all lint types serve clean

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $(READY)

demo: $(READY)
	$(BIN)/spinmeround demo

serve: $(READY)
	$(BIN)/spinmeround serve

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/mypy

test: lint types
	$(BIN)/pytest -m "not slow"

test-all: lint types
	$(BIN)/pytest

clean:
	rm -rf $(VENV) build *.egg-info
