"""The child processes of the process that runs a test, as the operating system has them."""

from __future__ import annotations

import contextlib
from pathlib import Path


def children() -> set[int]:
    """The process ids of all children; one that has ended counts until its exit code is read."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ends meanwhile
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def actors() -> list[int]:
    """The process ids of the living children that are forks of this program, in their order."""
    return sorted(pid for pid in children() if _command(pid) == _command("self"))


def _command(pid: int | str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
