# make bench   set up, measure on this machine (about 3 minutes), write and name the report
# make test    set up, run every test
# make check   formatting, lint, types, import directions

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: bench test check clean

bench: $(READY)
	$(BIN)/lstm-bench run quick || test $$? -eq 1
	$(BIN)/lstm-bench report --to report

test: $(READY)
	$(BIN)/pytest

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lstm-bench needs Python 3.11 or newer; name one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[cuda,peers,dev]'
	$(BIN)/pip install --quiet --no-deps apache-otava==0.8.0 # asks for NumPy 2.2.0 exactly and does not need it
	touch $(READY)

clean:
	rm -rf $(VENV) .asv .pytest_cache .ruff_cache report
