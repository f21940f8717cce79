"""What a command may write: nothing that is an input, nothing that an earlier run left without `--overwrite`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lava_meta.errors import OutputError


def check_outputs(outputs: Iterable[Path], *, inputs: Iterable[Path | None] = (), overwrite: bool = False) -> None:
    """Refuse outputs that would destroy something, before any work is done.

    Args:
        outputs: the files that the command will write.
        inputs: the files that it reads; links to them are found out. None is skipped.
        overwrite: whether other files that are there give way.

    Raises:
        OutputError: naming the output that is an input, is no regular file, or is there already.
    """
    read = [path for path in inputs if path is not None and path.exists()]
    for path in outputs:
        if not path.exists() and not path.is_symlink():
            continue
        for other in read:
            if path.exists() and path.samefile(other):
                raise OutputError(f"the output {path} is the input {other}: give another name")
        if not path.is_file() and not (path.is_symlink() and not path.exists()):
            raise OutputError(f"the output {path} is there and is no file: give another name")
        if not overwrite:
            raise OutputError(f"{path} is there already: give another name, or --overwrite to replace it")


def check_folder(folder: Path, inputs: Iterable[Path | None]) -> None:
    """Refuse a folder that is replaced as a whole while it holds an input. Raises `OutputError` naming it."""
    for path in inputs:
        if path is not None and path.exists() and folder.resolve() in path.resolve().parents:
            raise OutputError(f"the output {folder} holds the input {path}: give another folder")


def figure_files(path: Path) -> list[Path]:
    """What `lava_meta.plotting.figures.save` writes at `path`."""
    return [path.with_suffix(".png"), path.with_suffix(".pdf")]
