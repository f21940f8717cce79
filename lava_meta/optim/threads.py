"""The threads that torch computes on: how many pay, whether they spin while they wait, and compiled passes on them.

A thread of OpenMP that has done its share of a product waits for the next one at full speed, for some milliseconds.
Threads of our own would have to share a core with it. So a pass is a parallel region of the runtime that torch has
loaded already, entered by the name that GNU's compiler gives it, which LLVM's and Intel's runtimes know too. Where
there is no such name, and in a forked process, whose threads did not come along, a pass is serial.

The passes release Python's lock; numba's own threads could not follow `torch.set_num_threads`, and abort in a process
that was forked after their first use, as Lava's actors are.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from lava_meta.interrupts import interrupts_held

LEAST = 1 << 17
"""Elements for which a further thread pays: waking one costs about as much as passing over 50,000."""

LEAST_PRODUCT = 1 << 22
"""Multiplications in a model's largest product for which a second thread pays (docs/performance.md has the times)."""

SHARE_OF_PRODUCT = 1 << 24
"""Multiplications that each of three or more threads has to do."""

VECTORS = 1024  # elements: whole vectors in every part but the last, whatever the number of parts

_REGION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def _runtime() -> Any:
    """`enter(region, data, threads, flags)`: `region(data)` once on each of so many threads; None if there is none.

    The handle of torch's extension module gives the names of everything it is linked to.
    """
    try:
        enter = ctypes.CDLL(torch._C.__file__).GOMP_parallel
    except (OSError, AttributeError):
        return None
    enter.argtypes, enter.restype = [_REGION, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    return enter


_enter = _runtime()


def _forget() -> None:
    global _enter
    _enter = None


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget)


def in_parts(function: Callable[[int, int], bool], size: int, align: int = VECTORS) -> bool:
    """`function(start, end)` over 0 .. size in as many parts as there are threads, which begin at multiples of `align`.

    Returns whether all parts returned True.
    """
    threads = min(torch.get_num_threads(), size // LEAST)
    if threads < 2 or _enter is None:
        return function(0, size)
    length = -(-size // (threads * align)) * align
    left = iter(range(0, size, length))  # shared: if the runtime gives fewer threads, they take what is left
    done: list[bool] = []
    errors: list[BaseException] = []

    def region(_: object) -> None:
        try:
            for start in left:
                done.append(function(start, min(start + length, size)))
        except BaseException as error:  # ctypes would print it and go on
            errors.append(error)

    with interrupts_held():  # Ctrl-C too, where it arrives before the `try`
        _enter(_REGION(region), None, threads, 0)
    if errors:
        raise errors[0]
    return all(done)


def threads_for(model: nn.Module, batch_size: int, places: int = 1) -> int:
    """The number of threads that pays for a model's training step.

        largest = batch_size * max over weights of size * places        multiplications
        1 if largest < LEAST_PRODUCT, else max(2, largest // SHARE_OF_PRODUCT), at most torch.get_num_threads()

    The second thread comes early, because a step that can go on on either of two cores waits less for its neighbours.
    The number depends on nothing that changes from one moment to the next, such as the load, since some results depend
    on the number of threads in their last bits.

    Args:
        model: a model on the CPU; weights have two dimensions (dense) or more (convolutions).
        batch_size: images per step.
        places: pixels per channel, at each of which a kernel is applied.
    """
    sizes = [p.numel() * (places if p.dim() > 2 else 1) for p in model.parameters() if p.dim() > 1]
    largest = batch_size * max(sizes, default=0)
    return min(torch.get_num_threads(), max(2, largest // SHARE_OF_PRODUCT) if largest >= LEAST_PRODUCT else 1)


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch use `number` threads inside the block, and as many as before after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def waiting_threads_spin() -> bool:
    """Whether a thread of torch's runtime that has nothing to do occupies a core, measured in its processor time.

    GNU's runtime spins 300,000 times before it sleeps, unless OMP_WAIT_POLICY or GOMP_SPINCOUNT say otherwise when it
    is loaded; afterwards nothing can be asked of it or changed, so the environment does not tell.
    """
    if _enter is None:
        return False
    for _ in range(20):  # on a busy machine the thread may not run at all while it is looked at
        _enter(_REGION(lambda _: None), None, 2, 0)
        begun = time.process_time()
        time.sleep(0.005)
        if time.process_time() - begun > 0.0005:
            return True
    return False


class BusyCores:
    """Warns, once, if training steps are slow because threads that wait occupy the cores on which others should run.

    On a machine with other work a thread that spins takes the time slice of the thread that it waits for. A step is
    slow if it takes more than `FACTOR` times the processor time of the thread that it runs on.
    """

    STEPS = 20  # whose median is looked at: a process may also have been stopped for a while
    FACTOR = 1.5

    def __init__(
        self,
        wall: Callable[[], float] = time.perf_counter,
        own: Callable[[], float] = time.thread_time,
        spin: Callable[[], bool] = waiting_threads_spin,
    ) -> None:
        self._wall, self._own, self._spin = wall, own, spin
        self._watching = torch.get_num_threads() > 1
        self.begin()

    def begin(self) -> None:
        """Steps begin here: what was done before them does not count."""
        self._times: list[tuple[float, float]] = []
        self._last = self._wall(), self._own()

    def step(self) -> None:
        """A step has ended."""
        if not self._watching:
            return
        now = self._wall(), self._own()
        self._times.append((now[0] - self._last[0], now[1] - self._last[1]))
        self._last = now
        if len(self._times) == self.STEPS:
            took, needed = (statistics.median(times) for times in zip(*self._times, strict=True))
            if took > self.FACTOR * needed:
                self._watching = False
                if self._spin():
                    self._warn(took, needed)
            self.begin()

    def _warn(self, took: float, needed: float) -> None:
        warnings.warn(
            f"a training step takes {1e3 * took:.1f} ms, of which its thread computes {1e3 * needed:.1f} ms or less: "
            f"other processes keep the cores busy, and each of torch's {torch.get_num_threads()} threads spins while "
            "it waits for another. Start Python with OMP_WAIT_POLICY=PASSIVE in its environment (it is read when torch "
            "is imported), or train with threads=1",
            stacklevel=8,  # the call of `train`
        )
