# Each target first looks after .venv: it is built, updated or mended where that is needed. CPU=1: PyTorch's CPU build.
BIN := .venv/bin
PYTHON ?= $(shell test -x $(BIN)/python && echo $(BIN)/python || echo python3)
# What an account's PYTHONPATH holds must not stand before what .venv holds: it may be another rslab.
unexport PYTHONPATH

.PHONY: lab demo test test-course test-oldest bench soundness lint html api clean environment .venv/ready

lab: environment
	$(BIN)/python -m rslab lab

demo: environment
	$(BIN)/python -m rslab demo

# For readers: the unit tests, then every notebook from top to bottom, whatever the unit tests said; fails if either did.
# COMPARE=1: what the notebooks print must be what was saved in them, where a cell is tagged nbval-check-output.
NBVAL := --nbval-lax --nbval-current-env --nbval-cell-timeout=300 $(if $(filter-out 0,$(COMPARE)),,-p tests.reader)
test: environment
	@unit=0; notebooks=0; \
	$(BIN)/python -m pytest || unit=$$?; \
	$(BIN)/python -m pytest $(NBVAL) notebooks || notebooks=$$?; \
	if [ $$unit$$notebooks != 00 ]; then echo "make test: unit tests exit $$unit, notebooks exit $$notebooks"; exit 1; fi

# For authors: notebooks as they are handed out (stubs untouched, outputs in order, solutions complete), pages, house rules.
test-course: environment
	$(BIN)/python -m pytest -m author

# The unit tests but those in a browser, as the oldest processor that PyTorch supports computes them; a text file that
# is opened in the encoding of the locale is an error.
test-oldest: export ATEN_CPU_CAPABILITY = default
test-oldest: export ONEDNN_MAX_CPU_ISA = SSE41
test-oldest: environment
	$(BIN)/python -X warn_default_encoding -m pytest --ignore=tests/browser

# Long experiments on what a certificate promises; about twenty minutes on one core.
soundness: environment
	$(BIN)/python -m pytest -m soundness

# Ratios against the reference algorithms, and what work costs as it grows; four to ten minutes on two cores.
bench: environment
	$(BIN)/python -m rslab bench

lint: environment
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

# The course as web pages, in build/html.
html: environment
	$(BIN)/python -m rslab.lectures.html build/html

# The API reference, from the docstrings, in build/api; docs/python.md has the names of `rslab` itself.
WINGS := errors config smoothing attacks training evaluate report data networks machine store lectures experiments cli
api: environment
	$(BIN)/python -m pdoc --output-directory build/api $(addprefix rslab.,$(WINGS)) !rslab.lectures.notebook_startup

clean:
	rm -rf .venv

environment .venv/ready:
	@command -v "$(PYTHON)" >/dev/null || { \
		echo "There is no $(PYTHON) here; name a Python of this machine: make PYTHON=python3 $(MAKECMDGOALS)"; exit 1; }
	@"$(PYTHON)" rslab/machine/environment.py --quiet $(if $(filter-out 0,$(CPU)),--cpu)
