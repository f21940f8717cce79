"""Sealed files: numpy arrays and a JSON header in one safetensors file, with a checksum of both.

What is read is what was written, or it is refused. Equal content gives equal bytes. Anyone can compute the checksum:
it shows that a file is whole, not who wrote it, so what a header declares is checked against its tensors before
anything is made of it (`lava_meta.io.files.reading` and each reader).
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lava_meta.errors import FormatError
from lava_meta.io.files import open_regular, reading, write_atomically
from lava_meta.io.memory import require_memory

GRAPH = "lava_meta.graph"  # a converted network
SPIKING = "lava_meta.spiking"  # a converted network of spiking neurons
LEARNER = "lava_meta.learner"  # a network that learns on-line
CHECKPOINT = "lava_meta.training.checkpoint"  # a training run between two epochs, or what it ended with
_TYPES = {  # in the order in which safetensors lays them out
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
    "F32": "<f4",
    "U32": "<u4",
    "I32": "<i4",
    "U16": "<u2",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}
_NAMES = {kind: name for name, kind in _TYPES.items()}
_Entries = dict[str, tuple[str, tuple[int, ...], int]]
_LARGEST_HEADER = 100_000_000  # bytes, as safetensors has it
_PARSED = 40  # bytes of memory that a byte of JSON may take


def write_sealed(path: str | os.PathLike[str], header: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> None:
    """Write both to `path`, whole or not at all.

    Args:
        path: the file to write.
        header: JSON-ready; its "format" says what the file holds, its "version" in which form.
        tensors: arrays by name, of booleans, integers, float32 or float64.

    Raises:
        TypeError: an array of another type.
        ValueError: a header with NaN or infinity in it, which JSON does not have.
        OSError: the disk is full, or the folder cannot be written.
    """
    with write_atomically(path) as file:
        _write(file, header, tensors)


def sealed_bytes(header: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> bytes:
    """The content of the file that `write_sealed` writes."""
    file = io.BytesIO()
    _write(file, header, tensors)
    return file.getvalue()


def read_sealed(
    source: str | os.PathLike[str] | bytes, kind: str, versions: range
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The header and the tensors of a file of format `kind`, in one of these versions.

    Args:
        source: the file, or its content.
        kind: `GRAPH`, `SPIKING`, `LEARNER` or `CHECKPOINT`.
        versions: those that the caller knows.

    Raises:
        FormatError: the file is truncated, altered, of another format or another version, or not a file.
        TooLargeError: it does not fit in memory.
        OSError: there is no such file, or it cannot be read.
    """
    metadata, tensors = read_container(source)
    return unsealed(_name(source), metadata, tensors, kind, versions), tensors


def unsealed(
    name: str, metadata: dict[str, str], tensors: dict[str, NDArray[Any]], kind: str, versions: range
) -> dict[str, Any]:
    """The header of what `read_container` gave for the file `name`. Raises `FormatError` as `read_sealed`."""
    with reading(name):
        if "lava_meta" not in metadata:
            raise FormatError(f"{name} is a safetensors file of another format than lava_meta's own")
        text = metadata["lava_meta"]
        if metadata.get("sha256") != _digest(text, tensors):
            raise FormatError(f"{name} was altered after it was written: its checksum does not match its content")
        header = dict(parsed(text))
        version = header.get("version")
        if header.get("format") != kind or type(version) is not int or version not in versions:
            raise FormatError(
                f"{name} holds {header.get('format')} version {version}; expected {kind} version "
                + " or ".join(map(str, versions))
            )
        return header


def sealed_format(path: str | os.PathLike[str]) -> str | None:
    """The format that a file says it is of, unchecked; None for any other file, and for none."""
    try:
        with open_regular(path) as file, reading(path):
            metadata = _layout(os.fspath(path), file, os.fstat(file.fileno()).st_size)[1]
            return dict(parsed(metadata.get("lava_meta", "{}"))).get("format")
    except (OSError, FormatError):
        return None


def read_container(source: str | os.PathLike[str] | bytes) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """The metadata and the arrays of any safetensors file of the types above, unsealed. Raises as `read_sealed`."""
    if isinstance(source, bytes):
        with reading(_name(source)):
            return _read(_name(source), io.BytesIO(source), len(source))
    with open_regular(source) as file, reading(source):
        size = os.fstat(file.fileno()).st_size
        require_memory(size, f"Reading {source}", "read it on a machine with more")
        return _read(_name(source), file, size)


def _read(source: str, file: BinaryIO, size: int) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    entries, metadata = _layout(source, file, size)
    tensors = {}
    for name, (kind, shape, length) in entries.items():
        array = np.empty(shape, kind)
        if file.readinto(array.reshape(-1).view(np.uint8)) != length:  # type: ignore[attr-defined]
            raise FormatError(f"{source} ends in the middle of a tensor")
        tensors[name] = array
    return metadata, tensors


def _layout(
    source: str, file: BinaryIO, size: int
) -> tuple[dict[str, tuple[str, tuple[int, ...], int]], dict[str, str]]:
    """Type, shape and bytes of each tensor in the order in which they lie there, and the metadata."""
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > min(size - 8, _LARGEST_HEADER):
        raise FormatError(f"{source} is not a whole safetensors file: its header is cut short, or longer than the file")
    require_memory(_PARSED * length, f"Reading the header of {source}", "read it on a machine with more")
    header = dict(parsed(file.read(length).decode("utf-8")))
    metadata = {str(name): str(value) for name, value in dict(header.pop("__metadata__", {})).items()}
    entries = {}
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: tuple(item[1]["data_offsets"])):
        kind, shape = _TYPES.get(entry["dtype"]), tuple(entry["shape"])
        if kind is None or any(type(extent) is not int or extent < 0 for extent in shape):
            raise FormatError(f"{source} is not a whole safetensors file: {name} is {entry['dtype']} {shape}")
        length = math.prod(shape) * np.dtype(kind).itemsize
        begin, end = end, end + length
        if list(entry["data_offsets"]) != [begin, end]:
            raise FormatError(f"{source} is not a whole safetensors file: {name} lies at {entry['data_offsets']}")
        entries[name] = (kind, shape, length)
    if file.tell() + end != size:
        said = file.tell() + end
        raise FormatError(f"{source} is not a whole safetensors file: it has {size} bytes and says {said}")
    return entries, metadata


def _write(file: BinaryIO, header: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> None:
    arrays = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in tensors.items()}
    unknown = {name: array.dtype for name, array in arrays.items() if array.dtype.str not in _NAMES}
    if unknown:
        raise TypeError(f"{next(iter(unknown))} is {next(iter(unknown.values()))}, which such a file does not hold")
    order = list(_NAMES)
    names = sorted(arrays, key=lambda name: (order.index(arrays[name].dtype.str), name))
    text = json.dumps(header, sort_keys=True, allow_nan=False)
    layout: dict[str, Any] = {"__metadata__": {"lava_meta": text, "sha256": _digest(text, arrays)}}
    end = 0
    for name in names:
        begin, end = end, end + arrays[name].nbytes
        kind = _NAMES[arrays[name].dtype.str]
        layout[name] = {"dtype": kind, "shape": list(arrays[name].shape), "data_offsets": [begin, end]}
    head = json.dumps(layout, sort_keys=True, separators=(",", ":")).encode()
    head = head.ljust(-(-len(head) // 8) * 8)
    file.write(len(head).to_bytes(8, "little") + head)
    for name in names:
        file.write(arrays[name].reshape(-1).data)


def _name(source: str | os.PathLike[str] | bytes) -> str:
    return "its content" if isinstance(source, bytes) else os.fspath(source)


def parsed(text: str) -> Any:
    """A header's JSON, whose objects name no entry twice and whose numbers are finite."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            raise ValueError("its header names an entry twice")
        return entries

    def no_number(name: str) -> Any:
        raise ValueError(f"its header has {name} for a number")

    return json.loads(text, object_pairs_hook=once, parse_constant=no_number)


def _digest(header: str, tensors: dict[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
