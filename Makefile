# AdvKGE: `make help` lists what there is.
PYTHON ?= python3
# How many processes share the tests
JOBS ?= 2
# A pip requirement for torch, if the choice made below is not yours: make demo TORCH=torch==2.12.0
TORCH ?=

TORCH_VERSION := 2.13.0
CPU_INDEX := https://download.pytorch.org/whl/cpu
BIN := .venv/bin
INSTALLED := .venv/installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test

help: ## Say what each target does
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## Make .venv, or bring it up to date with pyproject.toml

# One thread: the tensors are small, and on a busy machine threads that wait for each other took ten times as long.
demo: $(INSTALLED) ## Train KBGAN on the built-in graph: half a minute, ends with a table
	OMP_NUM_THREADS=1 $(BIN)/python launch/train.py experiment=demo

test: $(INSTALLED) ## Every check that CI runs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist worksteal

# Torch comes first and alone: left to the dependencies, a machine without a GPU would get gigabytes of CUDA libraries.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or later is needed, $(PYTHON) is not one; name one: make PYTHON=python3.11" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@if [ -n "$(TORCH)" ]; then \
		$(BIN)/pip install "$(TORCH)"; \
	elif command -v nvidia-smi >/dev/null; then \
		$(BIN)/pip install torch==$(TORCH_VERSION); \
	else \
		echo "no nvidia-smi here: installing the CPU build of torch"; \
		$(BIN)/pip install --retries 0 --timeout 15 --extra-index-url $(CPU_INDEX) torch==$(TORCH_VERSION)+cpu || \
			{ echo "$(CPU_INDEX) can't be used: installing torch==$(TORCH_VERSION) as pip finds it"; \
			  $(BIN)/pip install torch==$(TORCH_VERSION); }; \
	fi
	$(BIN)/pip install --editable '.[dev]'
	@touch $@
