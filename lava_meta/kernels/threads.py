"""Compiled passes over long arrays, on the threads that torch computes on.

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
from collections.abc import Callable
from typing import Any

import torch

LEAST = 1 << 17
"""Elements for which a further thread pays: waking one costs about as much as passing over 50,000."""

VECTORS = 1024  # elements: whole vectors in every part but the last, whatever the number of parts

_REGION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def _runtime() -> Any:
    """`enter(region, data, threads, flags)`: `region(data)` once on each of so many threads; None where there is none.

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


os.register_at_fork(after_in_child=_forget)


def in_parts(function: Callable[[int, int], bool], size: int, align: int = VECTORS) -> bool:
    """`function(start, end)` over 0 .. size in as many parts as there are threads, which begin at multiples of `align`.

    Returns whether all parts returned True.
    """
    threads = min(torch.get_num_threads(), size // LEAST)
    if threads < 2 or _enter is None:
        return function(0, size)
    length = -(-size // (threads * align)) * align
    starts = range(0, size, length)
    left = iter(starts)  # shared: should the runtime give fewer threads, those there are take what is left
    done: list[bool] = []
    errors: list[BaseException] = []

    def region(_: object) -> None:
        try:
            for start in left:
                done.append(function(start, min(start + length, size)))
        except BaseException as error:  # Ctrl-C too: ctypes would print it and go on
            errors.append(error)

    _enter(_REGION(region), None, threads, 0)
    if errors:
        raise errors[0]
    if len(done) < len(starts):
        raise KeyboardInterrupt  # between the entry of `region` and its `try`
    return all(done)
