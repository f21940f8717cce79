"""One file that holds a training run between two epochs.

A checkpoint is a sealed file (`lava_meta.io.sealed`): tensors (model, optimizer, states of the random generators) and,
in its header, the rest as JSON. It is written whole or not at all, so a run that is killed at any moment leaves the
checkpoint before or the checkpoint after, never a mixture.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from lava_meta.errors import FormatError, RunFolderError
from lava_meta.io.files import reading
from lava_meta.io.sealed import CHECKPOINT, parsed, read_container, unsealed, write_sealed

VERSION = 2
_FIRST = "lava_meta checkpoint 1"  # the earlier format: no seal, a CRC-32 in a header of its own
_PLAIN = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float32, torch.float64)
_OTHERS = {  # kept as bytes: numpy does not have them all
    str(kind).removeprefix("torch."): kind
    for kind in (torch.float16, torch.bfloat16, torch.complex64, torch.complex128)
}


def write_checkpoint(path: str | os.PathLike[str], tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write tensors and a JSON-able `state`, atomically.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written; the checkpoint before is intact.
        TypeError: a tensor of a type that is not kept, such as a quantised one.
    """
    arrays, others = {}, {}
    for name, tensor in tensors.items():
        on_cpu = tensor.detach().cpu().contiguous()
        if on_cpu.dtype not in _PLAIN:
            kind = str(on_cpu.dtype).removeprefix("torch.")
            if kind not in _OTHERS:
                raise TypeError(f"{name} is a tensor of {kind}; a checkpoint keeps {', '.join(_OTHERS)} and plain ones")
            others[name] = [kind, list(on_cpu.shape)]
            on_cpu = on_cpu.reshape(-1).view(torch.uint8)
        arrays[name] = on_cpu.numpy()
    header: dict[str, Any] = {"format": CHECKPOINT, "version": VERSION, "state": state}
    if others:
        header["types"] = others
    try:
        write_sealed(path, header, arrays)
    except OSError as error:
        size = sum(array.nbytes for array in arrays.values()) / 2**20
        raise RunFolderError(
            f"the checkpoint {path} ({size:.1f} MiB) cannot be written: {error}. The one before it, if any, is intact: "
            "make room and resume."
        ) from error


def read_checkpoint(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (on the CPU) and the state that `write_checkpoint` was given, in this version or an earlier one.

    Raises:
        FormatError: the file is truncated, altered or something else.
        FileNotFoundError: there is none.
        TooLargeError: it does not fit in memory.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no checkpoint {path}")
    metadata, arrays = read_container(path)
    with reading(path):
        if "checkpoint" in metadata:
            return _first_version(metadata["checkpoint"], arrays)
        header = unsealed(os.fspath(path), metadata, arrays, CHECKPOINT, range(VERSION, VERSION + 1))
        others = dict(header.get("types", {}))
        tensors = {name: _tensor(array, *others.get(name, ())) for name, array in arrays.items()}
        return tensors, dict(header["state"])


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
    """Put back what `optimizer_tensors` gave, into an optimizer made with the same options for the same model.

    Raises `ValueError` for a tensor that is neither a number nor of its parameter's shape.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        if tensor.numel() != 1 and tensor.shape != parameters[int(index)].shape:
            raise ValueError(f"{name} of parameter {index} is {tuple(tensor.shape)}")
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _tensor(array: NDArray[Any], kind: str = "", shape: Sequence[int] = ()) -> Tensor:
    """The tensor that an array holds, of another type where its bytes stand for one."""
    tensor = torch.from_numpy(array)
    return tensor if not kind else tensor.view(_OTHERS[kind]).reshape(shape)


def _first_version(header: str, arrays: dict[str, NDArray[Any]]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A file of the earlier format, which has no seal."""
    about = parsed(header)
    if about["format"] != _FIRST:
        raise FormatError(f"it is of format {about['format']!r}; this version reads {_FIRST!r} and its own")
    text = about["state"]
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    crc = zlib.crc32(text.encode())
    for name, tensor in sorted(tensors.items()):
        crc = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, crc)
    if about["crc32"] != f"{crc:08x}":
        raise FormatError("it was altered: its checksum does not match its content")
    return tensors, dict(parsed(text))
