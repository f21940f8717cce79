"""NIR files from outside: what is whole is read as `nir.read` reads it, and no damage ends or stops this process."""

from __future__ import annotations

import multiprocessing
import random
import time
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest

import lava_meta
from lava_meta.converters.nir import file as nir_file
from lava_meta.converters.nir.file import read_nir
from lava_meta.errors import ConversionError, FormatError, TooLargeError
from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.graph.conv import ConvLayer, Pool, Window

SEED = 20261129


def network(seed: int = 0) -> BinaryGraph:
    rng = np.random.default_rng(seed)
    conv = ConvLayer.from_weights(
        rng.normal(size=(2, 1, 3, 3)), (1, 6, 6), np.array([1, -2]), pools=(Pool((2, 2), (2, 2)),)
    )
    conv = ConvLayer(**vars(conv) | {"window": Window((3, 3), padding=(1, 1))})
    hidden = DenseLayer.from_weights(rng.normal(size=(5, conv.n_out)), rng.integers(-4, 4, 5))
    return BinaryGraph((conv, hidden), Readout.from_weights(rng.normal(size=(3, 5))), 15, (1, 6, 6))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    nir.write(tmp_path / "net.nir", lava_meta.to_nir(network()))
    return tmp_path / "net.nir"


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.asarray(a).dtype == np.asarray(b).dtype and np.array_equal(a, b)
    return type(a) is type(b) and bool(a == b)


def test_what_nir_read_reads(path: Path) -> None:
    assert same(read_nir(path).to_dict(), nir.read(path).to_dict())
    images = np.random.default_rng(1).integers(0, 16, (50, 1, 6, 6))
    assert np.array_equal(lava_meta.from_nir(path).graph.sums(images), network().sums(images))
    assert np.array_equal(lava_meta.from_nir(str(path)).graph.sums(images), network().sums(images))


def test_what_is_no_nir(tmp_path: Path, path: Path) -> None:
    (tmp_path / "text").write_text("no HDF5")
    with h5py.File(tmp_path / "other", "w") as file:
        file["x"] = np.zeros(3)
    for name, says in (("text", "not a whole NIR file: .*signature"), ("other", "node")):
        with pytest.raises(FormatError, match=rf"{name}.*{says}"):
            lava_meta.from_nir(tmp_path / name)
    with pytest.raises(FormatError, match="is a folder, and not a file"):
        lava_meta.from_nir(tmp_path)
    with pytest.raises(FileNotFoundError):
        lava_meta.from_nir(tmp_path / "missing")
    with h5py.File(path, "r+") as file:
        del file["node/nodes/hidden1/weight"]
    with pytest.raises(FormatError, match=r"net\.nir"):
        lava_meta.from_nir(path)


def test_links_to_other_places_are_not_followed(tmp_path: Path, path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"precious" * 100)
    with h5py.File(path, "r+") as file:
        node = file["node/nodes/hidden1"]
        del node["weight"]
        node["weight"] = h5py.ExternalLink(str(tmp_path / "secret"), "/x")
    with pytest.raises(FormatError, match="weight is a link to another place"):
        lava_meta.from_nir(path)
    with h5py.File(path, "r+") as file:
        node = file["node/nodes/hidden1"]
        del node["weight"]
        node.create_dataset("weight", (2, 1, 3, 3), "f8", external=[(str(tmp_path / "secret"), 0, 144)])
    with pytest.raises(FormatError, match="lies in another file"):
        lava_meta.from_nir(path)


def test_groups_that_lead_round_in_circles(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["node/nodes/again"] = file["node"]
    with pytest.raises(FormatError, match="round in circles"):
        lava_meta.from_nir(path)


@pytest.mark.parametrize("shape", [(200_000, 200_000), (6_000, 6_000)])
def test_a_few_bytes_that_declare_gigabytes(shape: tuple[int, int], path: Path) -> None:
    with h5py.File(path, "r+") as file:
        node = file["node/nodes/hidden2"]
        del node["weight"]
        node.create_dataset("weight", shape, "f8", chunks=(1000, 1000), compression="gzip")
    with pytest.raises(TooLargeError, match="asks for more memory than a file of its size may"):
        lava_meta.from_nir(path)


def test_a_declared_input_of_any_size(path: Path) -> None:
    graph = nir.read(path)
    graph.nodes["input"] = nir.Input(np.array([2**40, 2**20]))
    with pytest.raises(ConversionError):
        lava_meta.from_nir(graph)


def _read(path: Path, queue: Any) -> None:
    queue.put(len(read_nir(path).nodes))


def test_in_a_daemonic_process(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_read, args=(path, queue), daemon=True)
    process.start()
    assert queue.get(timeout=60) == len(nir.read(path).nodes)
    process.join()


@pytest.mark.parametrize(
    ("child", "says"),
    [
        ("import os\nos.kill(os.getpid(), 11)", r"the HDF5 library failed on it \(exit code -11\)"),
        ("while True: pass", "was not done with it after 1 s"),
        ("import json\nprint(json.dumps({'tree': {'group': {}}, 'arrays': [['<f8', [1000]]]}))", "middle of an array"),
        ("print('[')", "net"),
        ("print('{}')", "net"),
        ("import json\nprint(json.dumps({'tree': {'array': 7}, 'arrays': []}))", "net"),
    ],
)
def test_a_library_that_fails(
    child: str, says: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crashes, hangs, and half an answer, as the HDF5 library's own would be."""
    (tmp_path / "child.py").write_text(child)
    monkeypatch.setattr(nir_file, "_SCRIPT", tmp_path / "child.py")
    monkeypatch.setattr(nir_file, "_LEAST_SECONDS", 1 if "while" in child else 60)
    with pytest.raises(FormatError, match=says):
        lava_meta.from_nir(path)


def damaged(whole: bytes, draw: random.Random) -> bytes:
    """Some bytes altered, or the end cut off."""
    content = bytearray(whole)
    if draw.random() < 0.1:
        return bytes(content[: draw.randrange(len(content))])
    for _ in range(draw.choice([1, 1, 2, 8])):
        content[draw.randrange(len(content))] = draw.choice([0, 255, draw.randrange(256)])
    return bytes(content)


@pytest.mark.parametrize("seed", [363, 1218, 2366])
def test_files_that_never_end_in_the_library(seed: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 2.0.0 takes gigabytes for the first two and is not done with the third after a minute."""
    monkeypatch.setattr(nir_file, "_LEAST_SECONDS", 10)
    path.write_bytes(damaged(path.read_bytes(), random.Random(seed)))
    with pytest.raises(FormatError, match=r"net\.nir is (not a whole NIR file|damaged)"):
        lava_meta.from_nir(path)


def fuzz(path: Path, files: int, seed: int) -> dict[str, int]:
    draw, whole = random.Random(seed), path.read_bytes()
    counts = {"read": 0, "refused": 0, "slowest": 0}
    for i in range(files):
        path.write_bytes(damaged(whole, draw))
        begin = time.monotonic()
        try:
            graph = lava_meta.from_nir(path).graph
            graph.predict(np.full((1, *graph.input_shape), graph.max_level))
            counts["read"] += 1
        except (FormatError, TooLargeError, ConversionError):
            counts["refused"] += 1
        except Exception as error:
            raise AssertionError(f"file {i} of seed {seed}: {error!r}") from error
        counts["slowest"] = max(counts["slowest"], int(time.monotonic() - begin))
    return counts


def test_damaged_files(path: Path) -> None:
    counts = fuzz(path, 8, SEED)
    assert min(counts["read"], counts["refused"]) > 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_damaged_files(path: Path) -> None:
    counts = fuzz(path, 1500, SEED)
    assert min(counts["read"], counts["refused"]) > 100
