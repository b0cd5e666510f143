# Two commands do the work: `make demo` and `make test`. Both make the environment .venv first.

VENV := .venv
INSTALLED := $(VENV)/.installed

.PHONY: help demo test lint clean

help:  ## Say what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/'

demo: $(INSTALLED)  ## Transcribe the examples, score them, then train a small model for a minute
	@$(VENV)/bin/python -m experiments.demo

test: lint  ## Check the style and run all tests
	@$(VENV)/bin/python -m pytest -n logical --maxprocesses 4

lint: $(INSTALLED)  ## Check the style only
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

clean:  ## Remove the environment and everything built
	rm -rf $(VENV) build dist *.egg-info demo_output .pytest_cache .ruff_cache .hypothesis

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
