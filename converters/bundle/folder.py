"""What every bundle's folder has: its script, its stock Processes, its NIR file, the checksum of every file."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from lava_meta.converters.nir import to_nir
from lava_meta.errors import ConversionError, FormatError, RunFolderError
from lava_meta.graph import Graph
from lava_meta.graph.spiking import SpikingGraph
from lava_meta.graph.spiking_graph import SteppedGraph
from lava_meta.io.files import read_json
from lava_meta.loihi.stock import StockLayer
from lava_meta.version import __version__

FORMAT, VERSION = "lava_meta.bundle", 1
IMAGES = 100  # for acceptance
_SCRIPTS = {"run.py": "stock_script.py", "lava_import.py": "lava_import.py"}  # copies, by file of `processes`


def known_labels(labels: Any, count: int, most: int, *, given: bool) -> dict[str, NDArray[Any]]:
    """Those of the `count` images that were taken, at most `most`, as an array of the acceptance, if there are any.

    Raises `ValueError` for others than whole numbers, one per image, or without `given` images.
    """
    if labels is None:
        return {}
    known = np.asarray(labels)[:most]
    if not given or known.shape != (count,) or known.dtype.kind not in "ui":
        raise ValueError(f"labels are {known.dtype} {known.shape}; expected whole numbers, one for each of the images")
    return {"labels": known}


def write_run(
    folder: Path, about: dict[str, Any], layers: list[StockLayer], acceptance: dict[str, Any], report: dict[str, Any]
) -> None:
    """The script, what it runs and compares, and the report of what it costs."""
    _write_processes(about, layers, folder)
    np.savez_compressed(folder / "acceptance.npz", **acceptance)
    write_json(folder / "report.json", report)
    for name, original in _SCRIPTS.items():
        shutil.copyfile(Path(__file__).parents[2] / "processes" / original, folder / name)


def check_place(target: Path, *, overwrite: bool) -> None:
    """Raises `RunFolderError` unless the folder may be written."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    try:
        manifest = read_json(target / "bundle.json")
        files = {"bundle.json", *manifest["sha256"]} if manifest["format"] == FORMAT else set()
    except (OSError, FormatError, LookupError, TypeError):
        files = set()
    others = {path.name for path in target.iterdir()} - files if target.is_dir() else {target.name}
    if others:
        raise RunFolderError(
            f"{target} is no bundle, or holds more than one ({', '.join(sorted(others)[:3])}): choose another folder"
        )
    if not overwrite:
        raise RunFolderError(f"{target} holds a bundle: choose another folder, or overwrite it")


def write_end(folder: Path, readme: str) -> None:
    """The README, and last the checksum of every other file."""
    (folder / "README.md").write_text(readme, encoding="utf-8")
    checksums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    manifest = {"format": FORMAT, "version": VERSION, "lava_meta": __version__, "sha256": checksums}
    write_json(folder / "bundle.json", manifest)


def write_nir(graph: Graph | SpikingGraph | SteppedGraph, path: Path, time_step: float | None = None) -> str | None:
    """Write the file, or say why there is none."""
    import nir

    try:
        nir.write(path, to_nir(graph, time_step=time_step))
    except ConversionError as refusal:
        return str(refusal)
    return None


def _write_processes(about: dict[str, Any], layers: list[StockLayer], folder: Path) -> None:
    """The layers, behind what else the script is to know."""
    arrays: dict[str, Any] = {}

    def plain(value: Any, name: str) -> Any:
        """An argument as JSON holds it; arrays go into the other file, in the narrowest type that holds them."""
        if issparse(value):
            for part in ("data", "indices", "indptr"):
                arrays[f"{name}.{part}"] = _narrow(getattr(value, part))
            return {"array": name, "shape": list(value.shape)}
        if isinstance(value, np.ndarray):
            arrays[name] = _narrow(value)
            return {"array": name}
        return [int(extent) for extent in value] if isinstance(value, tuple) else int(value)

    structure = {
        **about,
        "layers": [
            {
                "name": layer.name,
                "latency": layer.latency,
                "inputs": layer.inputs,
                "senders": layer.senders,
                "output": layer.output,
                "links": layer.links,
                "parts": {
                    name: {
                        "kind": part.kind,
                        "arguments": {
                            key: plain(value, f"{layer.name}.{name}.{key}") for key, value in part.arguments.items()
                        },
                    }
                    for name, part in layer.parts.items()
                },
            }
            for layer in layers
        ],
    }
    write_json(folder / "processes.json", structure)
    np.savez_compressed(folder / "processes.npz", **arrays)


def _narrow(array: NDArray[Any]) -> NDArray[Any]:
    for dtype in (np.int8, np.int16):
        if array.size and np.iinfo(dtype).min <= array.min() and array.max() <= np.iinfo(dtype).max:
            return array.astype(dtype)
    return array.astype(np.int32)


def write_json(path: Path, value: Any) -> None:
    """Readable, without values that are no numbers."""
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
