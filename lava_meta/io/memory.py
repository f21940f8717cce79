"""Whether something fits in memory, asked before it is allocated."""

from __future__ import annotations

from pathlib import Path

from lava_meta.errors import TooLargeError

_GROUPS = (  # of control groups, version 2 and 1: limit, what is used, and the name of the part that can be dropped
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


def available_memory() -> int | None:
    """Bytes that can still be taken, as Linux and the control group have it; None if neither says."""
    found = [_meminfo()]
    for limit, used, dropped in _GROUPS:
        folder = Path("/sys/fs/cgroup")
        try:
            most, now = int((folder / limit).read_text()), int((folder / used).read_text())
            lines = (folder / limit).with_name("memory.stat").read_text().splitlines()
            found.append(most - now + sum(int(line.split()[1]) for line in lines if line.split()[0] == dropped))
        except (OSError, ValueError):
            continue  # no such group, or no limit
    known = [value for value in found if value is not None]
    return min(known) if known else None


def require_memory(needed: int, what: str, advice: str) -> None:
    """Raise `TooLargeError` if `what` needs more bytes than there are; `advice` says what to do."""
    available = available_memory()
    if available is not None and needed > available:
        raise TooLargeError(
            f"{what} needs about {needed / 1e9:,.1f} GB of memory, and {available / 1e9:,.1f} GB are free; {advice}"
        )


def _meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
