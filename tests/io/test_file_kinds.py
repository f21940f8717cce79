"""What a file is: said by its first bytes and header, for files of all kinds that users try."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import lava_meta
from lava_meta.errors import FormatError
from lava_meta.io.file_kinds import MODEL, NETWORK, require_kind, what_is
from lava_meta.nn import BinaryMLP
from lava_meta.training.checkpoint import write_checkpoint
from lava_meta.training.model_file import save_model


class Bomb:
    """What a pickle can do: here, leave a file."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("exploded",)


def _hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = [1]


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "nothing")


def _pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb()))


def _newer(path: Path) -> None:
    save_file({"a": torch.ones(1)}, path, metadata={"lava_meta": json.dumps({"format": "lava_meta.something"})})


STRANGERS: list[tuple[str, str, Callable[[Path], object], str]] = [
    ("net.nir", "nir", _hdf5, "lava_meta.from_nir(nir.read("),
    ("net.net", "netx", _hdf5, "lava.lib.dl.netx"),
    ("weights.h5", "hdf5", _hdf5, "lava_meta.from_nir(nir.read("),
    ("w.pt", "torch", lambda path: torch.save({"a": Bomb()}, path), "safetensors.torch.save_file"),
    ("old.pt", "pickle", lambda path: torch.save({}, path, _use_new_zipfile_serialization=False), "weights_only=True"),
    ("p.pkl", "pickle", _pickle, "a pickle can run any code"),
    ("foreign.safetensors", "tensors", lambda path: save_file(nn.Linear(2, 2).state_dict(), path), "--weights"),
    ("newer.safetensors", "later", _newer, "later version"),
    ("text.safetensors", "damaged", lambda path: path.write_text("hello"), "copy or make it again"),
    ("x.npy", "array", lambda path: np.save(path, np.zeros((2, 3), np.uint8)), "lava-meta run NETWORK"),
    ("x.npz", "npz", lambda path: np.savez(path, x=np.zeros(3)), "numpy.save"),
    ("x.zip", "zip", _zip, "unpack it"),
    ("x.gz", "gzip", lambda path: path.write_bytes(gzip.compress(b"x")), "unpack it"),
    ("model.onnx", "onnx", lambda path: path.write_bytes(b"\x08\x07\x12"), "lava_meta.convert"),
    ("model.py", "python", lambda path: path.write_text("x = 1"), "model.py:FUNCTION"),
    ("settings.json", "json", lambda path: path.write_text("{}"), "lava-meta convert"),
    ("empty", "empty", lambda path: path.touch(), "copy or make it again"),
    ("folder", "folder", lambda path: path.mkdir(), "a file in it"),
    ("pipe", "special", os.mkfifo, "path of a file"),
    ("letter.txt", "unknown", lambda path: path.write_text("Dear reader"), "lava-meta train"),
]


@pytest.mark.parametrize(("name", "kind", "make", "use"), STRANGERS, ids=[row[0] for row in STRANGERS])
def test_files_of_others_are_named_with_the_call_that_takes_them(
    name: str, kind: str, make: Callable[[Path], object], use: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / name)
    found = what_is(tmp_path / name)
    assert found.kind == kind
    assert use in found.use
    with pytest.raises(FormatError, match=f"{name} is ") as error:
        lava_meta.load(tmp_path / name)
    assert found.what in str(error.value)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("activation", ["sign", "abs_step"])
def test_own_files_are_opened(tmp_path: Path, activation: Any) -> None:
    model = BinaryMLP([20, 9, 4], activation=activation, seed=0).eval()
    save_model(model, tmp_path / "model.safetensors")
    lava_meta.convert(model).save(tmp_path / "net.safetensors")
    lava_meta.online([20, 9, 4]).save(tmp_path / "learner.safetensors")
    for name, kind in (("model", MODEL), ("net", NETWORK), ("learner", "learner")):
        assert what_is(tmp_path / f"{name}.safetensors").kind == kind
    again = lava_meta.load(tmp_path / "model.safetensors")
    assert isinstance(again, BinaryMLP)
    assert not again.training
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (50, 20))).float()
    with torch.no_grad():
        assert torch.equal(again(pixels), model(pixels))
    assert isinstance(lava_meta.load(tmp_path / "net.safetensors"), lava_meta.LavaNetwork)
    assert isinstance(lava_meta.load(tmp_path / "learner.safetensors"), lava_meta.Learner)


def test_a_checkpoint_and_the_folders_lead_to_the_model(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint.safetensors", {"a": torch.ones(2)}, {"done": 1})
    assert "model.safetensors beside it" in what_is(tmp_path / "checkpoint.safetensors").use
    save_model(BinaryMLP([4, 3], seed=0), tmp_path / "model.safetensors")
    assert f"{tmp_path}/model.safetensors" in what_is(tmp_path).use
    (tmp_path / "bundle.json").touch()
    assert "network.safetensors" in what_is(tmp_path).use


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 40, 200, 2**63])
def test_headers_cut_anywhere_or_nested_deeply_are_damaged(length: int, tmp_path: Path) -> None:
    content = (min(length, 10**6)).to_bytes(8, "little") + (b'{"a":' + b"[" * 10**6)
    (tmp_path / "x.safetensors").write_bytes(content if length > 300 else content[:length])
    assert what_is(tmp_path / "x.safetensors").kind == ("empty" if length == 0 else "damaged")


def test_what_is_missing_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        require_kind(tmp_path / "nowhere", NETWORK)


@pytest.mark.parametrize("length", [0x0480, 0x8B1F])
def test_a_header_whose_length_looks_like_another_format(length: int, tmp_path: Path) -> None:
    """1,152 is 80 04 in bytes, which begins a pickle; 35,615 is 1f 8b, which begins a gzip archive."""
    header = json.dumps({"__metadata__": {"lava_meta": json.dumps({"format": "lava_meta.graph"})}}).encode()
    (tmp_path / "net").write_bytes(length.to_bytes(8, "little") + header.ljust(length))
    assert what_is(tmp_path / "net").kind == NETWORK
