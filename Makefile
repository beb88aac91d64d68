# What people do with a clone of this repository; `make` alone lists it. Everything is installed into $(VENV).

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory

# The first Python that is new enough and works: the shims of a version manager may stand in the path and fail.
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3 python; do \
	$$name -c $(NEW_ENOUGH) 2>/dev/null && echo $$name && break; done)
NEW_ENOUGH := 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))'
OTHERS := 3.11 3.12 3.13

VENV := .venv
RUN := $(VENV)/bin/python
UNBUILD := rm -rf build/lib build/bdist.*; rmdir build 2>/dev/null || true
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check
# The folders stand here too, for a file that is removed is a change as well.
SOURCES := pyproject.toml README.md py.typed $(wildcard *.py *.pyi) $(shell find nodes graphs engine -name '*.py' -o -type d ! -name __pycache__)

TESTS := tests
PYTEST_ARGS :=
BENCH_ARGS :=
# What the benches compare with: bench, or peers, which takes gigabytes.
BENCH_WITH := bench

.PHONY: help demo test ray slow test-all lint types bench clean

help:  ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 16

demo: $(VENV)/.package  ## run a graph over the standard library, in processes and inline, into out/
	@$(RUN) -m sluiceway.engine.cli.demo out

test: $(VENV)/.dev $(VENV)/.package  ## run the tests that are fast
	$(RUN) -m pytest $(TESTS) -m "not slow and not ray" -q -n 2 --dist loadfile $(PYTEST_ARGS)

ray: $(VENV)/.dev $(VENV)/.package  ## run the tests that need a Ray cluster, on simulated nodes
	$(RUN) -m pytest $(TESTS) -m "ray and not slow" -q $(PYTEST_ARGS)

slow: $(VENV)/.dev $(VENV)/.package  ## run the tests that are slow
	$(RUN) -m pytest $(TESTS) -m slow $(PYTEST_ARGS)

test-all:  ## run the unit tests and the README on the other Pythons that are found here
	@for version in $(OTHERS); do \
		if [ -x $(RUN) ] && $(RUN) -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$$version')"; then \
			echo "Python $$version: that of $(VENV), which 'make test' runs"; continue; \
		fi; \
		python=; \
		for name in python$$version "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$version.*/bin/python; do \
			if "$$name" -c $(NEW_ENOUGH) 2>/dev/null; then python=$$name; break; fi; \
		done; \
		if [ -z "$$python" ]; then echo "Python $$version: none here that works, left out"; continue; fi; \
		$(MAKE) test VENV=.venv-$$version PYTHON="$$python" TESTS="tests/unit tests/e2e/test_readme.py" || exit 1; \
	done

lint: $(VENV)/.dev  ## check the style
	$(RUN) -m ruff check .

types: $(VENV)/.dev $(VENV)/.package  ## check the types of the package as it is installed
	@$(RUN) -m mypy --strict -p sluiceway | sed 's|^.*/site-packages/sluiceway/||'

bench: $(VENV)/.$(BENCH_WITH) $(VENV)/.package  ## run the benches, into out/bench; BENCH_ARGS="--only memory --quick" runs one, quickly
	@$(VENV)/bin/sluiceway bench $(BENCH_ARGS)

clean:  ## remove everything that was made here
	rm -rf .venv .venv-* build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.made:
	@if [ -z "$(PYTHON)" ]; then \
		echo "no Python 3.11 or newer was found; install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; \
	fi
	@echo "making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# What an earlier build left would be packed again, also files that are gone; the links of a strict editable install,
# which are in build/ as well, stay.
$(VENV)/.package: $(VENV)/.made $(SOURCES)
	@echo "installing sluiceway into $(VENV)"
	@$(UNBUILD)
	@$(PIP) .
	@$(UNBUILD)
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.package
	@echo "installing what the tests need into $(VENV)"
	@$(PIP) '.[dev]'
	@touch $@

$(VENV)/.bench: pyproject.toml | $(VENV)/.package
	@echo "installing what the benches compare with into $(VENV); BENCH_WITH=peers adds Ray, Dask and torchdata, some 6 GB"
	@$(PIP) '.[bench]'
	@touch $@

$(VENV)/.peers: pyproject.toml | $(VENV)/.package
	@echo "installing everything that the benches compare with into $(VENV), some 6 GB"
	@$(PIP) '.[peers]'
	@touch $@
