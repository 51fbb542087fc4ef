# What people type. Continuous integration runs the same: see .ci/run.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := run

CARGO ?= cargo
WASM := wasm32-unknown-unknown
# Where Debian keeps programs that it does not put into the search path.
POSTGRES := $(shell command -v postgres || ls /usr/lib/postgresql/*/bin/postgres 2>/dev/null | tail -n 1)
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

# Of the torture bench: how long, which seed (none: another each time), and further flags.
MINUTES ?= 10
SEED ?=
TORTURE ?=
SEEDED = $(if $(SEED),--seed $(SEED))

.PHONY: run test test-clients check bench torture torture-planted install-tools install-clients install-nginx install-wasm-target

run: install-wasm-target ## Serve on 127.0.0.1:3000 with data in ./data
	$(CARGO) run --release -p switchyard -- serve $(ARGS)

test: install-tools ## All tests, on the embedded stores and on real servers
	$(CARGO) build -p switchyard
	$(CARGO) test --workspace
	$(CARGO) run -p switchyard-torture -- --minutes 3 --seed $(or $(SEED),7)
	$(CARGO) run -p switchyard-torture -- --trials kills=100 --seed $(or $(SEED),7)
	$(CARGO) run -p switchyard-torture -- --trials events=100000 --seed $(or $(SEED),7)
	$(CARGO) run -p switchyard-torture -- --trials streams=1500 --seed $(or $(SEED),7)

CLIENTS = $${CARGO_TARGET_DIR:-target}/clients
test-clients: install-wasm-target install-clients ## The relay with Claude Code and both SDKs, against the demo upstream
	$(CARGO) build -p switchyard
	tests/clients/run "$${CARGO_TARGET_DIR:-target}/debug/switchyard" "$(CLIENTS)"

torture: install-tools ## Faults of every kind against real processes: MINUTES=10 SEED=42 TORTURE="--hosts 3"
	$(CARGO) build -p switchyard
	$(CARGO) run -p switchyard-torture -- --minutes $(MINUTES) $(SEEDED) $(TORTURE)

torture-planted: install-tools ## The bench must find ten faults that are planted, and nothing in the clean program
	$(CARGO) build -p switchyard --features planted
	cp "$${CARGO_TARGET_DIR:-target}/debug/switchyard" "$${CARGO_TARGET_DIR:-target}/debug/switchyard-planted"
	$(CARGO) run -p switchyard-torture -- --mutation all $(SEEDED) \
	    --program "$${CARGO_TARGET_DIR:-target}/debug/switchyard-planted"

check: install-wasm-target ## Format, lints and documentation; warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc --workspace --no-deps --document-private-items

bench: install-tools install-nginx ## Component, native twin and raw driver side by side
	$(CARGO) run --release -p switchyard-bench

install-wasm-target: # The built-in strategies are compiled for it
	@test -d "$$(rustc --print target-libdir --target $(WASM))" || rustup target add $(WASM)

install-tools: install-wasm-target ## The servers that the tests start, unless they are there
	@missing=; \
	command -v redis-server >/dev/null || missing="$$missing redis-server"; \
	test -n "$(POSTGRES)" || missing="$$missing postgresql"; \
	command -v cc >/dev/null || missing="$$missing gcc libc6-dev"; \
	if test -z "$$missing"; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then echo "the tests need, and you may install:$$missing" >&2; exit 1; fi; \
	$(SUDO) apt-get update -qq; \
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $$missing

install-clients: # Fetched once for each change of what is asked for
	@missing=; \
	for tool in curl node npm; do command -v $$tool >/dev/null || missing="$$missing $${tool/node/nodejs}"; done; \
	python3 -m pip --version >/dev/null 2>&1 || missing="$$missing python3-pip"; \
	if test -n "$$missing"; then \
	    if ! command -v apt-get >/dev/null; then echo "the clients need, and you may install:$$missing" >&2; exit 1; fi; \
	    $(SUDO) apt-get update -qq; \
	    $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $$missing; \
	fi
	@mkdir -p "$(CLIENTS)"; cd "$(CLIENTS)"; wanted="$$(cat $(CURDIR)/tests/clients/{package.json,requirements.txt} | sha256sum)"; \
	if test "$$(cat fetched 2>/dev/null)" = "$$wanted"; then exit 0; fi; \
	cp $(CURDIR)/tests/clients/package.json .; \
	npm install --no-audit --no-fund --ignore-scripts --force --loglevel=error; \
	python3 -m pip install --quiet --upgrade --root-user-action=ignore --disable-pip-version-check --no-warn-conflicts \
	    --target python -r $(CURDIR)/tests/clients/requirements.txt; \
	echo "$$wanted" > fetched

install-nginx: # What the relay is measured against
	@if command -v nginx >/dev/null; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then echo "the benchmarks need, and you may install: nginx" >&2; exit 1; fi; \
	$(SUDO) apt-get update -qq; \
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends nginx-light
