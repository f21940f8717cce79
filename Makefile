# Two commands do everything from a fresh clone: `make demo` and `make test`.
# They need Python 3, make and the network (for the packages, the first time).

TOOLS := .tools
PYTHON := .venv/bin/python
UV := $(shell command -v uv 2>/dev/null || echo $(TOOLS)/bin/uv)
STAMP := .venv/.installed
# Files of tests in two processes: products use one thread, and most of a Lava test is waiting.
PARALLEL := -n 2 --dist loadfile

.PHONY: demo test test-core test-slow lint types setup clean

demo: setup
	$(PYTHON) -m lava_meta demo $(ARGS)

test: setup
	$(PYTHON) -m pytest -m "not slow" $(PARALLEL) $(ARGS)

# The core's tests where Lava cannot be imported, as on any Python but 3.10.
test-core: setup
	$(PYTHON) -c "import sys; sys.modules['lava'] = None; import pytest; sys.exit(pytest.main(sys.argv[1:]))" \
		-q -m "not slow" $(addprefix tests/test_, $(addsuffix .py, rule optim fast threads nn data streams metrics graph conv sealed device_curve)) tests/hardware

test-slow: setup
	$(PYTHON) -m pytest -m slow $(ARGS)

lint: setup
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types: setup
	$(PYTHON) -m mypy -p lava_meta -p converters -p processes -p experiments

setup: $(STAMP)

$(STAMP): pyproject.toml .python-version $(UV)
	# Bytecode once, at installation: torch and Lava take far longer to import without it.
	$(UV) sync --quiet --compile-bytecode
	@touch $@

# Only when uv is not on the PATH: a private copy in a folder that git ignores.
$(TOOLS)/bin/uv:
	python3 -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet uv

clean:
	rm -rf .venv $(TOOLS) .pytest_cache .mypy_cache .ruff_cache results
