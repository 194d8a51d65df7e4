# `make quickstart` and `make test` set up .venv and run; they need Python 3.11 or newer, make and a package index.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH := $(shell grep '^torch==' constraints.txt)
ARGS ?=
BIN := .venv/bin
INSTALLED := .venv/.installed
SLOW_INSTALLED := .venv/.installed-slow
VLLM_BIN := .venv-vllm/bin
VLLM_INSTALLED := .venv-vllm/.installed
# It starts and ends an engine of its own, with which the engine that other tests share in a process would end.
VLLM_ALONE := tests/vllm_engine/test_evaluation.py

# Nothing here needs a model hub. The models of the tests are too small to gain from threads.
export HF_HUB_OFFLINE = 1
export HF_HUB_DISABLE_TELEMETRY = 1
export DO_NOT_TRACK = 1
export TOKENIZERS_PARALLELISM = false
export PIP_NO_INPUT = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1
TEST_ENVIRONMENT = OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=

.PHONY: help quickstart test test-slow test-vllm lint docs notebooks dist clean

help:
	@echo "make quickstart   train a small search agent with TSPO (options: make quickstart ARGS='--help')"
	@echo "make test         run the fast tests"
	@echo "make test-slow    run all tests"
	@echo "make test-vllm    run the tests with a real vLLM engine, in .venv-vllm (Linux x86-64, Python 3.11)"
	@echo "make lint         check style and types"
	@echo "make docs         build the documentation into site/"
	@echo "make notebooks    execute the notebooks (ARGS=--in-place stores their outputs)"
	@echo "make dist         build the wheel and the source distribution into dist/"
	@echo "make clean        remove .venv and .venv-vllm"

quickstart: $(INSTALLED)
	$(BIN)/tspo-trl quickstart $(ARGS)

test: $(INSTALLED)
	$(TEST_ENVIRONMENT) $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile $(ARGS)

test-slow: $(SLOW_INSTALLED)
	$(TEST_ENVIRONMENT) $(BIN)/python -m pytest $(ARGS)

test-vllm: $(VLLM_INSTALLED)
	$(TEST_ENVIRONMENT) $(VLLM_BIN)/python -m pytest tests/vllm_engine --ignore $(VLLM_ALONE) $(ARGS)
	$(TEST_ENVIRONMENT) $(VLLM_BIN)/python -m pytest $(VLLM_ALONE) $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

notebooks: $(INSTALLED)
	$(TEST_ENVIRONMENT) $(BIN)/python notebooks/execute.py $(ARGS)

dist: $(INSTALLED)
	rm -rf dist
	$(BIN)/python -m build $(ARGS)
	$(BIN)/python -m twine check --strict dist/*

clean:
	rm -rf .venv .venv-vllm

# torch goes first, alone, so that what follows finds it there and does not choose another build of it.
$(INSTALLED): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "error: Python 3.11 or newer is needed, found '$(PYTHON)'. Install it, or say make PYTHON=/path/to/python." >&2; \
		exit 1; }
	"$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --quiet "$(TORCH)" </dev/null
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]' </dev/null
	@touch $@

# DeepSpeed is built without its CUDA operators.
$(SLOW_INSTALLED): $(INSTALLED)
	$(BIN)/python -m pip install --quiet -c constraints.txt bitsandbytes wheel setuptools ninja </dev/null
	DS_BUILD_OPS=0 DS_ACCELERATOR=cpu $(BIN)/python -m pip install --quiet --no-build-isolation -c constraints.txt deepspeed </dev/null
	@touch $@

# torch's CPU build is not on PyPI: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make test-vllm
$(VLLM_INSTALLED): pyproject.toml constraints-vllm.txt tests/vllm_engine/cpu/pyproject.toml
	"$(PYTHON)" -m venv .venv-vllm
	$(VLLM_BIN)/python -m pip install --quiet --no-deps -r constraints-vllm.txt </dev/null
	$(VLLM_BIN)/python -m pip install --quiet --no-deps -e . -e tests/vllm_engine/cpu </dev/null
	@touch $@
