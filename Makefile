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

# a process for each core, with one thread each: more threads than cores only wait for each other
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

test: lint types
	$(PYTEST) -m "not slow"

test-all: lint types
	$(PYTEST)

clean:
	rm -rf $(VENV) build *.egg-info
