"""The toy Processes by their own name, and a check that a test leaves nothing behind."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from children import children
from interpreters import end_what_was_begun

TOYS = Path(__file__).parent / "toys"
sys.path.insert(0, str(TOYS))


def leftovers() -> dict[str, set]:
    """What a run could leave: children, open files, threads."""
    return {
        "children": children(),
        "open files": set(os.listdir("/proc/self/fd")),
        "threads": {thread.name for thread in threading.enumerate()},
    }


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fails a test after which any child, shared memory, open file or thread is there that was not there before."""
    gc.collect()
    gc.freeze()  # what lives now is not looked through again, which takes half a second late in the suite
    before = leftovers()
    yield
    deadline = time.monotonic() + 5
    while True:
        gc.collect()  # Lava's objects refer to each other in circles
        new = {kind: left - before[kind] for kind, left in leftovers().items() if left - before[kind]}
        if not new or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert not new


@pytest.fixture(autouse=True)
def nothing_begun_stays() -> Iterator[None]:
    """Ends the interpreters that a failed test leaves."""
    yield
    end_what_was_begun()
