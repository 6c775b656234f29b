# `make demo` and `make test` work on a fresh machine with nothing but Python 3.11 or newer.
# Every path is relative, so that a folder with spaces in its name works too.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo test lint types unit docs bench mutants coverage release-check prove clean

demo: $(READY)
	$(BIN)/python -m framepipe.cli demo --realtime

test: lint types unit

lint: $(READY)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -c "from importlinter.cli import lint_imports_command as run; run()"

types: $(READY)
	$(BIN)/python -m mypy framepipe processors/framepipe_processors tests examples benchmarks scripts
	$(BIN)/python -m pyright

# A process a core: what takes six minutes in one takes less than four in two.
unit: $(READY)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

docs: $(READY)
	$(BIN)/python scripts/make_docs.py

bench: $(READY)
	$(BIN)/python -m benchmarks

mutants: $(READY)
	$(BIN)/python scripts/mutants.py

coverage: $(READY)
	$(BIN)/python -m coverage run -m pytest -q
	$(BIN)/python scripts/coverage_report.py

release-check: $(READY)
	$(BIN)/python scripts/check_release.py

prove: $(READY)
	$(BIN)/python scripts/prove.py

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "framepipe needs Python 3.11 or newer; say make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $(READY)
