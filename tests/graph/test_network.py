"""The integer network: its reference implementation against plain loops, its checks, and its file."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_meta.errors import FormatError
from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.graph.bits import pack, unpack


def random_graph(rng: np.random.Generator, sizes: list[int], max_level: int = 255) -> BinaryGraph:
    layers = []
    for i, (n_in, n_out) in enumerate(pairwise(sizes[:-1])):
        reach = n_in * (max_level if i == 0 else 1) // 3 + 1
        layers.append(
            DenseLayer.from_weights(
                rng.random((n_out, n_in)) < 0.5,
                rng.integers(-reach, reach + 1, n_out),
                rng.choice([-1, 1], n_out),
                centred=bool(rng.random() < 0.3),
            )
        )
    readout = Readout.from_weights(
        rng.random((sizes[-1], sizes[-2])) < 0.5, rng.normal(size=sizes[-1]), rng.normal(size=sizes[-1])
    )
    return BinaryGraph(tuple(layers), readout, max_level, (sizes[0],))


def by_hand(graph: BinaryGraph, image: np.ndarray) -> tuple[list[list[int]], list[int], int]:
    """One image in plain Python integers."""
    x = [int(p) for p in image]
    hidden = []
    for layer in graph.layers:
        s = [sum(v if w else -v for v, w in zip(x, row, strict=True)) for row in layer.weight.tolist()]
        d = [layer.n_out * v - sum(s) for v in s] if layer.centred else s
        x = [
            1 if int(p) * v >= int(t) else -1
            for v, p, t in zip(d, layer.polarity.tolist(), layer.threshold.tolist(), strict=True)
        ]
        hidden.append(x)
    u = [sum(v if w else -v for v, w in zip(x, row, strict=True)) for row in graph.readout.weight.tolist()]
    values = [a * v + b for a, v, b in zip(graph.readout.scale.tolist(), u, graph.readout.offset.tolist(), strict=True)]
    return hidden, u, values.index(max(values))


@pytest.mark.parametrize("seed", range(30))
def test_oracle_equals_plain_python(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = [int(n) for n in rng.integers(1, 80, int(rng.integers(2, 5)))]
    graph = random_graph(rng, sizes, max_level=int(rng.choice([1, 16, 255])))
    images = rng.integers(0, graph.max_level + 1, (5, sizes[0])).astype(np.uint8)
    found, classes = graph.activations(images), graph.predict(images)
    for n, image in enumerate(images):
        hidden, u, best = by_hand(graph, image)
        assert [found[f"hidden{i}"][n].tolist() for i in range(1, len(sizes) - 1)] == hidden
        assert found["readout"][n].tolist() == u
        assert classes[n] == best


@given(st.integers(1, 200), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_packing_round_trip(n: int, seed: int) -> None:
    positive = np.random.default_rng(seed).random((3, n)) < 0.5
    packed = pack(positive)
    assert packed.dtype == np.uint64
    assert np.array_equal(unpack(packed, n), positive)
    for i in range(n):
        assert (int(packed[0, i // 64]) >> (i % 64)) & 1 == positive[0, i]


def test_ties_take_the_first_class() -> None:
    readout = Readout.from_weights(np.ones((3, 2)))
    assert readout.classes(np.array([[5, 5, 5], [1, 2, 2]])).tolist() == [0, 1]


def test_images_of_any_shape_and_integer_type_are_read_alike() -> None:
    graph = random_graph(np.random.default_rng(0), [16, 8, 3])
    images = np.random.default_rng(1).integers(0, 256, (6, 4, 4)).astype(np.uint8)
    expected = graph.predict(images)
    for same in (images.reshape(6, 16), images.astype(np.int64), torch.from_numpy(images), images[:, None]):
        assert np.array_equal(graph.predict(same), expected)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (
            np.full((2, 16), 0.5),
            TypeError,
            "images are float64 and hold 0.5; this network takes unsigned integers 0 to 16",
        ),
        (np.zeros((2, 16), bool), TypeError, "images are bool"),
        (np.zeros((2, 15), np.uint8), ValueError, r"shape \(2, 15\); expected \(n, 16\)"),
        (np.zeros(16, np.uint8), ValueError, "shape"),
        (np.zeros((0, 16), np.uint8), ValueError, "no images"),
        (np.full((2, 16), 17, np.uint8), ValueError, "run from 17 to 17; this network takes 0 to 16"),
        (np.full((2, 16), -1), ValueError, "from -1"),
    ],
)
def test_wrong_images_are_refused(images: np.ndarray, error: type[Exception], message: str) -> None:
    graph = random_graph(np.random.default_rng(0), [16, 8, 3], max_level=16)
    with pytest.raises(error, match=message):
        graph.predict(images)


def _layer(n_in: int = 4, n_out: int = 3) -> DenseLayer:
    return DenseLayer.from_weights(np.ones((n_out, n_in)), np.zeros(n_out))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DenseLayer.from_weights(np.ones((3, 4)), np.zeros(2)), "threshold is int64"),
        (lambda: DenseLayer.from_weights(np.ones((3, 4)), np.zeros(3), np.zeros(3)), "neither"),
        (lambda: DenseLayer.from_weights(np.array([[np.nan]]), np.zeros(1)), "not finite"),
        (lambda: DenseLayer.from_weights(np.ones(4), np.zeros(1)), r"\(outputs, inputs\)"),
        (
            lambda: DenseLayer(np.full((1, 1), 16, np.uint64), 4, np.zeros(1, np.int64), np.ones(1, np.int8)),
            "past input",
        ),
        (lambda: Readout.from_weights(np.ones((2, 2)), scale=np.array([1, np.inf])), "scale holds"),
        (lambda: BinaryGraph((_layer(),), Readout.from_weights(np.ones((2, 9))), 255, (4,)), "readout takes 9 inputs"),
        (lambda: BinaryGraph((_layer(5),), Readout.from_weights(np.ones((2, 3))), 255, (4,)), "hidden1 takes 5"),
        (lambda: BinaryGraph((), Readout.from_weights(np.ones((2, 3))), 0, (3,)), "max_level"),
        (lambda: BinaryGraph((), Readout.from_weights(np.ones((2, 3))), 255, ()), "input_shape"),
    ],
)
def test_fields_that_do_not_fit_are_refused(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        make()


def test_files_round_trip_to_equal_bytes(tmp_path: Path) -> None:
    graph = random_graph(np.random.default_rng(2), [70, 33, 65, 10])
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    graph.save(first)
    loaded = BinaryGraph.load(first)
    loaded.save(second)
    assert first.read_bytes() == second.read_bytes()
    images = np.random.default_rng(3).integers(0, 256, (40, 70)).astype(np.uint8)
    assert np.array_equal(loaded.sums(images), graph.sums(images))
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors", "b.safetensors"]


def test_an_altered_byte_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    graph = random_graph(np.random.default_rng(2), [9, 5, 3])
    graph.save(path)
    whole = path.read_bytes()
    harmless = 0  # white space of the header for other white space
    rng = np.random.default_rng(0)
    for i in range(len(whole)):
        altered = bytearray(whole)
        altered[i] ^= int(rng.integers(1, 256))
        path.write_bytes(altered)
        try:
            loaded = BinaryGraph.load(path)
        except FormatError:
            continue
        harmless += 1
        loaded.save(path)
        assert path.read_bytes() == whole
    assert harmless < len(whole) / 20


@pytest.mark.parametrize("length", [0, 7, 100, 700])
def test_truncated_files_are_noticed(tmp_path: Path, length: int) -> None:
    path = tmp_path / "net.safetensors"
    random_graph(np.random.default_rng(2), [9, 5, 3]).save(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(FormatError):
        BinaryGraph.load(path)


def test_a_failed_save_leaves_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.safetensors"
    graph = random_graph(np.random.default_rng(2), [9, 5, 3])
    graph.save(path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        graph.save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_summary_counts_what_is_there() -> None:
    rows = random_graph(np.random.default_rng(0), [784, 512, 10]).summary()
    assert [row["layer"] for row in rows] == ["hidden1", "readout"]
    assert [row["synapses"] for row in rows] == [784 * 512, 5120]
    # One bit a synapse, 64 a threshold and 8 a polarity; two float64 a class.
    assert [row["bits"] for row in rows] == [784 * 512 + 72 * 512, 5120 + 128 * 10]
