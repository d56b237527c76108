# Two commands for everybody: `make demo` and `make test`. Each sets up .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# The demo takes a table of yours: make demo DATA=path TARGET=column SENSITIVE=column,
# and POSITIVE=label where the positive label is not the last in order.
DATA ?=
TARGET ?=
SENSITIVE ?=
POSITIVE ?=

.PHONY: demo test lint docs evidence attack unseen comparison benchmark clean

$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[cli]"
	touch $@

$(VENV)/.test: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

demo: $(VENV)/.demo
	@$(BIN)/fairprune demo $(if $(DATA),--data "$(DATA)") $(if $(TARGET),--target "$(TARGET)") $(if $(SENSITIVE),--sensitive "$(SENSITIVE)") $(if $(POSITIVE),--positive "$(POSITIVE)")

test: $(VENV)/.test
	$(BIN)/python -m pytest

# The site, with its examples run, in docs/_build/html: a few minutes.
$(VENV)/.docs: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# With and without the sensitive column, in docs/comparison.md: about twenty minutes on two cores.
evidence: $(VENV)/.test
	$(BIN)/python examples/real_tables.py

# 10,000 cases that no user should pass, or that some do: about six minutes on one core.
attack: $(VENV)/.test
	$(BIN)/python examples/attack.py

# The fits and tables of docs/unseen.md: hours on two cores; goes on where it stopped.
unseen: $(VENV)/.test
	$(BIN)/python examples/unseen_rows.py run
	$(BIN)/python examples/unseen_rows.py page
	$(BIN)/python examples/small_tables.py

# The fits, figures and tables of docs/comparison.md: hours on two cores; goes on where it stopped.
comparison: $(VENV)/.test
	$(BIN)/python examples/comparison.py run all
	$(BIN)/python examples/comparison.py page

# Time of a pruning epoch against a plain loop, and of a prediction against the dense network.
benchmark: $(VENV)/.test
	$(BIN)/python examples/epoch_time.py
	$(BIN)/python examples/inference_time.py

clean:
	rm -rf $(VENV) build dist *.egg-info
