# Two commands for a fresh machine: `make quickstart` and `make test`. Both install into .venv first what they need.
PYTHON ?= python3
VENV ?= .venv
LIBRARY := $(VENV)/.installed
EXTRAS := $(VENV)/.installed-extras
INSTALL := $(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
STARTED := $(shell date +%s)

.PHONY: quickstart test lint benchmark clean

$(LIBRARY): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) .
	touch $@

$(EXTRAS): $(LIBRARY)
	$(INSTALL) ".[test,dev]"
	touch $@

quickstart: $(LIBRARY)
	$(VENV)/bin/python tools/quickstart.py --started $(STARTED)

test: $(EXTRAS)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n 2 --dist loadfile

lint: $(EXTRAS)
	$(VENV)/bin/ruff check openvocab configs tools tests
	$(VENV)/bin/ruff format --check openvocab configs tools tests

benchmark: $(EXTRAS)
	$(VENV)/bin/python tools/benchmark.py --out work_dirs/benchmark.json

clean:
	rm -rf $(VENV) work_dirs data/shapes
