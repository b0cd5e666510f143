# Two commands do the work: `make demo` and `make test`. Both make the environment .venv first.

VENV := .venv
INSTALLED := $(VENV)/.installed
# What only some targets need: pdoc, and an environment of the lowest versions.
DOCUMENTED := $(VENV)/.documented
OLDEST := .venv-oldest
OLDEST_INSTALLED := $(OLDEST)/.installed

.PHONY: help demo test test-all test-oldest docs lint clean

help:  ## Say what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) \
	    | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

demo: $(INSTALLED)  ## Transcribe the examples, score them, then train a small model for a minute
	@$(VENV)/bin/python -m experiments.demo

test: lint  ## Check the style and run all tests
	@$(VENV)/bin/python -m pytest -n logical --maxprocesses 4

test-all: test docs  ## Also build the docs, run claims and benchmarks small, test the lowest versions
	@$(VENV)/bin/python -m experiments.readme_tables --check
	@$(VENV)/bin/python -m experiments.claims --scale=smoke
	@$(VENV)/bin/python -m experiments.benchmark --scale=smoke --again --output=build/benchmark
	@$(MAKE) test-oldest

test-oldest: $(OLDEST_INSTALLED)  ## Run all tests with the lowest versions that setup.cfg allows
	@$(OLDEST)/bin/python -m pytest -n logical --maxprocesses 4

docs: $(DOCUMENTED)  ## Build the reference of the Python interface into build/docs
	@$(VENV)/bin/python docs/api.py build/docs

lint: $(INSTALLED)  ## Check the style only
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

clean:  ## Remove the environment and everything built
	rm -rf $(VENV) $(OLDEST) build dist *.egg-info demo_output .pytest_cache .ruff_cache .hypothesis

# A name on PATH is no proof (version managers put shims there), so each candidate is tried.
# uv installs in seconds what takes pip a minute; pip does it where uv cannot be had.
$(INSTALLED): setup.cfg pyproject.toml
	@set -e; \
	usable() { "$$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' \
	    >/dev/null 2>&1; }; \
	if [ -e $(VENV)/bin/python ]; then \
	    usable $(VENV)/bin/python || { \
	        echo "error: $(VENV) holds a Python older than 3.12; run 'make clean' first" >&2; \
	        exit 1; }; \
	else \
	    found=; \
	    for name in python3.12 python3.13 python3 python; do \
	        if usable $$name; then found=$$name; break; fi; \
	    done; \
	    if [ -z "$$found" ]; then \
	        echo "error: no Python 3.12 or newer with the venv module was found on PATH" >&2; \
	        exit 1; \
	    fi; \
	    echo "making $(VENV) with $$found"; \
	    $$found -m venv $(VENV); \
	fi; \
	python=$(VENV)/bin/python; \
	uv=$$(command -v uv || true); \
	if [ -z "$$uv" ] && $$python -m pip install --quiet uv; then uv=$(VENV)/bin/uv; fi; \
	echo "installing deepaudio and what it needs into $(VENV)"; \
	{ [ -n "$$uv" ] && $$uv pip install --quiet --python $$python -e '.[test,scores,serve]'; } \
	    || $$python -m pip install --quiet -e '.[test,scores,serve]'; \
	touch $@

$(DOCUMENTED): $(INSTALLED)
	@python=$(VENV)/bin/python; \
	uv=$$(command -v uv || echo $(VENV)/bin/uv); \
	{ $$uv pip install --quiet --python $$python -e '.[docs]' 2>/dev/null \
	    || $$python -m pip install --quiet -e '.[docs]'; } && touch $@

# Only uv finds the lowest versions. Of what the dependencies themselves need it takes the newest.
$(OLDEST_INSTALLED): setup.cfg pyproject.toml | $(INSTALLED)
	@set -e; \
	uv=$$(command -v uv || echo $(VENV)/bin/uv); \
	$$uv --version >/dev/null 2>&1 || $(VENV)/bin/python -m pip install --quiet uv || { \
	    echo "error: uv, which finds the lowest versions, could not be installed" >&2; \
	    exit 1; }; \
	echo "making $(OLDEST) with the lowest versions that setup.cfg allows"; \
	$(VENV)/bin/python -m venv --clear $(OLDEST); \
	$$uv pip install --quiet --python $(OLDEST)/bin/python --resolution lowest-direct \
	    -e '.[test,scores,serve]'; \
	touch $@
