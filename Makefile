# Two commands for a fresh machine: `make quickstart` and `make test`. Both install into .venv first.
PYTHON ?= python3
VENV ?= .venv
INSTALLED := $(VENV)/.installed
STARTED := $(shell date +%s)

.PHONY: quickstart test lint benchmark clean

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test,dev]"
	touch $@

quickstart: $(INSTALLED)
	$(VENV)/bin/python tools/quickstart.py --started $(STARTED)

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n 2 --dist loadfile

lint: $(INSTALLED)
	$(VENV)/bin/ruff check openvocab configs tools tests
	$(VENV)/bin/ruff format --check openvocab configs tools tests

benchmark: $(INSTALLED)
	$(VENV)/bin/python tools/benchmark.py --out work_dirs/benchmark.json

clean:
	rm -rf $(VENV) work_dirs data/shapes
