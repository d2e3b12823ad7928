# `make` alone prints the targets. Everything lives in .venv; nothing is installed elsewhere.
# Python carries a tenth to a quarter more requests where it was built with profile-guided optimisation, as distributions' is.
IS_OPTIMISED := import ensurepip, sys, sysconfig, venv; is_optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""); \
	sys.exit(sys.version_info < (3, 11) or not (is_optimised or sys.prefix == "/usr"))
PYTHON ?= $(shell for python in python3 /usr/bin/python3; do $$python -c '$(IS_OPTIMISED)' 2>/dev/null && echo $$python && exit; done; echo python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= auto
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test check fix bench lock clean

help: ## print the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements-dev.lock pyproject.toml
	@echo "setting up $(VENV) (once; a minute or so)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed; set PYTHON=...") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: $(READY) ## start the gateway with its simulator and send a real request through it
	@$(BIN)/gateway demo $(ARGS)

test: $(READY) ## run all tests (ARGS="-k name" to choose)
	@$(BIN)/pytest -q -n $(JOBS) $(ARGS)

check: $(READY) ## lint, format and type checks, as CI runs them
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy gateway tests

fix: $(READY) ## mend what the linter and the formatter can mend, and write generated files anew
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/gateway schema > conf/gateway.schema.json
	@$(BIN)/python tests/deploy/prometheus_rule.py > deploy/kubernetes/components/monitoring/prometheus-rule.yaml
	@$(BIN)/python tests/deploy/chart_schema.py > deploy/helm/alipayplus-gateway/values.schema.json

bench: $(READY) ## measure the gateway on this machine beside the cost of RSA alone
	@$(BIN)/python tests/bench $(ARGS)

lock: $(READY) ## write the lock files anew from pyproject.toml
	@$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		--no-emit-find-links --quiet --output-file requirements.lock $(ARGS)
	@$(BIN)/uv pip compile pyproject.toml --extra tracing --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		--no-emit-find-links --quiet --constraints requirements.lock --output-file requirements-tracing.lock $(ARGS)
	@$(BIN)/uv pip compile --group pyproject.toml:build --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		--no-emit-find-links --quiet --output-file requirements-build.lock $(ARGS)
	@$(BIN)/uv pip compile --group pyproject.toml:multibuffer --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		--no-emit-find-links --quiet --output-file requirements-multibuffer.lock $(ARGS)
	@$(BIN)/uv pip compile pyproject.toml --extra tracing --group dev --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		--no-emit-find-links --quiet --constraints requirements-tracing.lock --constraints requirements-build.lock --output-file requirements-dev.lock $(ARGS)

clean: ## remove what the other targets made
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
