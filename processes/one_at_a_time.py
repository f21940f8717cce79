"""Threads that build, compile or start networks take turns: Lava's compiler, lists and loggers know one thread only."""

from __future__ import annotations

import os
import threading

_lock = threading.RLock()


def one_at_a_time() -> threading.RLock:
    """The lock, to be held in a `with` block."""
    return _lock


def _renew() -> None:
    """In a forked child no thread is left that could release it."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew)
