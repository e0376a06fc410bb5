# make bench   set up what running needs, measure on this machine (about 3 minutes), write and name the report
# make test    set up that and the tools of development, run every test
# make check   formatting, lint, types, import directions
# make docs    the documentation as a site in build/docs; any warning is an error
#
# make bench PYTHON=python3.12                  another interpreter
# make bench TORCH_CPU_INDEX=https://mirror/cpu a mirror of PyTorch's index of CPU builds

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEV_READY := $(VENV)/.ready-dev

export TORCH_CPU_INDEX

.PHONY: bench test check docs clean

bench: $(READY)
	$(BIN)/lstm-bench run quick || test $$? -eq 1
	$(BIN)/lstm-bench report --to report

test: $(DEV_READY)
	$(BIN)/pytest

check: $(DEV_READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python --pythonplatform Linux
	$(BIN)/pyright --pythonpath $(BIN)/python --pythonplatform Darwin
	$(BIN)/pyright --pythonpath $(BIN)/python --pythonplatform Windows
	$(BIN)/lint-imports
	$(BIN)/python -m tests.layout

docs: $(DEV_READY)
	$(BIN)/sphinx-build --fail-on-warning --keep-going --fresh-env --quiet -d build/doctrees docs build/docs

$(READY): pyproject.toml constraints.txt install.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lstm-bench needs Python 3.11 or newer; name one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python install.py $(BIN)/pip
	touch $(READY)

$(DEV_READY): $(READY)
	$(BIN)/python install.py $(BIN)/pip dev
	touch $(DEV_READY)

clean:
	rm -rf $(VENV) .asv .pytest_cache .ruff_cache report build/docs build/doctrees
