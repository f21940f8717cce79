# Two commands do everything from a fresh clone: `make demo` and `make test`.
# They need Python 3, make and the network (for the packages, the first time).
# `make test PYTHON=3.10` does the same on another Python, in an environment of its own.

TOOLS := .tools
DEFAULT := $(shell cat .python-version)
PYTHON := $(DEFAULT)
VENV := .venv$(addprefix -, $(filter-out $(DEFAULT), $(PYTHON)))
RUN := $(VENV)/bin/python
# One version for everyone: what it resolves and how it installs changes with it.
UV_VERSION := 0.13.9
UV := $(TOOLS)/uv-$(UV_VERSION)/bin/uv
STAMP := $(VENV)/.installed
# Files of tests in two processes: products use one thread, and most of a Lava test is waiting.
PARALLEL := -n 2 --dist loadfile

.PHONY: demo test test-core test-slow lint types docs setup requirements clean

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
	$(RUN) -m codespell_lib README.md CHANGELOG.md CONTRIBUTING.md docs lava_meta processes converters experiments benchmarks tests

# mypy follows no package mapping: it checks a tree of links in which every package lies where it is imported from.
types: setup
	@mkdir -p .types/lava_meta && find .types/lava_meta -type l -delete
	@ln -s $(addprefix ../../, $(filter-out lava_meta/__pycache__, $(wildcard lava_meta/*)) processes converters experiments) .types/lava_meta/
	cd .types && ../$(RUN) -m mypy --config-file ../pyproject.toml -p lava_meta

# The site, in docs/_build/html; the tutorials run while it is built.
docs: setup
	$(RUN) -m sphinx --fail-on-warning --keep-going --quiet --builder html docs docs/_build/html

setup: $(STAMP)

# Exact versions, checked by their hashes. Bytecode once, at installation: torch and Lava take far longer to import
# without it.
$(STAMP): requirements.txt pyproject.toml .python-version $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	$(UV) pip sync --quiet --python $(VENV) --require-hashes --compile-bytecode requirements.txt
	$(UV) pip install --quiet --python $(VENV) --no-deps --editable .
	@touch $@

# After a change of the dependencies in pyproject.toml: resolves them for every Python and writes their hashes.
requirements: $(UV)
	$(UV) export --quiet --group dev --group docs --no-emit-project --no-header --no-annotate --output-file requirements.txt

# A private copy in a folder that git ignores.
$(UV):
	python3 -m venv $(TOOLS)/uv-$(UV_VERSION)
	$(TOOLS)/uv-$(UV_VERSION)/bin/python -m pip install --quiet uv==$(UV_VERSION)

clean:
	rm -rf .venv .venv-3.* $(TOOLS) .pytest_cache .types .mypy_cache .ruff_cache results
