# Every target works on a clean clone. PORT and PORTAL_VAR move the portal; ENGINE_URL and ENGINE_KEY add an engine you have.
PYTHON ?= python3
BIN := .venv/bin
LAUNCHER := $(BIN)/python -m cango_portal.launcher
PYTEST := $(BIN)/python -m pytest
# What a part leaves out is not collected: that costs each process of a run many seconds.
QUICK := --ignore tests/house --ignore tests/whole --ignore tests/compat --ignore tests/browser --ignore tests/e2e --ignore tests/lighthouse -n auto --maxprocesses 4 --dist worksteal
MONEY := $(foreach app,billing catalog gateway ledger operations webhooks,--ignore tests/$(app))

.DEFAULT_GOAL := help
.PHONY: help run stop manage seed demo fleet test test-browser screens lighthouse unit stories fuzz bench-ledger bench-gateway bench-batch bench-heartbeats bench-pages check fmt messages lock clean environment test-environment
MAKEFLAGS += --no-print-directory
# A process that may not keep its compiled modules takes three times as long to start; git ignores them.
unexport PYTHONDONTWRITEBYTECODE
export PORT PORTAL_VAR ENGINE_URL ENGINE_KEY

help:  ## say what each command does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

environment:
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is missing. On Debian or Ubuntu install it with: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -I cango_portal/launcher/environment.py run

test-environment: environment
	@$(PYTHON) -I cango_portal/launcher/environment.py test

run: export MAKE_BEGAN := $(shell date +%s)
run: environment  ## start everything on this machine: servers, portal, one site with real engines
	@exec $(LAUNCHER) run

stop: environment  ## end a portal that was left running
	@$(LAUNCHER) stop

demo: environment  ## walk the main job against the running portal, from sign-up to settled job
	@$(LAUNCHER) demo

fleet: test-environment  ## N=20 real runner processes with simulated GPUs at simulated sites, at the running portal or one of their own; SEED=1
	@N="$(N)" SEED="$(SEED)" exec $(LAUNCHER) fleet

manage: environment  ## run a management command against the same servers: make manage ARGS="shell"
	@$(LAUNCHER) manage $(ARGS)

seed: environment  ## write the demo's data again; what is there stays
	@$(LAUNCHER) manage seed

test: test-environment  ## check everything, then run all tests, those in a browser too; PROCESSES=2 runs the last part beside two portals
	@$(MAKE) check
	@$(MAKE) unit
	@$(MAKE) stories
	@$(LAUNCHER) chromium && chosen="(whole or browser) and not grid and not screens" || chosen="whole and not browser"; \
	  $(LAUNCHER) node || chosen="($$chosen) and not node"; \
	  $(LAUNCHER) rabbitmq || chosen="($$chosen) and not rabbitmq"; \
	  $(BIN)/python -m tests.runner.builder || chosen="($$chosen) and not builder"; \
	  [ "$$(id -u)" = 0 ] || { echo "What needs root (marker root) was NOT tested."; chosen="($$chosen) and not root"; }; \
	  WHOLE_REQUIRED=1 $(PYTEST) -q -m "$$chosen" $(if $(PROCESSES),-n $(PROCESSES) --dist loadgroup)

test-browser: test-environment  ## all tests in a browser, and every page in both themes, 1440 and 390 pixels wide
	@$(LAUNCHER) chromium && WHOLE_REQUIRED=1 $(PYTEST) -q -m "browser and not screens"

screens: test-environment  ## a picture of every page, both themes, 1440 and 390 pixels wide, in var/screens/
	@$(LAUNCHER) chromium && $(PYTEST) -q -m screens

lighthouse: test-environment  ## what Lighthouse says of the public pages; needs Node and Chromium; ARGS="-k front"
	@$(LAUNCHER) chromium && $(PYTEST) -q -s -m lighthouse $(ARGS)

fuzz: test-environment  ## schemathesis asks every operation of the OpenAPI document of a running portal; FUZZ=500 asks more
	@$(PYTEST) -q -m fuzz

unit: test-environment  ## the tests that start no portal, but those of money and the door, and those of the house, which check runs
	@$(PYTEST) -q -m "not whole and not browser and not story" $(QUICK) $(MONEY)

stories: test-environment  ## money, deliveries, the door: long stories, races, real HTTP
	@$(PYTEST) -q -m "story and not whole and not browser" $(QUICK)

bench-ledger: environment  ## reserve + settle pairs a second, beside the bare SQL floor in the same run
	@$(BIN)/python -m cango_portal.bench.ledger --json "$${PORTAL_VAR:-var}/bench/ledger.json"

bench-gateway: environment  ## the /v1 door under load, beside LiteLLM, a bare path and the engine itself; ARGS="--seconds 2 --rounds 1 --only engine,portal"
	@$(BIN)/python -m cango_portal.bench.gateway --environments "$${PORTAL_VAR:-var}/bench" --json "$${PORTAL_VAR:-var}/bench/gateway.json" $(ARGS)

bench-batch: environment  ## rows a second of batches through a running portal, beside the engine's own in the same run; ARGS="--embeddings 5000 --chats 0"
	@$(BIN)/python -m cango_portal.bench.batch --json "$${PORTAL_VAR:-var}/bench/batch.json" $(ARGS)

bench-heartbeats: environment  ## what a thousand nodes that beat every two seconds cost the door; ARGS="--nodes 1000 --seconds 20"
	@$(BIN)/python -m cango_portal.bench.heartbeats --json "$${PORTAL_VAR:-var}/bench/heartbeats.json" $(ARGS)

bench-pages: environment  ## each page's p95 as a multiple of an empty view, with 10^4 and 10^7 jobs; ARGS="--rows 10000 1000000 --only jobs"
	@$(BIN)/python -m cango_portal.bench.pages --json "$${PORTAL_VAR:-var}/bench/pages.json" $(ARGS)

check: test-environment  ## formatting, lint, types, import order, migrations
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(PYTEST) tests/house -q

messages: environment  ## take new texts out of code and templates into the catalogs of translations, and compile those
	@$(BIN)/python -m cango_portal.catalogs update

fmt: test-environment  ## format the code and repair what lint can
	@$(BIN)/ruff check --fix-only . && $(BIN)/ruff format .

lock: environment  ## write the locks from pyproject.toml, with hashes and without host names; UPGRADE=1 takes newer releases
	@$(BIN)/uv pip compile --quiet $(if $(UPGRADE),--upgrade) --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --all-extras pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --all-extras --group test -c requirements.lock pyproject.toml -o requirements-test.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -c requirements.lock deploy/runner.in -o deploy/runner.lock
	@echo "uv" | $(BIN)/uv pip compile --quiet $(if $(UPGRADE),--upgrade) --universal --python-version 3.11 --generate-hashes --no-header --no-annotate - -o requirements-uv.lock

clean: environment  ## remove var/ with all its data, after asking
	@$(LAUNCHER) clean
