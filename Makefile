# Two commands for a fresh machine: `make quickstart` and `make test`. Both install into .venv first what they need.
PYTHON ?= python3
OLDEST_PYTHON ?= python3.10
VENV ?= .venv
LIBRARY := $(VENV)/.installed
EXTRAS := $(VENV)/.installed-extras
DOCS := $(VENV)/.installed-docs
INSTALL := $(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
WHEEL := build/wheel
OLDEST := build/oldest
STARTED := $(shell date +%s)

.PHONY: quickstart extras test lint docs wheel oldest oldest-installed benchmark clean

$(LIBRARY): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) .
	touch $@

$(EXTRAS): $(LIBRARY)
	$(INSTALL) ".[test,dev]"
	touch $@

$(DOCS): $(LIBRARY)
	$(INSTALL) ".[docs]"
	touch $@

quickstart: $(LIBRARY)
	$(VENV)/bin/python tools/quickstart.py --started $(STARTED)

extras: $(EXTRAS)

# Files in the order of their names: sorted by number of tests, long files of a single test would be left to the end.
test: $(EXTRAS)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

lint: $(EXTRAS)
	$(VENV)/bin/ruff check openvocab configs tools tests
	$(VENV)/bin/ruff format --check openvocab configs tools tests
	$(VENV)/bin/mypy

# The wheel, installed into a fresh environment, predicts outside of the checkout.
wheel:
	rm -rf $(WHEEL) build/lib build/bdist*  # an old build/lib would put its files into the wheel
	$(PYTHON) -m venv $(WHEEL)/venv
	$(WHEEL)/venv/bin/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(WHEEL) .
	$(WHEEL)/venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt $(WHEEL)/*.whl
	cd $(WHEEL) && venv/bin/python ../../tests/wheel_check.py

# The same with the oldest versions that setup.cfg admits, and Python 3.10; then the contract tests and some short runs.
oldest: oldest-installed
	cd $(OLDEST) && venv/bin/python ../../tests/wheel_check.py
	cd $(OLDEST) && OMP_NUM_THREADS=1 venv/bin/python -m pytest -q ../../tests/test_first_use.py \
		../../tests/heads/test_head_contract.py ../../tests/engine/test_runner.py

oldest-installed:
	rm -rf $(OLDEST) build/lib build/bdist*
	$(OLDEST_PYTHON) -m venv $(OLDEST)/venv
	$(OLDEST)/venv/bin/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(OLDEST) .
	$(OLDEST)/venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints-oldest.txt \
		$(OLDEST)/*.whl pytest

benchmark: $(EXTRAS)
	$(VENV)/bin/python tools/benchmark.py --out work_dirs/benchmark.json

clean:
	rm -rf $(VENV) build work_dirs data/shapes
