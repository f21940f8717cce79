"""Ctrl-C: never lost, and never in the middle of what must be whole."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def interrupts_kept() -> Iterator[None]:
    """Ctrl-C interrupts the block as ever; if the block goes on all the same, its end raises it again.

    Python prints and drops what is raised in a weak reference's callback, in `__del__` or during a garbage collection.
    Every import runs such a callback, so that Ctrl-C while Lava's compiler is imported could be lost.
    """
    previous = _answer()
    if previous is None:
        yield
        return
    raised: list[BaseException] = []

    def answer(*arguments: Any) -> None:
        try:
            previous(*arguments)
        except BaseException as error:
            raised.append(error)
            raise

    signal.signal(signal.SIGINT, answer)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if raised:
            raise raised.pop()


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait until the block has ended: no actor forked and forgotten, no pass over weights half done."""
    previous = _answer()
    if previous is None:
        yield
        return
    held: list[Any] = []
    signal.signal(signal.SIGINT, lambda *arguments: held.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if held:
            previous(*held[0])


def _answer() -> Any:
    """The function that answers Ctrl-C, or None if it is not Python's to answer, or another thread's."""
    answer = signal.getsignal(signal.SIGINT)
    return answer if callable(answer) and threading.current_thread() is threading.main_thread() else None
