"""A pass in parts on torch's threads: every element once, and no error or Ctrl-C is lost."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest
import torch

from lava_meta.kernels import threads
from lava_meta.kernels.threads import in_parts


@pytest.fixture(autouse=True)
def _three_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "LEAST", 100)
    torch.set_num_threads(3)  # the next test begins with one


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch may have other threads")
def test_torchs_own_threads_are_found() -> None:
    assert threads._enter is not None


@pytest.mark.parametrize("align", [1, 64, 1000])
@pytest.mark.parametrize("size", [0, 1, 99, 200, 1000, 1001, 12345])
def test_every_element_is_in_one_part(size: int, align: int) -> None:
    parts: list[tuple[int, int]] = []
    assert in_parts(lambda start, end: not parts.append((start, end)), size, align)
    assert len(parts) <= 3
    assert all(start % align == 0 for start, _ in parts)
    assert [i for start, end in sorted(parts) for i in range(start, end)] == list(range(size))


@pytest.mark.skipif(threads._enter is None, reason="torch's threads are not OpenMP's here")
def test_parts_run_beside_each_other() -> None:
    meeting = threading.Barrier(3)
    assert in_parts(lambda start, end: meeting.wait(timeout=20) >= 0, 3000)


def test_one_part_that_is_not_well_is_told() -> None:
    for bad in (0, 1024, 2048):
        assert not in_parts(lambda start, end, bad=bad: start != bad, 3000)  # type: ignore[misc]


@pytest.mark.parametrize("bad", [0, 1024, 2048])
def test_an_error_in_any_part_is_raised(bad: int) -> None:
    def part(start: int, end: int) -> bool:
        if start == bad:
            raise ZeroDivisionError(f"in the part from {start}")
        return True

    with pytest.raises(ZeroDivisionError, match=f"from {bad}"):
        in_parts(part, 3000)


def test_control_c_is_raised() -> None:
    def part(start: int, end: int) -> bool:
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.05)
        return True

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            in_parts(part, 3000)
    finally:
        signal.signal(signal.SIGINT, handler)


def test_a_forked_process_does_without_the_threads_that_it_left_behind() -> None:
    assert in_parts(lambda start, end: True, 3000)
    child = os.fork()
    if child == 0:
        parts: list[int] = []
        in_parts(lambda start, end: not parts.append(start), 3000)
        os._exit(parts != [0])
    deadline = time.monotonic() + 20
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended == (child, 0)
