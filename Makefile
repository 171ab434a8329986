# make demo: from nothing to a proven chip program.   make test: everything that must hold (<= 15 min, 2 cores).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two workers on two cores: torch's own threads would only get in each other's way.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

.PHONY: demo test test-full lint unit mutants clean

demo: $(VENV)/.demo
	@$(BIN)/isobit demo --out build/digits

test: $(VENV)/.dev lint
	$(PYTEST) $(TESTFLAGS)

test-full: $(VENV)/.dev lint
	$(BIN)/python tools/test_full.py

unit: $(VENV)/.dev
	$(PYTEST) tests --ignore tests/contract --ignore tests/e2e

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/check_c_format.py

mutants: $(VENV)/.dev
	$(BIN)/python tools/mutants.py

$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[all]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf build $(VENV)
