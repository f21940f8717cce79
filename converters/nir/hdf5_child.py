"""Reads an HDF5 file in a process of its own and writes plain arrays to its standard output.

The HDF5 library crashes, hangs or asks for all memory on some damaged files; here that ends this process only, which
limits its own memory and time. Run as a script by `lava_meta.converters.nir.file`; it imports numpy and h5py alone.

    standard input     JSON: the path of the file and of modules, the group to read, limits in bytes and seconds
    standard output    one line of JSON, {"tree": ..., "arrays": [[type, shape], ...]}, then the arrays' bytes in order;
                       or {"error": what is wrong, "memory": whether it was a limit}

In the tree a group is {"group": {name: ...}}, an array {"array": its number}, strings {"text": one or nested lists}.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

DEPTH, ITEMS = 32, 100_000  # groups within groups, and groups and arrays in all: links may lead round in circles


def main() -> None:
    """See above."""
    task = json.load(sys.stdin)
    sys.path[:] = task["modules"]  # isolated, this process has no folder of the script's to shadow modules with
    import h5py

    for limit, value in (
        (resource.RLIMIT_AS, _own_size() + task["bytes"]),
        (resource.RLIMIT_CPU, task["seconds"]),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    try:
        with h5py.File(task["file"], "r") as file:
            tree, arrays = Reader(task["bytes"]).read(file[task["group"]])
    except MemoryError as error:
        print(json.dumps({"error": f"{error}", "memory": True}))
        return
    except Exception as error:
        print(json.dumps({"error": f"{error}" or type(error).__name__, "memory": False}))
        return
    print(json.dumps({"tree": tree, "arrays": [[a.dtype.str, list(a.shape)] for a in arrays]}), flush=True)
    for array in arrays:
        sys.stdout.buffer.write(array.tobytes())


def _own_size() -> int:
    """Bytes of address space that this process has taken so far."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # not on Linux
        return 2**31


class Reader:
    """What has been read, and how much."""

    def __init__(self, budget: int) -> None:
        self.budget, self.items = budget, 0
        self.arrays: list[Any] = []

    def read(self, item: Any) -> tuple[dict[str, Any], list[Any]]:
        """The tree of a group, and the arrays in it."""
        return self._tree(item, 0), self.arrays

    def _tree(self, item: Any, depth: int) -> dict[str, Any]:
        import h5py

        self.items += 1
        if depth > DEPTH or self.items > ITEMS:
            raise ValueError("its groups are nested too deeply, or lead round in circles")
        if isinstance(item, h5py.Group):
            return {"group": {name: self._tree(self._own(item, name), depth + 1) for name in item}}
        if not isinstance(item, h5py.Dataset):
            raise ValueError(f"it holds a {type(item).__name__}")
        return self._value(item)

    def _own(self, group: Any, name: str) -> Any:
        """The item, unless it lies in another file."""
        import h5py

        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is a link to another place")
        return group[name]

    def _value(self, dataset: Any) -> dict[str, Any]:
        import numpy as np

        if dataset.external or dataset.is_virtual:
            raise ValueError(f"{dataset.name} lies in another file")
        self.budget -= 2 * dataset.size * dataset.dtype.itemsize if dataset.shape is not None else 0
        if self.budget < 0:
            raise MemoryError(f"{dataset.name} declares {dataset.dtype} {dataset.shape}")
        value = dataset[()]
        if isinstance(value, (bytes, str)):
            return {"text": as_text(value)}
        array = np.asarray(value)
        if array.dtype.kind in "OS":
            return {"text": as_text(array.tolist())}
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise ValueError(f"{dataset.name} holds values of type {array.dtype}")
        self.arrays.append(array.astype(array.dtype.newbyteorder("=")))
        return {"array": len(self.arrays) - 1}


def as_text(value: Any) -> Any:
    """Strings, in lists or not, in UTF-8. Raises `ValueError` for anything else."""
    if isinstance(value, list):
        return [as_text(inner) for inner in value]
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if not isinstance(value, str):
        raise ValueError(f"a {type(value).__name__} stands there instead of a string")
    return value


if __name__ == "__main__":
    main()
