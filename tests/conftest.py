"""Where Lava is not installed its tests are skipped, and say so. Products use one thread."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest

# Where the larger data sets lie beside a checkout of the maintainers'; elsewhere the tests that need them are skipped.
_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
if _DATA.is_dir():
    os.environ.setdefault("LAVA_META_DATA", str(_DATA))

# Before torch is imported, here and in the processes that tests start: the products of tests are small, and on a busy
# machine a second thread makes them ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

HAS_LAVA = importlib.util.find_spec("lava") is not None
collect_ignore_glob = [] if HAS_LAVA else ["processes/*"]
if HAS_LAVA:
    import lava_meta.processes  # noqa: F401  adapts Lava to this Python, whatever imports it first


@pytest.fixture(autouse=True)
def _same_torch_in_any_order() -> None:
    """A test draws the same numbers, on one thread, whichever ran before it in its process."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The consolidation functions that files know; what a test registers is forgotten after it."""
    from lava_meta.rule import consolidation

    kept = dict(consolidation.CONSOLIDATIONS)
    monkeypatch.setattr(consolidation, "CONSOLIDATIONS", kept)
    return kept


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not HAS_LAVA:
        for item in items:
            if item.get_closest_marker("lava"):
                item.add_marker(pytest.mark.skip(reason="Lava is not installed"))


def pytest_report_header() -> str:
    return "lava: " + ("found" if HAS_LAVA else "not importable; tests in tests/processes are left out")
