# make demo    the device package alone, on the bundled samples, with the bundled model
# make test    everything: lint, types, all tests (what CI runs)
# make check   the same without the slow tests
PYTHON ?= python3
VENV := .venv
DEMO_VENV := .venv-demo
BIN := $(VENV)/bin
CHECK_PYTHON := 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and "Python 3.11 to 3.13 is needed: make PYTHON=python3.12")'

.PHONY: demo test check lint clean

demo: $(DEMO_VENV)/ready
	rm -rf .demo && mkdir -p .demo/captures && cp models/samples/*.png .demo/captures/
	$(DEMO_VENV)/bin/cellseg-device watch .demo/captures --once --overlay --out .demo/results
	@echo && cut -d, -f1-5 .demo/results/counts.csv
	@echo && echo "Look at .demo/results: *.overlay.jpg, *.labels.tif, *.cells.csv, counts.csv"

# Two at a time, but for the tests of whole commands, where it matters when a thing happens; of those, not in these
UNTIMED := tests/system/test_write_path.py tests/system/test_packaging.py

test: lint
	$(BIN)/python -m pytest -n 2 $(UNTIMED) tests/device tests/host
	$(BIN)/python -m pytest tests/system $(UNTIMED:%=--ignore=%)

check: lint
	$(BIN)/python -m pytest -n 2 -m "not slow" $(UNTIMED) tests/device tests/host
	$(BIN)/python -m pytest -m "not slow" tests/system $(UNTIMED:%=--ignore=%)

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/ready: setup.cfg device/setup.cfg pyproject.toml
	$(PYTHON) -c $(CHECK_PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ./device --editable '.[test]'
	touch $@

# What the demo installs is what a Raspberry Pi gets: no TensorFlow
$(DEMO_VENV)/ready: device/setup.cfg device/cellseg_device/*.py device/cellseg_device/*/*.py models/nuclei.tflite
	$(PYTHON) -c $(CHECK_PYTHON)
	$(PYTHON) -m venv $(DEMO_VENV)
	rm -rf device/build  # else modules that are gone would be installed again
	$(DEMO_VENV)/bin/python -m pip install --quiet --upgrade --force-reinstall ./device
	touch $@

clean:
	rm -rf $(VENV) $(DEMO_VENV) .demo build device/build *.egg-info device/*.egg-info host/*.egg-info
