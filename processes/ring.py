"""A ring of messages between the user's process and an actor.

Lava moves a Var element by element (20 us each); a `Ring` moves whole arrays through memory that both sides share. It
is made before the actors are forked and reaches a ProcessModel by `proc_params`. It has a fixed number of slots:
who writes into a full ring waits, and so does who reads from an empty one, so memory stays bounded however long the
stream is. One side writes, the other reads; a forked child of either is neither.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lava_meta.interrupts import interrupts_kept
from lava_meta.processes.actor import POLL_SECONDS
from lava_meta.processes.ownership import Owner
from lava_meta.processes.shared_memory import semaphore, shared_array


class Ring:
    """`slots` messages in shared memory: arrays of one type and of up to `shape[0]` rows, each of `shape[1:]`."""

    def __init__(self, shape: tuple[int, ...], dtype: type | np.dtype, slots: int = 4) -> None:
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.slots = slots
        self._arrays = shared_array((slots, *self.shape), self.dtype)
        self._rows = shared_array((slots,), np.int64)
        self._free = semaphore(slots)
        self._full = semaphore(0)
        self._owner = Owner()
        # After the fork each side has its own copy of both, and moves one of them.
        self._writes = self._reads = 0

    def put(self, array: np.ndarray, check: Callable[[], None] | None = None) -> None:
        """Copy `array` into the next slot. Waits while the ring is full; `check` is called meanwhile and may raise.

        Raises `ValueError` for numbers that the ring's type does not hold, `RunError` in a forked child.
        """
        self._owner.require("write to the ring", actors=True)
        if not np.can_cast(array.dtype, self.dtype):
            _check_fits(array, self.dtype)
        _acquire(self._free, check)
        self._arrays[self._writes, : len(array)] = array
        self._rows[self._writes] = len(array)
        self._writes = (self._writes + 1) % self.slots
        self._full.release()

    def get(self, check: Callable[[], None] | None = None) -> np.ndarray:
        """A copy of the oldest message. Waits while the ring is empty; `check` is called meanwhile and may raise.

        Raises `RunError` in a forked child.
        """
        self._owner.require("read from the ring", actors=True)
        _acquire(self._full, check)
        array = self._arrays[self._reads, : self._rows[self._reads]].copy()
        self._reads = (self._reads + 1) % self.slots
        self._free.release()
        return array


def _check_fits(array: np.ndarray, dtype: np.dtype) -> None:
    if dtype.kind in "iu" and array.size:
        low, high, held = array.min(), array.max(), np.iinfo(dtype)
        if not (held.min <= low and high <= held.max):  # NaN neither
            raise ValueError(
                f"a message runs from {low:,} to {high:,}; this ring is of {dtype}, {held.min:,} to {held.max:,}: make "
                "it of a wider type"
            )


def _acquire(counter: Any, check: Callable[[], None] | None) -> None:
    if check is None:
        counter.acquire()
        return
    while True:
        with interrupts_kept():
            if counter.acquire(timeout=POLL_SECONDS):
                return
            check()
