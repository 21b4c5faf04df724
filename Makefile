# anonsynth from a fresh clone. `make demo` and `make test` set up what they need in .venv; nothing else is touched.
#
#   make demo     the whole way on simulated patients: scans in, a substitute cohort and its audit out
#   make test     the tests, without the slow ones (make test SLOW=1 runs those instead)
#   make lint     types, ruff, formatting and the length of modules
#   make bench    what is measured and where; each benchmark is a script of its own
#
# Without a GPU, TORCH_INDEX=https://download.pytorch.org/whl/cpu makes the download of PyTorch ten times smaller.

SHELL       := /bin/bash
VENV        ?= .venv
DEMO_OUT    ?= demo-out
TORCH_INDEX ?=
WORKERS     ?= 2

BIN     := $(VENV)/bin
PIP     := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
SOURCES := anonsynth audits cli policies tests benchmarks tools
MARK    := $(if $(SLOW),slow,not slow)

.PHONY: help demo test lint format bench setup clean
.DEFAULT_GOAL := help

help:
	@sed -n '2,/^$$/s/^# \{0,1\}//p' Makefile

demo: $(VENV)/runtime.stamp
	$(BIN)/anonsynth demo --out $(DEMO_OUT)

# Two processes, each with one thread: quicker than one process with two, because most tests are not arithmetic.
test: $(VENV)/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -m "$(MARK)" -n $(WORKERS) --dist loadfile

lint: $(VENV)/dev.stamp
	$(BIN)/python tools/link_farm.py
	$(BIN)/mypy
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/python tools/module_length.py

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: $(VENV)/dev.stamp
	@$(BIN)/python tools/list_benchmarks.py $(BIN)/python

setup: $(VENV)/dev.stamp

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The environment is made once; a stamp that is newer than pyproject.toml says that it is complete.
$(VENV)/runtime.stamp: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/runtime.stamp

$(VENV)/bin/python:
	@python=$$(tools/find_python.sh) && "$$python" -m venv $(VENV)
