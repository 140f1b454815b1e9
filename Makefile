PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo serve picture check lint types fast test test-all docs clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# one stamp for each set of extras: `make demo` installs what it runs and not the test tools
$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(PIP) -e ".[build,train]"
	touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(PIP) -e ".[dev]"
	touch $@ $(VENV)/.demo

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(PIP) -e ".[docs]"
	touch $@

demo: $(VENV)/.demo
	$(BIN)/spinmeround demo

serve: $(VENV)/.demo
	$(BIN)/spinmeround serve

# the picture at the top of the README
picture: $(VENV)/.demo
	$(BIN)/spinmeround build --out runs/picture --set plan.heads=12 --set "views={azimuths=8, elevations_deg=[0.0]}" \
		--set render.resolution=160 --set train.unet.sample_size=40 --set mesh.resolution=192
	$(BIN)/python examples/02_read_dataset.py --dataset runs/picture/datasets/*.zarr --heads 1,4,5 \
		--to docs/pictures/heads.png

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: $(VENV)/.dev
	$(BIN)/mypy

# a process for each core, with one thread each: more threads than cores only wait for each other
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

# only the files that have fast tests are collected: importing the others takes longer than running these
fast: $(VENV)/.dev
	$(PYTEST) -q -m fast $$(grep -rl "mark.fast" tests --include="test_*.py")

check: lint types fast

test: lint types
	$(PYTEST) -m "not slow"

test-all: lint types
	$(PYTEST)

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build site *.egg-info
