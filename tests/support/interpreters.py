"""Programs in an interpreter and a process group of their own, for what would end the tests' own process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

PRELUDE = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parents[1] / "processes" / "toys"), str(Path(__file__).parent)]!r}
import multiprocessing, os, signal, time
# A shell that starts the tests in the background has them ignore Ctrl-C, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
import lava_meta.processes  # adapts Lava to this Python
import lava_toys as toys
from children import actors
from lava.magma.core.run_configs import Loihi2SimCfg
from lava_meta.errors import RunError
from lava_meta.processes.runtime import Supervised
from shared_memory import named

def announce():
    assert not any(map(named, actors()))  # looked at here, where they surely run still
    print(*actors(), flush=True)
"""


begun: list[subprocess.Popen] = []


def end_what_was_begun() -> None:
    """Should a test fail, its actors must not stay and spin."""
    while begun:
        process = begun.pop()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def begin(code: str, **environment: str) -> subprocess.Popen:
    """Run `code` after the prelude, in a process group of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **environment},
    )
    begun.append(process)
    return process


def actors(process: subprocess.Popen) -> list[int]:
    """The process ids that `announce` printed; they may have ended since."""
    assert process.stdout is not None
    line = b""  # read byte by byte: `communicate` does not see what a file has read ahead
    while not line.endswith(b"\n") and (byte := os.read(process.stdout.fileno(), 1)):
        line += byte
    pids = [int(pid) for pid in line.split()]
    assert len(pids) == 3, process.communicate()
    return pids


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent to notice does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter when it ends between open and read
        return False


def assert_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(map(alive, pids)):
        time.sleep(0.02)
    assert not [pid for pid in pids if alive(pid)]
