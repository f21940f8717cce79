"""The command line as a user types it, in this process."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from lava_meta.cli import main


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def lava_meta(*words: str | Path, cwd: Path | None = None) -> Done:
    """The command in this process: `main` with these words, its output, and its exit code."""
    out, err = io.StringIO(), io.StringIO()
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        patch.object(sys, "argv", ["lava-meta", *map(str, words)]),
        patch.dict(os.environ, {"COLUMNS": "120"}),
        chdir(cwd),
    ):
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return Done(code, out.getvalue(), err.getvalue())


@contextmanager
def chdir(folder: Path | None) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder or before)
    try:
        yield
    finally:
        os.chdir(before)
