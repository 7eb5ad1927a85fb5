# Each target makes .venv itself, from requirements.lock; nothing outside this folder is changed,
# but for the local stack's data (see docs/stack.md).

PYTHONS := python3 python3.13 python3.12 python3.11
# The one behind an activated environment: .venv itself may be the active one, and is made anew.
PYTHON := $(shell for python in $(PYTHONS); do \
	$$python -c 'import sys, venv, ensurepip; sys.version_info < (3, 11) and sys.exit(1); print(sys._base_executable)' \
	2>/dev/null && break; done)
BIN := .venv/bin
READY := .venv/.ready
# Servers that run from .venv don't outlive it: nothing could stop them any more.
DOWN = ! $(BIN)/python -c 'import taxi_ingest' 2>/dev/null || $(BIN)/taxi-ingest down
NEEDS_PYTHON = test -n "$(PYTHON)" || { echo "taxi-ingest needs Python 3.11 or newer with its venv module" \
	"(Debian, Ubuntu: apt-get install python3-venv)." >&2; exit 1; }

.PHONY: help demo test azurite chaos bench bench-quick bench-queries lint format docs lock clean

help: ## Show this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' $(MAKEFILE_LIST)

demo: $(READY) ## Install, start the local stack and load a real month
	@scripts/demo

test: $(READY) ## Run the tests, against real servers (ARGS="-k name" for some of them)
	@$(BIN)/python -m pytest $(ARGS)

# 3.37 brings twice as much, 360 MB, most of it telemetry, and starts twice as slowly.
azurite: ## Install what speaks like Azure, for the tests of az:// (needs npm)
	@mkdir -p build/azurite
	@npm install --prefix build/azurite --no-package-lock --omit=dev --ignore-scripts --no-audit --no-fund \
		--loglevel=error azurite@3.35.0

chaos: $(READY) ## Inject faults at random, 200 rounds of them (ARGS="--rounds 20 --seed 7")
	@$(BIN)/python tests/chaos $(ARGS)

bench: $(READY) ## Measure against psql, DuckDB, ADBC, dlt and pandas (a quarter of an hour)
	@$(BIN)/python -m benchmarks $(ARGS)

bench-quick: $(READY) ## Fail if the load stage is slower than 1.1 times psql (a minute)
	@$(BIN)/python -m benchmarks --quick

bench-queries: $(READY) ## Ask ten questions of our views, plain tables and DuckDB (ARGS="--months 3 --rows 100000")
	@$(BIN)/python -m benchmarks.queries $(ARGS)

lint: $(READY) ## Check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY) ## Put the code into its style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(READY) ## Build the pages of the Python interface, build/docs/index.html
	@$(BIN)/python scripts/api build/docs

lock: ## Pin the newest versions that pyproject.toml allows, with hashes and without addresses
	@$(NEEDS_PYTHON)
	@test -x build/uv/bin/uv || ($(PYTHON) -m venv build/uv && build/uv/bin/pip install --quiet uv)
	@build/uv/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-annotate --no-header --no-emit-index-url --quiet --output-file requirements.lock

clean: ## Remove what was built and installed here
	@$(DOWN)
	@rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml requirements.lock
	@$(NEEDS_PYTHON)
	@$(DOWN) || echo "The old installation can't stop its servers: run 'taxi-ingest down' after this." >&2
	@"$(PYTHON)" scripts/install
	@touch $@
