"""What an actor tells its parent, in memory that both share: read without waiting, whatever the actor is doing."""

from __future__ import annotations

import traceback

import numpy as np

from lava_meta.processes.shared_memory import AnonymousMemory

STARTING, READY, FAILED = 0, 1, 2
_TEXT_BYTES = 1 << 16  # room for a traceback


class Board:
    """Four integers and a text."""

    def __init__(self) -> None:
        memory = AnonymousMemory(4 * 8 + _TEXT_BYTES).buf
        self._numbers = np.frombuffer(memory, np.int64, count=4)  # state, step, question, length of the text
        self._text = memory[4 * 8 :]

    @property
    def state(self) -> int:
        return int(self._numbers[0])

    @state.setter
    def state(self, value: int) -> None:
        self._numbers[0] = value

    @property
    def step(self) -> int:
        return int(self._numbers[1])

    @step.setter
    def step(self, value: int) -> None:
        self._numbers[1] = value

    @property
    def asked(self) -> bool:
        """Whether the parent wants to know where the actor is."""
        return bool(self._numbers[2])

    @asked.setter
    def asked(self, value: bool) -> None:
        self._numbers[2] = value

    @property
    def text(self) -> str:
        return bytes(self._text[: int(self._numbers[3])]).decode(errors="replace")

    @text.setter
    def text(self, value: str) -> None:
        data = value.encode(errors="backslashreplace")[:_TEXT_BYTES]  # a lone surrogate has no bytes of its own
        self._text[: len(data)] = data
        self._numbers[3] = len(data)


def report(error: BaseException) -> str:
    """The text for an actor that failed: the error in its first line, then the traceback, as much as has room."""
    summary = traceback.format_exception_only(error)[-1].strip()
    return f"{summary[:1000]}\n\n{traceback.format_exc()[-_TEXT_BYTES // 8 :]}"
