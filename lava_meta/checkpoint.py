"""One file that holds a training run between two epochs.

A checkpoint is a single safetensors file: tensors (model, optimizer, states of the random generators) and, in its
header, the rest as JSON and a CRC-32 of everything. It is written whole or not at all, so a run that is killed at any
moment leaves the checkpoint before or the checkpoint after, never a mixture.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lava_meta.errors import FormatError, RunFolderError
from lava_meta.files import write_atomically

FORMAT = "lava_meta checkpoint 1"


def write_checkpoint(path: str | os.PathLike[str], tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write tensors and a JSON-able `state`, atomically.

    Raises `RunFolderError` when the disk is full or the folder cannot be written; the checkpoint before is intact.
    """
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(state, allow_nan=False)
    # One entry alone: safetensors orders several at random, and the same run should give the same file.
    header = {"checkpoint": json.dumps({"format": FORMAT, "crc32": _checksum(on_cpu, text), "state": text})}
    try:
        with write_atomically(path) as temporary, _scratch(Path(path)) as scratch:
            # safetensors writes to a file of its own, readable by its owner only, beside the one it is asked for: in a
            # folder of its own a killed run leaves nothing that the next one would not know and remove.
            save_file(on_cpu, scratch / "tensors", metadata=header)
            temporary.touch()
            (scratch / "tensors").chmod(temporary.stat().st_mode)
            os.replace(scratch / "tensors", temporary)
    except (OSError, SafetensorError) as error:
        size = sum(tensor.nbytes for tensor in on_cpu.values()) / 2**20
        raise RunFolderError(
            f"the checkpoint {path} ({size:.1f} MiB) cannot be written: {error}. The one before it, if any, is intact: "
            "make room and resume."
        ) from error


def read_checkpoint(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (on the CPU) and the state that `write_checkpoint` was given.

    Raises `FormatError` for a file that is truncated, altered or something else, `FileNotFoundError` for none.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("checkpoint", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise FormatError(f"{path} is truncated or not a safetensors file: {error}") from error
    if header.get("format") != FORMAT:
        raise FormatError(f"{path} is of format {header.get('format')!r}; this version reads {FORMAT!r}")
    text = header.get("state", "")
    if header.get("crc32") != _checksum(tensors, text):
        raise FormatError(f"{path} was altered: its checksum does not match its content")
    return tensors, json.loads(text)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as `{"<parameter index>.<name>": tensor}`; its options are not part of it.

    Raises `TypeError` for an optimizer that keeps anything else than tensors.
    """
    tensors = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            if not isinstance(value, Tensor):
                raise TypeError(f"{type(optimizer).__name__} keeps {name} as {type(value).__name__}, not as a tensor")
            tensors[f"{index}.{name}"] = value
    return tensors


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave, into an optimizer made with the same options for the same model."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove what a run that was killed while it wrote `path` left beside it."""
    for left in Path(path).parent.glob(f".{Path(path).name}.*.part"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


@contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    with TemporaryDirectory(prefix=f".{path.name}.", suffix=".part", dir=path.parent) as folder:
        yield Path(folder)


def _checksum(tensors: dict[str, Tensor], text: str) -> str:
    crc = zlib.crc32(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        crc = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"
