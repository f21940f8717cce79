"""Memory and semaphores that a process shares with the actors it forks.

Both are nameless: children inherit them, and the kernel frees them with the last of their holders, so that no way of
ending can leave them behind.
"""

from __future__ import annotations

import errno
import math
import mmap
import multiprocessing
from typing import Any

import numpy as np

from lava_meta.errors import RunError


class AnonymousMemory:
    """`size` bytes that a process shares with the children it forks from now on."""

    def __init__(self, size: int) -> None:
        try:
            self.buf = memoryview(mmap.mmap(-1, max(1, size)))
        except OSError as error:
            raise RunError(f"no {size:,} bytes of memory could be shared with an actor: {error}") from error


def shared_array(shape: tuple[int, ...], dtype: type | np.dtype) -> np.ndarray:
    """An array of zeros in `AnonymousMemory`: what a ProcessModel writes into it, its parent reads, and vice versa.

    Make it before the run starts and pass it to the Process by `proc_params`. Nothing guards it: read and write it
    between runs of steps, or send batches through a `lava_meta.processes.ring.Ring`.
    """
    memory = AnonymousMemory(math.prod(shape) * np.dtype(dtype).itemsize)
    return np.frombuffer(memory.buf, dtype, math.prod(shape)).reshape(shape)


def semaphore(value: int) -> Any:
    """A semaphore that forked children inherit. Its file in /dev/shm is gone when this returns."""
    try:
        return multiprocessing.get_context("fork").Semaphore(value)
    except OSError as error:
        raise RunError(f"no semaphore could be made: {explained(error)}") from error


def explained(error: BaseException) -> str:
    """The error's own text, and what to do if it is a full /dev/shm."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"{error}; /dev/shm is full, in which a run needs some KB while it starts: free or enlarge it"
    return str(error)
