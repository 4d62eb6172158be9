# Two commands on a fresh machine: `make demo` and `make test`. Both set everything up in .venv first.
PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.ready

.PHONY: demo test lint bench clean

demo: $(SETUP)
	$(BIN)/orchestrion demo

test: $(SETUP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The peers live in environments of their own: benchmarks/peers/README.md
bench: $(SETUP)
	$(BIN)/python -m benchmarks.peers.setup
	$(BIN)/python -m benchmarks.heart all
	$(BIN)/python -m benchmarks.ledger all

$(SETUP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv 2>/dev/null || { echo "Python's venv module is missing: on Debian, apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $(SETUP)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .import_linter_cache .hypothesis
