# `make demo` and `make test` set themselves up. VENV=path shares an environment (6 GB).
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# What checks and tests need beside the application; the image leaves it out (TOOLS=).
TOOLS ?= --group dev
# The environment is made again when what it was made from, or for whom, has changed.
STATE := $(CURDIR) $(TOOLS) $(shell cat Makefile pyproject.toml constraints.txt | cksum)

.PHONY: demo test check env

demo: env ## run the embedded experiment and show the answer
	$(BIN)/python -m flows run configs/experiments/glyphs.yaml

# Two at a time: most of what is slow waits, or uses one core. A file's tests share what
# they make, so they stay together.
test: check ## lint, types and tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

env:
	@test "$$(cat $(VENV)/.made-for 2>/dev/null)" = "$(STATE)" || { \
	  set -e; \
	  test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
	  $(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"; \
	  $(BIN)/python -m pip install --quiet --constraint constraints.txt \
	    $(TOOLS) --editable ".[clip,dask,harness,language,pipeline]"; \
	  echo "$(STATE)" > $(VENV)/.made-for; \
	}
