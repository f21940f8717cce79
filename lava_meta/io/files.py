"""Files that are either whole or not there, and files that are read without surprises.

Writing. A file is first written under a temporary name in its own folder, flushed to the disk, renamed, and the folder
flushed: a full disk, Ctrl-C or `kill -9` leaves the old file as it was. The temporary name is drawn at random and made
by this call alone (`O_EXCL`), so that threads, processes and containers never share one, and a link that lies there is
never followed; what is written goes to the open file and not to a name. A reader sees the file before or the file
after.

Leftovers. A writer that is killed leaves `.NAME.TOKEN.part`. The next one removes it if it is surely nobody's: it is
ours (same user), nothing was written to it for an hour, and its lock is free, which every writer holds on its temporary
file and which the system frees when the process ends, however it ends.

Reading. `open_regular` opens files only, never waits for a pipe or a device; `reading` turns whatever goes wrong with a
file's content into a `FormatError`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from lava_meta.errors import ConversionError, FormatError, LavaMetaError, TooLargeError, require_posix

with suppress(ImportError):  # on Windows, which `require_posix` refuses
    import fcntl

LEFT_ALONE = 3600.0  # seconds without a write after which a temporary file whose lock is free is a leftover
_LARGEST_JSON = 2**28  # bytes
_TOKEN = r"(?:[0-9a-f]{16}|[0-9]+)"  # a random one; a process id, as earlier versions had it
_DIGEST = "sha256"


@contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Yield an open binary file that becomes `path` if the block succeeds, and is removed if not.

    It gets the mode that an ordinary `open` would give: that of the file before, or 0o666 less the umask.

    Raises:
        OSError: the folder cannot be made or written, or `path` is there and is not a file.
        LavaMetaError: on Windows.
    """
    require_posix("Writing a file")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    mode = _mode_of_file(target)
    temporary, file = _new_file(target)
    try:
        with file:
            yield file
            file.flush()
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
            os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(target.parent)
    remove_leftovers(target, LEFT_ALONE)


@contextmanager
def write_folder_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a new folder that becomes `path` if the block succeeds, and is removed if not.

    A folder that is there gives way then, whole; until then it stays as it is. Raises as `write_atomically`.
    """
    require_posix("Writing a folder")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(target, "part")
    temporary.mkdir()
    descriptor = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _try_lock(descriptor)
        yield temporary
        for written in temporary.iterdir():
            _flush(written)
        os.fsync(descriptor)
        _swap(temporary, target)
    finally:
        os.close(descriptor)
        shutil.rmtree(temporary, ignore_errors=True)
    _flush_folder(target.parent)
    remove_leftovers(target, LEFT_ALONE)


def remove_leftovers(path: str | os.PathLike[str], unchanged_for: float = 0.0) -> None:
    """Remove what writers of `path` that were killed have left beside it; see the module.

    Args:
        path: the file or folder that they wrote.
        unchanged_for: seconds since the last write; 0 if the caller holds a lock that keeps other writers out.
    """
    target = Path(path)
    named = re.compile(rf"\.{re.escape(target.name)}\.{_TOKEN}\.(?:part|old)")
    with os.scandir(target.parent) as entries:
        found = [Path(entry.path) for entry in entries if named.fullmatch(entry.name)]
    for left in found:
        _remove_if_abandoned(left, unchanged_for)


def reserve(file: BinaryIO, size: int) -> None:
    """Take the room for `size` bytes on the disk, if the file system can. Raises `OSError` if there is less."""
    file.flush()
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` in UTF-8, atomically."""
    with write_atomically(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as JSON, atomically. NaN and infinity are refused: JSON has no such numbers."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_checked_json(path: str | os.PathLike[str], value: dict[str, Any]) -> None:
    """As `write_json`, with a checksum of the content as a further entry, which `read_checked_json` compares."""
    write_json(path, {**value, _DIGEST: _digest(value)})


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """A block that makes something of the content of `path`: what goes wrong in it is a `FormatError` that names it.

    What asks for memory that there is not becomes a `TooLargeError`. `OSError` (no such file, no permission) and a
    refusal by name (`ConversionError`) are left as they are.
    """
    try:
        yield
    except (TooLargeError, ConversionError):
        raise
    except FormatError as error:
        if os.fspath(path) in str(error):
            raise
        raise FormatError(f"{path}: {error}") from error
    except MemoryError as error:
        raise TooLargeError(f"{path} asks for more memory than there is: {error}") from error
    except (
        *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, RuntimeError, TypeError, ValueError),
        LavaMetaError,
    ) as error:
        raise FormatError(f"{path} cannot be read: {_said(error)}") from error


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading, without ever waiting.

    Raises `FormatError` for a folder, a pipe, a socket or a device, `OSError` if there is nothing to open,
    `LavaMetaError` on Windows.
    """
    require_posix("Reading a file")
    _check_regular(path, os.stat(path).st_mode)  # before it is opened: opening a device may do something
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    try:
        _check_regular(path, os.fstat(descriptor).st_mode)
    except FormatError:
        file.close()
        raise
    return file


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value that a JSON file holds. Raises `FormatError` for any other file, `OSError` if there is none."""
    with reading(path), open_regular(path) as file:
        content = file.read(_LARGEST_JSON + 1)
        if len(content) > _LARGEST_JSON:
            raise FormatError(f"{path} is larger than any JSON file of lava_meta")
        return json.loads(content.decode("utf-8"))


def read_checked_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `write_checked_json` was given. Raises `FormatError` if the content does not fit its checksum."""
    with reading(path):
        value = dict(read_json(path))
        if _DIGEST not in value:
            raise FormatError(f"{path} has no checksum: it was altered, or written by an earlier version")
        if value.pop(_DIGEST) != _digest(value):
            raise FormatError(f"{path} was altered: its checksum does not match its content")
        return value


def _mode_of_file(target: Path) -> int | None:
    """The permissions of the file that is there; None for none, or for a link, whose place the file takes."""
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(mode):
        return None
    if not stat.S_ISREG(mode):
        raise FileExistsError(f"{target} is {_kind(mode)}, and not a file that could be replaced")
    return stat.S_IMODE(mode)


def _new_file(target: Path) -> tuple[Path, BinaryIO]:
    """A new file beside `target`, open and locked."""
    while True:
        temporary = _beside(target, "part")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.fdopen(os.open(temporary, flags, 0o666), "w+b")
        _try_lock(file.fileno())
        if os.fstat(file.fileno()).st_nlink:  # else another writer took it for a leftover before it was locked
            return temporary, file
        file.close()


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(8)}.{ending}")


def _swap(temporary: Path, target: Path) -> None:
    """Put the new folder in its place; the old one, if any, is there until then."""
    old = _beside(target, "old")
    if target.exists():
        target.rename(old)
    try:
        temporary.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _remove_if_abandoned(left: Path, unchanged_for: float) -> None:
    """Remove `left` if it is ours, old and nobody's. What cannot be opened or locked stays."""
    try:
        descriptor = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        about = os.fstat(descriptor)
        folder = stat.S_ISDIR(about.st_mode)
        if not (folder or stat.S_ISREG(about.st_mode)) or about.st_uid != os.geteuid():
            return
        if time.time() - about.st_mtime < unchanged_for or not _try_lock(descriptor):
            return
        if folder:
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
    except OSError:
        return  # another process removed it, or the folder cannot be written: it is in nobody's way
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    """Whether the open file is now locked for this process alone; False also if the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    """Make a rename in `folder` outlive a loss of power, if the file system can."""
    try:
        _flush(folder.resolve())
    except OSError:
        return  # some file systems cannot flush a folder; the file itself is whole all the same


def _check_regular(path: str | os.PathLike[str], mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise FormatError(f"{path} is {_kind(mode)}, and not a file")


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    return next((name for is_kind, name in kinds if is_kind(mode)), "something else")


def _said(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return f"{type(error).__name__} {error}" if isinstance(error, LookupError) else str(error) or type(error).__name__


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
