"""NIR files, read so that a damaged or hostile one harms nothing: HDF5 is parsed in a process of its own.

The HDF5 library has crashed, hung or asked for all memory on files with a few altered bytes, and a file may name other
files, which reading it would open. So a child process (`hdf5_child.py`) with limits on memory and time reads it,
refuses links to other places, and hands back plain arrays.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from lava_meta.errors import FormatError, TooLargeError
from lava_meta.io.files import open_regular, reading
from lava_meta.io.memory import available_memory

_SCRIPT = Path(__file__).with_name("hdf5_child.py")
_LEAST_BYTES, _GROWTH = 2**29, 2100  # deflate makes up to 1,032 bytes of one, and each is there twice for a moment
_LEAST_SECONDS, _BYTES_A_SECOND = 60, 1_000_000  # two orders of magnitude more than it takes


def read_nir(path: str | os.PathLike[str]) -> nir.NIRGraph:
    """The graph of an NIR file, as `nir.read(path)` gives it.

    Raises:
        FormatError: the file is damaged, is no NIR, or refers to other files.
        TooLargeError: what it declares does not fit in memory.
        OSError: there is no such file, or it cannot be read.
    """
    with reading(path):
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
        graph = nir.dict2NIRNode({**_read_group(path, size, "node"), "type_check": True})
        if not isinstance(graph, nir.NIRGraph):
            raise FormatError(f"{path} holds a single {type(graph).__name__}, and no graph")
        return graph


def _read_group(path: str | os.PathLike[str], size: int, group: str) -> dict[str, Any]:
    """What a group of an HDF5 file of `size` bytes holds: groups as dicts, numbers as arrays and scalars, strings."""
    seconds = _LEAST_SECONDS + size // _BYTES_A_SECOND
    budget = min((available_memory() or 2**62) // 2, max(_LEAST_BYTES, _GROWTH * size))
    task = {"file": os.path.abspath(path), "group": group, "bytes": budget, "seconds": seconds, "modules": sys.path}
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(_SCRIPT)],
            input=json.dumps(task).encode(),
            capture_output=True,
            timeout=seconds,
            check=False,
            # One thread needs less address space; a filter that the file names is never loaded from elsewhere.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "HDF5_PLUGIN_PRELOAD": "::"},
        )
    except subprocess.TimeoutExpired:
        raise FormatError(f"{path} is damaged: the HDF5 library was not done with it after {seconds} s") from None
    head, found, body = done.stdout.partition(b"\n")
    if not found:
        raise FormatError(f"{path} is damaged: the HDF5 library failed on it (exit code {done.returncode})")
    answer = json.loads(head)
    if "error" in answer:
        if answer["memory"]:
            raise TooLargeError(f"{path} asks for more memory than a file of its size may, or than there is")
        raise FormatError(f"{path} is not a whole NIR file: {answer['error']}")
    content = _plain(answer["tree"], _arrays(answer["arrays"], body))
    if not isinstance(content, dict):
        raise FormatError(f"{path} is not a NIR file: {group!r} is no group in it")
    return content


def _arrays(layout: list[Any], body: bytes) -> list[NDArray[Any]]:
    arrays, start = [], 0
    for kind, shape in layout:
        dtype = np.dtype(kind)
        count = math.prod(shape)
        if start + count * dtype.itemsize > len(body):
            raise FormatError("the HDF5 library failed in the middle of an array")
        arrays.append(np.frombuffer(body, dtype, count, start).reshape(shape).copy())
        start += count * dtype.itemsize
    return arrays


def _plain(tree: dict[str, Any], arrays: list[NDArray[Any]]) -> Any:
    if "group" in tree:
        return {name: _plain(inner, arrays) for name, inner in tree["group"].items()}
    return tree["text"] if "text" in tree else arrays[tree["array"]][()]
