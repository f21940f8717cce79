"""One writer at a time, among all processes of a machine (and of others, if the file system locks across them).

A lock is a file that a process holds locked; the system frees it when the process ends, however it ends. The file says
who holds it, and is removed when the holder is done.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lava_meta.errors import RunFolderError, require_posix

with suppress(ImportError):  # on Windows, which `require_posix` refuses
    import fcntl


class HeldError(RunFolderError):
    """Another process holds the lock; the message names it."""


@contextmanager
def held(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the lock file `path` while the block runs. A link that lies there is not followed.

    If the file system has no locks the block runs all the same, with a warning.

    Raises:
        HeldError: another process, or another thread of this one, holds it.
        OSError: the folder cannot be written.
        LavaMetaError: on Windows.
    """
    require_posix("Locking a folder")
    place = Path(path)
    descriptor = _locked(place)
    try:
        yield
    finally:
        # Removed while it is still held, so that nobody waits on a file that is gone.
        place.unlink(missing_ok=True)
        # Children that were forked have the same open file: closing it here alone would not free it.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Whether the open file is now locked for this process alone; False also if the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _locked(place: Path) -> int:
    while True:
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 500, 0).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            raise HeldError(f"{place.parent} is in use by {holder}: wait until it is done, or stop it") from None
        except OSError as error:
            warnings.warn(
                f"{place.parent} cannot be locked ({error}): see to it that one process at a time writes there",
                stacklevel=4,
            )
        if _same(place, descriptor):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{_this_process()}\n".encode(), 0)
            return descriptor
        os.close(descriptor)  # the one who held it removed it before it was locked here


def _same(place: Path, descriptor: int) -> bool:
    try:
        there, here = os.stat(place, follow_symlinks=False), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _this_process() -> str:
    command = " ".join(Path(word).name if i == 0 else word for i, word in enumerate(sys.argv))[:200]
    return f"process {os.getpid()} on {socket.gethostname()} ({command}), since {time.strftime('%Y-%m-%d %H:%M:%S')}"
