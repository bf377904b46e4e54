# `make ablate` and `make test` need only Python 3.11 or newer: both set up the environment if it is missing.
# With PYTHON=python3.13 they use one for that version, .venv-3.13.
ifdef PYTHON
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
$(if $(VERSION),,$(error PYTHON=$(PYTHON): is no Python))
VENV := .venv-$(VERSION)
else
PYTHON := python3
VENV := .venv
endif
BIN := $(VENV)/bin
READY := $(VENV)/ready
AXE := .browser/node_modules/axe-core/axe.min.js

.PHONY: help ablate test browser soak lab notebooks schema lint clean

help:  ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

ablate: $(READY)  ## train the ablation on digits (2 minutes on 2 cores), print its table, write its report
	$(BIN)/python -m analysis.ablate $(ARGS)

test: $(READY) lint  ## lint, type-check and test (except the tests in a browser)
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder --ignore tests/reporting/test_browser.py
	@echo "Not run: tests/reporting/test_browser.py, which tests the report in Chromium (make browser)"

browser: $(READY) $(AXE)  ## test the report in Chromium (needs apt-get install chromium)
	@command -v chromium chromium-browser google-chrome >/dev/null || { echo "Chromium is needed: apt-get install chromium"; exit 1; }
	$(BIN)/pytest tests/reporting/test_browser.py

$(AXE):
	npm install --silent --no-save --prefix .browser axe-core@4.14.1

soak: $(READY)  ## kill a study of 12 runs 200 times, read 10,000 damaged inputs of every kind (an hour)
	$(BIN)/python benchmarks/soak.py kills
	$(BIN)/python benchmarks/soak.py fuzz

lab: $(READY)  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --notebook-dir=notebooks

notebooks: $(READY)  ## run the notebooks from top to bottom and save their outputs
	cd notebooks && ../$(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False *.ipynb

schema: $(READY)  ## write docs/schema: JSON Schemas of study files and of the store's records
	$(BIN)/python docs/schema/write.py

lint: $(READY)  ## check format, lint, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; choose one with make PYTHON=..."; exit 1; }
	@echo "Setting up $(VENV), once: 7 GB, some minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@

clean:  ## remove the virtual environments and the caches of tools
	rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis
