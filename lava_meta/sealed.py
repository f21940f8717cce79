"""Sealed files: numpy arrays and a JSON header in one safetensors file, with a checksum of both.

What is read is what was written, or it is refused. Equal content gives equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lava_meta.errors import FormatError
from lava_meta.files import write_atomically
from lava_meta.memory import require_memory

GRAPH = "lava_meta.graph"  # a converted network
LEARNER = "lava_meta.learner"  # a network that learns on-line
_TYPES = {"BOOL": "?", "F32": "<f4", "F64": "<f8"} | {
    f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)
}


def write_sealed(path: str | os.PathLike[str], header: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Write both to `path`, whole or not at all. `header` is JSON-ready; its "format" says what the file holds."""
    text = json.dumps(header, sort_keys=True)
    content = _canonical(save(tensors, metadata={"lava_meta": text, "sha256": _digest(text, tensors)}))
    with write_atomically(path) as temporary:
        temporary.write_bytes(content)


def read_sealed(
    path: str | os.PathLike[str], kind: str, versions: range
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the tensors of a file of format `kind`, in one of these versions.

    Raises `FormatError` for a file that is truncated, altered, of another format or another version, `TooLargeError`
    for one that does not fit in memory.
    """
    if os.path.isfile(path):
        require_memory(os.path.getsize(path), f"Reading {path}", "read it on a machine with more")
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            metadata = file.metadata() or {}
        tensors = _tensors(path)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise FormatError(f"{path} is not a whole safetensors file: {error}") from error
    text = metadata.get("lava_meta", "")
    if metadata.get("sha256") != _digest(text, tensors):
        raise FormatError(
            f"{path} is not a file of lava_meta's networks or learners, or was altered after it was written"
        )
    header = json.loads(text)
    if header.get("format") != kind or header.get("version") not in versions:
        raise FormatError(
            f"{path} holds {header.get('format')} version {header.get('version')}; expected {kind} version "
            + " or ".join(map(str, versions))
        )
    return header, tensors


def sealed_format(path: str | os.PathLike[str]) -> str | None:
    """The format that a file says it is of, unchecked; None for any other file, and for none."""
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            return json.loads((file.metadata() or {}).get("lava_meta", "{}")).get("format")
    except (OSError, SafetensorError, ValueError):
        return None


def _tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a file whose header safetensors has found in order.

    safetensors maps the file into memory and copies from there, which takes twice the file's size.
    """
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(length))
        entries.pop("__metadata__", None)
        tensors = {}
        for name, entry in entries.items():
            begin, end = entry["data_offsets"]
            dtype = np.dtype(_TYPES[entry["dtype"]])
            file.seek(8 + length + begin)
            tensors[name] = np.fromfile(file, dtype, (end - begin) // dtype.itemsize).reshape(entry["shape"])
    return tensors


def _digest(header: str, tensors: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _canonical(content: bytes) -> bytes:
    """The same safetensors file with sorted keys in its header, so that equal content gives equal bytes."""
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    return content[:8] + header.ljust(length) + content[8 + length :]
