# Two commands do everything from a fresh clone: `make demo` and `make test`.
# They need Python 3, make and the network (for the packages, the first time).
# `make test PYTHON=3.13` does the same on another Python, in an environment of its own.

TOOLS := .tools
DEFAULT := $(shell cat .python-version)
PYTHON := $(DEFAULT)
VENV := .venv$(addprefix -, $(filter-out $(DEFAULT), $(PYTHON)))
RUN := $(VENV)/bin/python
UV := $(shell command -v uv 2>/dev/null || echo $(TOOLS)/bin/uv)
STAMP := $(VENV)/.installed
# Files of tests in two processes: products use one thread, and most of a Lava test is waiting.
PARALLEL := -n 2 --dist loadfile

.PHONY: demo test test-core test-slow lint types setup clean

demo: setup
	$(RUN) -m lava_meta demo $(ARGS)

test: setup
	$(RUN) -m pytest -m "not slow" $(PARALLEL) $(ARGS)

# The core's tests where Lava cannot be imported.
test-core: setup
	$(RUN) -c "import sys; sys.modules['lava'] = None; import pytest; sys.exit(pytest.main(sys.argv[1:]))" \
		-q -m "not slow" tests/test_imports.py $(addprefix tests/, rule io data graph optim nn training loihi plotting) $(ARGS)

test-slow: setup
	$(RUN) -m pytest -m slow $(ARGS)

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

# mypy follows no package mapping: it checks a tree of links in which every package lies where it is imported from.
types: setup
	@mkdir -p .types/lava_meta && find .types/lava_meta -type l -delete
	@ln -s $(addprefix ../../, $(filter-out lava_meta/__pycache__, $(wildcard lava_meta/*)) processes converters experiments) .types/lava_meta/
	cd .types && ../$(RUN) -m mypy --config-file ../pyproject.toml -p lava_meta

setup: $(STAMP)

$(STAMP): pyproject.toml .python-version $(UV)
	# Bytecode once, at installation: torch and Lava take far longer to import without it.
	UV_PYTHON=$(PYTHON) UV_PROJECT_ENVIRONMENT=$(VENV) $(UV) sync --quiet --compile-bytecode
	@touch $@

# Only when uv is not on the PATH: a private copy in a folder that git ignores.
$(TOOLS)/bin/uv:
	python3 -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet uv

clean:
	rm -rf .venv .venv-3.* $(TOOLS) .pytest_cache .types .mypy_cache .ruff_cache results
