# Each target sets up .venv by itself when it is missing or older than pyproject.toml.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: lab demo test test-oldest bench soundness lint html api clean

lab: $(READY)
	$(BIN)/rslab lab

demo: $(READY)
	$(BIN)/rslab demo

# The unit tests, then every notebook from top to bottom, whatever the unit tests said; fails if either did.
test: $(READY)
	@unit=0; notebooks=0; \
	$(BIN)/python -m pytest || unit=$$?; \
	$(BIN)/python -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=300 notebooks || notebooks=$$?; \
	if [ $$unit$$notebooks != 00 ]; then echo "make test: unit tests exit $$unit, notebooks exit $$notebooks"; exit 1; fi

# The unit tests but those in a browser, as the oldest processor that PyTorch supports computes them.
test-oldest: export ATEN_CPU_CAPABILITY = default
test-oldest: export ONEDNN_MAX_CPU_ISA = SSE41
test-oldest: $(READY)
	$(BIN)/python -m pytest --ignore=tests/browser

# Long experiments on what a certificate promises; about twenty minutes on one core.
soundness: $(READY)
	$(BIN)/python -m pytest -m soundness

# Ratios against the reference algorithms, and what work costs as it grows; four to ten minutes on two cores.
bench: $(READY)
	$(BIN)/rslab bench

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The course as web pages, in build/html.
html: $(READY)
	$(BIN)/python -m rslab.lectures.html build/html

# The API reference, from the docstrings, in build/api; docs/python.md has the names of `rslab` itself.
WINGS := errors config smoothing attacks training evaluate report data networks machine store lectures experiments cli
api: $(READY)
	$(BIN)/pdoc --output-directory build/api $(addprefix rslab.,$(WINGS)) !rslab.lectures.notebook_startup

clean:
	rm -rf .venv

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "rslab needs Python 3.11 to 3.13; $(PYTHON) is `$(PYTHON) --version`. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -e '.[test]'
	touch $@
