"""What a file is, by its first bytes and its header, and which call takes it. Nothing is unpickled, nothing is run.

    what_is("w.pt")          FileKind(kind="torch", what="a file of torch.save (a zip with a pickle in it)", use=...)
    require_kind(path, MODEL)    raises with these words for any other file

Every reader asks here first, so that each error says what was given and what to do with it.
"""

from __future__ import annotations

import json
import os
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path

from lava_meta.errors import FormatError
from lava_meta.io.sealed import CHECKPOINT as SEALED_RUN
from lava_meta.io.sealed import GRAPH, LEARNER
from lava_meta.io.sealed import SPIKING as SEALED_SPIKING

NETWORK, LEARNING, MODEL, CHECKPOINT, TENSORS, ARRAY = "network", "learner", "model", "checkpoint", "tensors", "array"
SPIKING = "spiking network"
_LONGEST_HEADER = 2**24  # bytes; a longer one is not read here
_NO_PICKLE = (
    "it is not opened, because a pickle can run any code. If you trust it: safetensors.torch.save_file("
    'torch.load("{path}", weights_only=True), "w.safetensors"), and then `lava-meta convert FILE.py:FUNCTION '
    "--weights w.safetensors`, or `lava_meta.convert(model)` in Python"
)
# By kind: what it is, and which call takes it.
_KINDS = {
    NETWORK: (
        "a converted network",
        "`lava_meta.load`, `lava-meta run`, `info`, `report`, `bundle` and `online` take it",
    ),
    SPIKING: (
        "a converted network of spiking neurons",
        "`lava_meta.load`, `lava-meta run`, `info` and `report` take it",
    ),
    LEARNING: (
        "a network that learns on-line",
        "`lava_meta.load`, `lava-meta online`, `run`, `info`, `report` and `bundle` take it",
    ),
    MODEL: (
        "a trained model of `lava-meta train`",
        "`lava_meta.load` gives the model, `lava-meta convert {path} -o net.safetensors` makes a network of it",
    ),
    CHECKPOINT: (
        "a checkpoint of a training run",
        "the same `lava-meta train` with --resume goes on from it; the trained model is model.safetensors beside it",
    ),
    TENSORS: (
        "a safetensors file of tensors, without the model to which they belong",
        "`lava-meta convert FILE.py:FUNCTION --weights {path}` takes it, where FUNCTION returns that model",
    ),
    ARRAY: ("an .npy file", "it is for images: `lava-meta run NETWORK {path}`"),
    "damaged": ("not a whole safetensors file", "copy or make it again"),
    "later": ("a file of lava_meta in a format that this version does not know", "read it with a later version"),
    "nir": ("an HDF5 file, by its name a network in NIR", '`lava_meta.from_nir(nir.read("{path}"))` takes it'),
    "netx": (
        "an HDF5 file, by its name one of Lava-DL's netx",
        "`lava.lib.dl.netx` reads it; lava_meta takes the PyTorch model it came from: `lava_meta.convert(model)`",
    ),
    "hdf5": (
        "an HDF5 file",
        'if it is a network in NIR, `lava_meta.from_nir(nir.read("{path}"))` takes it; of anything else, '
        "`lava_meta.convert` takes the PyTorch model",
    ),
    "torch": ("a file of torch.save (a zip with a pickle in it)", _NO_PICKLE),
    "torchscript": ("a TorchScript archive", '`lava_meta.convert(torch.jit.load("{path}"))` takes it'),
    "pickle": ("a pickle", _NO_PICKLE),
    "npz": ("an .npz archive of arrays", "save the images alone, with numpy.save, as an .npy file"),
    "zip": ("a zip archive", "unpack it and give a file"),
    "gzip": ("a gzip archive", "unpack it and give a file"),
    "image": ("a picture", "save the pixels of all images as integers (n, ...), with numpy.save, as an .npy file"),
    "onnx": ("by its name an ONNX file", "`lava_meta.convert` takes the PyTorch model from which it was made"),
    "python": ("a Python file", "name the function that returns the model: `lava-meta convert {path}:FUNCTION`"),
    "json": ("a JSON file", "give a network file: `lava-meta convert` writes one"),
    "empty": ("an empty file", "copy or make it again"),
    "special": ("not a regular file", "give the path of a file"),
    "run folder": (
        "the folder of a training run",
        "give its model: `lava-meta convert {path}/model.safetensors -o net.safetensors`",
    ),
    "bundle folder": ("the folder of a bundle", "give its network, {path}/network.safetensors"),
    "experiment folder": ("the folder of an experiment", "give a file in it; `lava-meta compare` takes such folders"),
    "folder": ("a folder", "give a file in it"),
    "unknown": ("no file that lava_meta knows", "`lava-meta convert` writes networks, `lava-meta train` models"),
}
_MAGIC = {
    b"\x89HDF\r\n\x1a\n": "hdf5",
    b"\x93NUMPY": ARRAY,
    b"PK\x03\x04": "zip",
    b"\x1f\x8b": "gzip",
    b"\x89PNG": "image",
    b"\xff\xd8\xff": "image",
    **{bytes((0x80, protocol)): "pickle" for protocol in range(2, 6)},
}
_HDF5 = {".nir": "nir", ".net": "netx"}
_ENDINGS = {".safetensors": "damaged", ".onnx": "onnx", ".py": "python", ".json": "json"} | dict.fromkeys(
    (".pkl", ".pickle", ".pt", ".pth"), "pickle"
)


@dataclass(frozen=True)
class FileKind:
    """A file's kind, in one word and in a sentence's, and which call takes it."""

    kind: str
    what: str
    use: str


def what_is(path: str | os.PathLike[str]) -> FileKind:
    """What the file or folder is. Its content may still be damaged. Raises `FileNotFoundError`, and other `OSError`."""
    kind = _kind(Path(path))
    what, use = _KINDS[kind]
    return FileKind(kind, what, use.format(path=os.fspath(path)))


def require_kind(path: str | os.PathLike[str], *wanted: str) -> str:
    """The kind of the file, which is one of `wanted`.

    Raises `FormatError` for any other, which says what it is and which call takes it; `FileNotFoundError` for none.
    """
    found = what_is(path)
    if found.kind not in wanted:
        expected = " or ".join(_KINDS[kind][0] for kind in wanted)
        raise FormatError(f"{path} is {found.what}; expected {expected}. {found.use[0].upper()}{found.use[1:]}")
    return found.kind


def _kind(path: Path) -> str:
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        return _folder(path)
    if not stat.S_ISREG(mode):
        return "special"  # a pipe would wait for a writer
    with open(path, "rb") as file:
        start = file.read(16)
        if not start:
            return "empty"
        # Before the magic bytes: the length of a header, which comes first, may happen to look like them.
        opens, length = start[8:9] == b"{", int.from_bytes(start[:8], "little")
        if opens and length <= min(path.stat().st_size - 8, _LONGEST_HEADER):
            file.seek(8)
            return _safetensors(file.read(length))
    kind = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)
    if kind == "hdf5":
        return _HDF5.get(path.suffix.lower(), kind)
    if kind == "zip":
        return _zip(path)
    if kind is not None or opens:
        return kind or "damaged"
    return _ENDINGS.get(path.suffix.lower(), "unknown")


def _safetensors(content: bytes) -> str:
    try:
        notes = json.loads(content).get("__metadata__") or {}
        if "lava_meta" in notes:
            header = json.loads(notes["lava_meta"])
            if header["format"] == SEALED_RUN:
                return MODEL if "kind" in header["state"] else CHECKPOINT
            kinds = {GRAPH: NETWORK, SEALED_SPIKING: SPIKING, LEARNER: LEARNING}
            return kinds.get(header["format"], "later")
        if "checkpoint" in notes:  # the first version's
            state = json.loads(json.loads(notes["checkpoint"])["state"])
            return MODEL if "kind" in state else CHECKPOINT
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "damaged"
    return TENSORS


def _zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "zip"
    if any("/code/" in name for name in names):
        return "torchscript"
    if any(name.endswith("data.pkl") for name in names):
        return "torch"
    return "npz" if names and all(name.endswith(".npy") for name in names) else "zip"


def _folder(path: Path) -> str:
    if (path / "bundle.json").is_file():
        return "bundle folder"
    if (path / "results.json").is_file() or (path / "runs").is_dir():
        return "experiment folder"
    if (path / "model.safetensors").is_file():
        return "run folder"
    return "folder"
