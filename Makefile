# Everything a user or a developer runs. Needs make, pip and Python 3.11 or later; nothing else is installed globally.
#
#   make generate PROMPT="rain on a tin roof" [SECONDS_=5] [SEED=0] [OUTPUT=rain.wav]
#   make test

RUN := .venv-run
DEV := .venv

ifndef PYTHON
PYTHON := $(shell for candidate in python3.11 python3.12 python3.13 python3 python; do \
	if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	then command -v "$$candidate"; break; fi; done)
endif

# Extra flags for pip, for example those that choose the CPU build of torch.
PIP_FLAGS ?=
# Quiet twice: errors are shown, warnings about somebody's package index are not.
PIP_INSTALL = -m pip install --quiet --quiet --no-input --disable-pip-version-check $(PIP_FLAGS)

SOURCES := $(shell find edge_tta quantization export -type f -not -name '*.pyc' 2>/dev/null)

# Taken from the environment by the shell, so that quotes and dollar signs in a prompt arrive as typed.
override PROMPT := $(value PROMPT)
override SECONDS_ := $(value SECONDS_)
override SEED := $(value SEED)
override OUTPUT := $(value OUTPUT)
export PROMPT SECONDS_ SEED OUTPUT

.PHONY: help generate test slow lint format wheel clean
.DELETE_ON_ERROR:

help:
	@echo 'make generate PROMPT="rain on a tin roof" [SECONDS_=5] [SEED=0] [OUTPUT=rain.wav]'
	@echo 'make test      lint, types, import directions, tests'
	@echo 'make slow      the tests that train or take long'
	@echo 'make lint      ruff, mypy, import-linter'
	@echo 'make format    rewrite the code in the house format'
	@echo 'make wheel     build the wheel into dist/'
	@echo 'make clean     remove environments, caches and build output'

generate: $(RUN)/installed
	@$(RUN)/bin/edge-tta generate $${SECONDS_:+--seconds "$$SECONDS_"} $${SEED:+--seed "$$SEED"} \
		$${OUTPUT:+-o "$$OUTPUT"} $${PROMPT:+-- "$$PROMPT"}

test: $(DEV)/installed
	@status=0; \
	$(MAKE) --no-print-directory lint || { echo "lint failed; the tests run all the same"; status=1; }; \
	$(DEV)/bin/python -m pytest || status=1; \
	exit $$status

slow: $(DEV)/installed
	@$(DEV)/bin/python -m pytest -m slow

lint: $(DEV)/installed
	@status=0; \
	$(DEV)/bin/ruff check . || status=1; \
	$(DEV)/bin/ruff format --check --quiet . || { echo "not in house format; run: make format"; status=1; }; \
	$(DEV)/bin/mypy || status=1; \
	$(DEV)/bin/lint-imports || status=1; \
	exit $$status

format: $(DEV)/installed
	@$(DEV)/bin/ruff check --fix . && $(DEV)/bin/ruff format .

wheel: $(DEV)/installed
	@rm -rf build && $(DEV)/bin/python -m build --wheel --outdir dist .

clean:
	@rm -rf $(RUN) $(DEV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# The core install, as a user gets it: no torch, no tools. A leftover build/ would put deleted files into the wheel, a
# leftover egg-info would claim a version when Python runs in the checkout.
$(RUN)/installed: pyproject.toml $(SOURCES)
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed; name one with PYTHON=/path/to/python" >&2; exit 1; }
	@echo "installing edge-tta into $(RUN) (once)"
	@rm -rf build
	@$(RUN)/bin/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(RUN)
	@$(RUN)/bin/python $(PIP_INSTALL) .
	@rm -rf build edge_tta.egg-info
	@touch $@

$(DEV)/installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed; name one with PYTHON=/path/to/python" >&2; exit 1; }
	@echo "installing the development environment into $(DEV) (once)"
	@$(DEV)/bin/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(DEV)
	@$(DEV)/bin/python $(PIP_INSTALL) --editable '.[dev]'
	@touch $@
