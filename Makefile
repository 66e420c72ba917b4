# make demo    the device package alone, on the bundled samples, with the bundled model
# make test    everything: lint, types, all tests (what CI runs)
# make check   the same without the slow tests
# make docs    the documents as a site, build/site; a broken link fails it
PYTHON ?= python3
VENV := .venv
DEMO_VENV := .venv-demo
BIN := $(VENV)/bin
CHECK_PYTHON := 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and "Python 3.11 to 3.13 is needed: make PYTHON=python3.12")'

.PHONY: demo test check lint scripts docs clean

demo: $(DEMO_VENV)/ready
	rm -rf .demo && mkdir -p .demo/captures && cp models/samples/*.png .demo/captures/
	$(DEMO_VENV)/bin/cellseg-device watch .demo/captures --once --out .demo/results
	@echo && cut -d, -f1-5 .demo/results/counts.csv
	@echo && echo "Look at .demo/results: *.overlay.jpg, *.labels.tif, *.cells.csv, counts.csv"

# Two at a time, but those of one xdist_group, which share what takes long to make, or what a machine has once
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadgroup

# What fails is tried once more, alone: tests of clocks, kills and streams share a busy machine with another one
test: lint
	$(PYTEST) tests || { test $$? = 1 && echo "Trying once more, alone, what failed:" && \
		$(BIN)/python -m pytest --last-failed --last-failed-no-failures=none tests; }

check: lint
	$(PYTEST) -m "not slow" tests

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory scripts; \
		else echo "npm is missing: the types of the page's scripts are not checked"; fi

# The page's scripts as they are, by the types in their comments
TYPESCRIPT := 7.0.2

scripts: build/typescript-$(TYPESCRIPT)
	build/typescript-$(TYPESCRIPT)/node_modules/.bin/tsc --project jsconfig.json

build/typescript-$(TYPESCRIPT):
	npm install --silent --no-audit --no-fund --fetch-retries 5 --prefix $@ typescript@$(TYPESCRIPT) || { rm -rf $@; exit 1; }

# Diagrams are drawn by mermaid.js, out of its npm package; without npm the site's readers fetch it from a CDN
MERMAID := 12.3.0

docs: $(VENV)/ready
	mkdir -p build
	test -e build/mermaid.min.js || { cd build && npm pack --silent mermaid@$(MERMAID) \
		&& tar -xzf mermaid-$(MERMAID).tgz --strip-components=2 package/dist/mermaid.min.js; rm -f mermaid-*.tgz; }
	$(BIN)/python -m sphinx --fail-on-warning --quiet -c docs . build/site
	@echo "Look at build/site/index.html"

$(VENV)/ready: setup.cfg device/setup.cfg pyproject.toml
	$(PYTHON) -c $(CHECK_PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ./device --editable '.[docs,test]'
	touch $@

# What the demo installs is what a Raspberry Pi gets: no TensorFlow
$(DEMO_VENV)/ready: device/setup.cfg device/cellseg_device/*.py device/cellseg_device/*/*.py models/*.tflite
	$(PYTHON) -c $(CHECK_PYTHON)
	$(PYTHON) -m venv $(DEMO_VENV)
	rm -rf device/build  # else modules that are gone would be installed again
	$(DEMO_VENV)/bin/python -m pip install --quiet --upgrade --force-reinstall ./device
	touch $@

clean:
	rm -rf $(VENV) $(DEMO_VENV) .demo build device/build *.egg-info device/*.egg-info host/*.egg-info
