# The demo and the development of sollol.
#
# A fresh machine needs make, Python 3.11-3.13 with venv, and a package registry. Everything that is
# made here lies in this folder: .venv (coordinator), .venv-worker (a worker), .cache, dist.

.PHONY: help demo test test-jobs test-training test-parts check lint soak bench lock docs screenshots wheel wheel-demo clean
.DEFAULT_GOAL := help

BIN := .venv/bin
SETTINGS := pyproject.toml remote/worker.in remote/worker.lock

FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,\
	$(shell $(name) -c '$(FITS)' 2>/dev/null && echo $(name))))

# Whole files go to one process, so that what a file sets up once is set up once.
# Most of the slow ones wait for hosts, so more of them than there are cores run at once.
PARALLEL ?= -n 3 --dist loadfile --no-loadscope-reorder

# Containers often set this. The tests start thousands of Pythons, and each of them would compile
# everything that it imports: 1.3 s for `sollol status`, which takes 0.2 s compiled.
unexport PYTHONDONTWRITEBYTECODE

export PIP_CACHE_DIR ?= $(CURDIR)/.cache/pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export UV_CACHE_DIR ?= $(CURDIR)/.cache/uv

# uv does not look into the folder of wheels that pip was told of. Where it holds a CPU build of
# torch, that build is taken, and nothing of several gigabytes is downloaded.
ifdef PIP_FIND_LINKS
comma := ,
empty :=
export UV_FIND_LINKS ?= $(subst $(empty) $(empty),$(comma),$(strip $(PIP_FIND_LINKS)))
endif

# Tests train on CPUs: the CUDA build, the default on Linux, must never come.
LOCAL_TORCH := $(foreach folder,$(subst $(comma), ,$(UV_FIND_LINKS)),$(wildcard $(folder)/torch-*cpu*.whl))
TORCH_SOURCE := $(if $(LOCAL_TORCH),,--torch-backend=cpu)
ifeq ($(shell uname -sm),Linux x86_64)
TORCH := $(shell sed -n 's/^torch==.*/&+cpu/p' remote/worker.lock)
endif

help:
	@echo "make demo     train an adapter on two workers on this machine"
	@echo "make test     all tests; those that need root and OpenSSH are skipped without them"
	@echo "make check    what CI runs: ruff, mypy, import-linter, tests"
	@echo "make soak     the long, counted tests        make bench       benchmarks"
	@echo "make wheel    dist/*.whl                     make wheel-demo  the demo from that wheel"
	@echo "make lock     pin the workers' packages anew make docs        write the page of commands"
	@echo "make screenshots  draw the pictures of the documentation anew"
	@echo "make clean    remove what make made"

demo: .venv/installed
	@$(BIN)/sollol demo

# The quick ones first, which keep every core busy. Then two at once: those of jobs and hosts wait
# most of their time, those of training for nobody. Whatever fails, the rest is run too.
test: .venv/developer .venv-worker/installed
	@failed=0; \
	$(MAKE) --no-print-directory test-parts || failed=1; \
	$(MAKE) --no-print-directory -k -j2 test-jobs test-training || failed=1; \
	exit $$failed

test-parts: .venv/developer
	@echo "tests of every other part"
	@$(BIN)/python -m pytest $(PARALLEL) -n 4 -m "not long" $(addprefix --ignore=tests/,cluster jobs remote/torch bench soak)

test-jobs: .venv/developer .venv-worker/installed
	@echo "tests of jobs and of hosts"
	@$(BIN)/python -m pytest $(PARALLEL) -m "not long" tests/cluster tests/jobs

# Shown as a whole at its end: two reports line by line among each other can be read by nobody.
test-training: .venv/developer .venv-worker/installed
	@mkdir -p .cache
	@.venv-worker/bin/python -m pytest -m "not long" tests/remote/torch >.cache/test-training.log 2>&1 || failed=1; \
	echo; echo "tests of training, in a worker's environment"; cat .cache/test-training.log; exit $$failed

check: lint test

lint: .venv/developer
	@echo "ruff, mypy, import-linter"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports

soak: .venv/developer .venv-worker/installed
	@$(BIN)/python -m pytest -s tests/soak
	@$(BIN)/python -m pytest -m long tests/cluster tests/jobs
	@SOLLOL_STATE_EXAMPLES=2000 $(BIN)/python -m pytest tests/jobs/test_state_machine.py
	@.venv-worker/bin/python -m pytest -s tests/soak
	@.venv-worker/bin/python -m pytest -m long tests/remote/torch

bench: .venv/developer .venv-worker/installed
	@$(BIN)/python -m pytest -s tests/bench
	@.venv-worker/bin/python -m pytest -s tests/bench/test_training.py

lock: .venv/installed
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/lock.py

docs: .venv/installed
	@$(BIN)/python tools/commands.py

screenshots: .venv/installed
	@$(BIN)/python -m tools.screenshots

wheel: .venv/installed
	@rm -rf dist
	@$(BIN)/uv build --quiet --wheel --out-dir dist
	@ls dist/*.whl

wheel-demo: wheel
	@tests/wheel_demo.sh dist/*.whl

# Kept: ./work with what was trained, and the state folder with its jobs.
clean:
	rm -rf .venv .venv-worker .cache dist .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache *.egg-info
	find remote sollol_tui tests tools -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/uv:
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 found: install one, or name it: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: apt install python3-venv"; exit 1; }
	@echo "making .venv with $(PYTHON)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet uv

.venv/installed: pyproject.toml | .venv/bin/uv
	@echo "installing sollol into .venv"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --editable .
	@touch $@

.venv/developer: pyproject.toml | .venv/installed
	@echo "installing the tools of development into .venv"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --group dev
	@touch $@

.venv-worker/installed: $(SETTINGS) | .venv/installed
	@echo "installing a worker's packages into .venv-worker"
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-worker
	@$(BIN)/uv pip install --quiet --python .venv-worker/bin/python $(TORCH_SOURCE) $(TORCH) \
		--requirement remote/worker.in --constraint remote/worker.lock \
		"pytest>=8.4,<9" pytest-asyncio pytest-timeout hypothesis "trl==1.16.*"
	@touch $@
