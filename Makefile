# `make quickstart` and `make test` set up .venv and run; they need Python 3.11 or newer, make and a package index.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH := $(shell grep '^torch==' constraints.txt)
ARGS ?=
BIN := .venv/bin
INSTALLED := .venv/.installed

# Nothing here needs a model hub. The models of the tests are too small to gain from threads.
export HF_HUB_OFFLINE = 1
export HF_HUB_DISABLE_TELEMETRY = 1
export DO_NOT_TRACK = 1
export TOKENIZERS_PARALLELISM = false
export PIP_NO_INPUT = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1
TEST_ENVIRONMENT = OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=

.PHONY: help quickstart test test-slow lint clean

help:
	@echo "make quickstart   train a small search agent with TSPO (options: make quickstart ARGS='--help')"
	@echo "make test         run the fast tests"
	@echo "make test-slow    run all tests"
	@echo "make lint         check style and types"
	@echo "make clean        remove .venv"

quickstart: $(INSTALLED)
	$(BIN)/tspo-trl quickstart $(ARGS)

test: $(INSTALLED)
	$(TEST_ENVIRONMENT) $(BIN)/python -m pytest -m "not slow" $(ARGS)

test-slow: $(INSTALLED)
	$(TEST_ENVIRONMENT) $(BIN)/python -m pytest $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv

# torch goes first, alone, so that what follows finds it there and does not choose another build of it.
$(INSTALLED): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "error: Python 3.11 or newer is needed, found '$(PYTHON)'. Install it, or say make PYTHON=/path/to/python." >&2; \
		exit 1; }
	"$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --quiet "$(TORCH)" </dev/null
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]' </dev/null
	@touch $@
