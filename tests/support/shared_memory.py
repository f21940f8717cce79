"""Shared memory that has a name: what a killed run would leave behind."""

from __future__ import annotations

from pathlib import Path


def named(pid: int | str) -> list[str]:
    """What process `pid` maps of blocks with a name in /dev/shm; "(deleted)" marks one without a name."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return [line for line in lines if "/dev/shm/" in line and not line.endswith("(deleted)")]
