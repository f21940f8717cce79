"""A turn that threads take one after the other."""

from __future__ import annotations

import os
import threading


class Turn:
    """A lock for a `with` block, which its thread may enter again.

    Free in a forked child, where no thread is left that could release it, and in a copy.
    """

    def __init__(self) -> None:
        self._pid, self._lock = os.getpid(), threading.RLock()

    def __enter__(self) -> None:
        if self._pid != os.getpid():
            self.__init__()  # type: ignore[misc]
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Turn], tuple[()]]:
        return Turn, ()
