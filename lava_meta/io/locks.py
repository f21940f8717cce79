"""One writer at a time in a folder, among all processes of a machine, and of others if the file system locks for them.

A lock is a file that a process holds locked (`filelock`); the system frees it when the process ends, however it ends.
The file says who holds it; free again, it stays where it is, empty.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from lava_meta.errors import RunFolderError


class HeldError(RunFolderError):
    """Another process holds the lock; the message names it."""


@contextmanager
def held(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the lock file `path` while the block runs. A link that lies there is not followed.

    If the file system has no locks, the file's being there is the lock, with a warning.

    Raises:
        HeldError: another process, or another thread of this one, holds it.
        OSError: the folder cannot be written.
    """
    place = Path(path)
    lock = FileLock(place, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        holder = place.read_text(errors="replace").strip() or "another process"
        raise HeldError(f"{place.parent} is in use by {holder}: wait until it is done, or stop it") from None
    try:
        place.write_text(f"{_this_process()}\n")
        yield
    finally:
        with suppress(OSError):  # the folder may be gone
            os.truncate(place, 0)
        lock.release()


def _this_process() -> str:
    command = " ".join(Path(word).name if i == 0 else word for i, word in enumerate(sys.argv))[:200]
    return f"process {os.getpid()} on {socket.gethostname()} ({command}), since {time.strftime('%Y-%m-%d %H:%M:%S')}"
