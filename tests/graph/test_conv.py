"""The convolutional layer: its reference against loops over Python integers, its checks, and its file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from lava_meta.errors import FormatError
from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.graph.conv import ConvLayer, Pool, Window


def random_layer(rng: np.random.Generator, max_level: int | None = None) -> ConvLayer:
    """Any stride, padding, dilation, groups and pooling; thresholds among the sums, a channel or a position."""
    groups = int(rng.integers(1, 3))
    inputs, channels = groups * int(rng.integers(1, 3)), groups * int(rng.integers(1, 4))
    weight = rng.random((channels, inputs // groups, *rng.integers(1, 4, 2))) < 0.5
    shape = (inputs, *(int(n) for n in rng.integers(7, 11, 2)))
    window = {
        "stride": tuple(rng.integers(1, 3, 2).tolist()),
        "padding": tuple(rng.integers(0, 3, 2).tolist()),
        "dilation": tuple(rng.integers(1, 3, 2).tolist()),
    }
    bare = ConvLayer.from_weights(weight, shape, np.zeros(channels), groups=groups, **window)
    sum_window = Window((2, 1), tuple(rng.integers(1, 3, 2).tolist())) if rng.random() < 0.3 else None
    pools = []
    if rng.random() < 0.6 and min(bare.conv_shape[1:]) > 2:
        every = tuple(np.flatnonzero(rng.random(channels) < 0.3).tolist())
        pools.append(
            Pool((2, 2), tuple(rng.integers(1, 3, 2).tolist()), tuple(rng.integers(0, 2, 2).tolist()), (1, 1), every)
        )
    options = {"groups": groups, "sum_window": sum_window, "pools": tuple(pools)}
    layer = ConvLayer.from_weights(weight, shape, np.zeros(channels), **options, **window)
    reach = max(1, layer.fan_in * (max_level or 1) // 3)
    whole = layer.sums_shape if rng.random() < 0.5 else (channels, 1, 1)
    threshold = rng.integers(-reach, reach + 1, whole)
    return ConvLayer.from_weights(weight, shape, threshold, rng.choice([-1, 1], channels), **options, **window)


def slide(window: Window, image: list, outside) -> list:
    """Every window of a plane (rows of columns), as flat lists, row after row."""
    rows, columns = len(image), len(image[0])
    (kr, kc), (sr, sc), (pr, pc), (dr, dc) = window.kernel, window.stride, window.padding, window.dilation
    down = (rows + 2 * pr + window.after[0] - dr * (kr - 1) - 1) // sr + 1
    across = (columns + 2 * pc + window.after[1] - dc * (kc - 1) - 1) // sc + 1

    def at(r: int, c: int):
        return image[r][c] if 0 <= r < rows and 0 <= c < columns else outside

    return [
        [[at(y * sr + i * dr - pr, x * sc + j * dc - pc) for i in range(kr) for j in range(kc)] for x in range(across)]
        for y in range(down)
    ]


def by_hand(layer: ConvLayer, x: np.ndarray) -> list[int]:
    """One image (n_in,) through the layer, in Python integers, one unit at a time; +1 and -1."""
    image = x.reshape(layer.input_shape).astype(int).tolist()
    share_in, share_out = layer.input_shape[0] // layer.groups, layer.channels // layer.groups
    weight = layer.weight.reshape(layer.channels, share_in, -1).tolist()
    out = []
    for channel in range(layer.channels):
        first = channel // share_out * share_in
        planes = [slide(layer.window, image[first + k], 0) for k in range(share_in)]
        down, across = len(planes[0]), len(planes[0][0])
        sums = [[0] * across for _ in range(down)]
        for k, plane in enumerate(planes):
            for y in range(down):
                for z in range(across):
                    terms = zip(weight[channel][k], plane[y][z], strict=True)
                    sums[y][z] += sum(value if positive else -value for positive, value in terms)
        if layer.sum_window is not None:
            sums = [[sum(seen) for seen in row] for row in slide(layer.sum_window, sums, 0)]
        polarity, threshold = int(layer.polarity[channel]), layer.threshold[channel].tolist()
        signs = [
            [polarity * s >= (threshold[y][z] if layer.per_position else threshold[0][0]) for z, s in enumerate(row)]
            for y, row in enumerate(sums)
        ]
        for pool in layer.pools:
            judge = all if channel in pool.every else any
            signs = [
                [judge(sign for sign in seen if sign is not None) for seen in row] for row in slide(pool, signs, None)
            ]
        out += [1 if sign else -1 for row in signs for sign in row]
    return out


@pytest.mark.parametrize("seed", range(60))
def test_oracle_equals_plain_python(seed: int) -> None:
    rng = np.random.default_rng(seed)
    max_level = None if seed % 2 else 255
    layer = random_layer(rng, max_level)
    x = rng.choice([-1, 1], (2, layer.n_in)) if max_level is None else rng.integers(0, 256, (2, layer.n_in))
    found = np.where(layer.fires(layer.sums(x)), 1, -1)
    assert found.shape == (2, layer.n_out)
    assert found.tolist() == [by_hand(layer, image) for image in x]


@pytest.mark.parametrize("seed", range(20))
def test_windows_that_reach_outside(seed: int, tmp_path: Path) -> None:
    """Further rows and columns behind the convolution, the window of sums and the pooling; in files of version 3."""
    rng = np.random.default_rng(seed)
    weight = rng.random((3, 2, *rng.integers(1, 4, 2))) < 0.5

    def after() -> tuple[int, int]:
        return int(rng.integers(0, 3)), int(rng.integers(0, 3))

    layer = ConvLayer.from_weights(
        weight,
        (2, 6, 7),
        np.zeros(3),
        after=after(),
        padding=(0, 1),
        sum_window=Window((2, 2), (1, 2), (1, 0), after=after()),
        pools=(Pool((2, 2), (2, 1), after=after(), every=(1,)),),
    )
    x = rng.choice([-1, 1], (2, layer.n_in))
    assert np.where(layer.fires(layer.sums(x)), 1, -1).tolist() == [by_hand(layer, image) for image in x]
    graph = BinaryGraph((layer,), Readout.from_weights(np.ones((2, layer.n_out))), 1, layer.input_shape)
    graph.save(tmp_path / "net")
    loaded = BinaryGraph.load(tmp_path / "net").layers[0]
    assert (loaded.window, loaded.sum_window, loaded.pools) == (layer.window, layer.sum_window, layer.pools)


def conv_graph(rng: np.random.Generator) -> BinaryGraph:
    layer = random_layer(rng, 255)
    dense = DenseLayer.from_weights(rng.random((6, layer.n_out)) < 0.5, rng.integers(-3, 4, 6))
    return BinaryGraph((layer, dense), Readout.from_weights(rng.random((3, 6)) < 0.5), 255, layer.input_shape)


@pytest.mark.parametrize("seed", range(10))
def test_files_round_trip_to_equal_bytes(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    graph = conv_graph(rng)
    graph.save(tmp_path / "a.safetensors")
    loaded = BinaryGraph.load(tmp_path / "a.safetensors")
    loaded.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    images = rng.integers(0, 256, (20, *graph.input_shape)).astype(np.uint8)
    for name, value in graph.activations(images).items():
        assert np.array_equal(loaded.activations(images)[name], value)
    assert loaded.layers[0].to_dict() == graph.layers[0].to_dict()


def test_an_altered_byte_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    rng = np.random.default_rng(4)
    conv_graph(rng).save(path)
    whole = path.read_bytes()
    for i in range(0, len(whole), 3):
        altered = bytearray(whole)
        altered[i] ^= int(rng.integers(1, 256))
        path.write_bytes(altered)
        try:
            loaded = BinaryGraph.load(path)
        except FormatError:
            continue
        loaded.save(path)
        assert path.read_bytes() == whole


def test_the_files_of_dense_networks_stay_as_they_were(tmp_path: Path) -> None:
    weight = np.arange(15).reshape(3, 5) % 2 == 0
    layer = DenseLayer.from_weights(weight, np.array([-1, 0, 7]), np.array([1, -1, 1]), centred=True)
    readout = Readout.from_weights(np.arange(6).reshape(2, 3) % 3 == 0, np.array([1.0, 0.5]), np.array([0.0, -2.0]))
    BinaryGraph((layer,), readout, 16, (5,)).save(tmp_path / "net.safetensors")
    content = (tmp_path / "net.safetensors").read_bytes()
    assert b'\\"version\\": 1' in content
    assert hashlib.sha256(content).hexdigest() == "5d76187add82e53a255fe9f973840b38b4183e314aa4e9147089dd43c6f22281"


def test_summary_counts_stored_weights_and_their_uses() -> None:
    layer = ConvLayer.from_weights(
        np.ones((4, 2, 3, 3)), (2, 8, 8), np.zeros(4), padding=(1, 1), pools=(Pool((2, 2), (2, 2)),)
    )
    graph = BinaryGraph((layer,), Readout.from_weights(np.ones((10, 64))), 255, (2, 8, 8))
    row = graph.summary()[0]
    assert row == {
        "layer": "hidden1",
        "inputs": 128,
        "units": 64,
        "synapses": 72,
        "bits": 72 + 64 * 4 + 8 * 4,
        "operations": 4 * 64 * 18,
    }


@pytest.mark.parametrize("shape", [(5, 2, 8, 8), (5, 128)])
def test_images_come_in_the_networks_shape_or_flat(shape: tuple[int, ...]) -> None:
    layer = ConvLayer.from_weights(np.ones((1, 2, 3, 3)), (2, 8, 8), np.zeros(1))
    graph = BinaryGraph((layer,), Readout.from_weights(np.ones((2, 36))), 255, (2, 8, 8))
    assert graph.predict(np.zeros(shape, np.uint8)).shape == (5,)
    with pytest.raises(ValueError, match=r"expected \(n, 2, 8, 8\)"):
        graph.predict(np.zeros((5, 8, 8, 2), np.uint8))


def test_one_channel_may_go_unsaid() -> None:
    layer = ConvLayer.from_weights(np.ones((1, 1, 3, 3)), (1, 8, 7), np.zeros(1))
    graph = BinaryGraph((layer,), Readout.from_weights(np.ones((2, 30))), 255, (1, 8, 7))
    assert graph.predict(np.zeros((5, 8, 7), np.uint8)).shape == (5,)
    with pytest.raises(ValueError, match="images have shape"):
        graph.predict(np.zeros((5, 7, 8), np.uint8))


WEIGHT = np.ones((4, 1, 3, 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConvLayer.from_weights(WEIGHT, (1, 2, 8), np.zeros(4)), "does not fit 2x8"),
        (lambda: ConvLayer.from_weights(WEIGHT, (2, 8, 8), np.zeros(4)), "do not fit images"),
        (lambda: ConvLayer.from_weights(WEIGHT, (3, 8, 8), np.zeros(4), groups=3), "do not part into 3 groups"),
        (lambda: ConvLayer.from_weights(WEIGHT, (1, 8, 8), np.zeros(3)), "threshold is int64"),
        (
            lambda: ConvLayer.from_weights(WEIGHT, (1, 8, 8), np.zeros((4, 8, 8))),
            r"expected int64 \(4, 6, 6\)",
        ),
        (lambda: ConvLayer.from_weights(WEIGHT, (1, 8, 8), np.zeros(4), np.zeros(4)), "neither"),
        (lambda: ConvLayer.from_weights(WEIGHT, (8, 8), np.zeros(4)), "input_shape"),
        (lambda: ConvLayer.from_weights(WEIGHT, (1, 8, 8), np.zeros(4), stride=(0, 1)), "stride is"),
        (
            lambda: ConvLayer.from_weights(WEIGHT, (1, 8, 8), np.zeros(4), pools=(Pool((2, 2), every=(4,)),)),
            "names channels",
        ),
        (lambda: ConvLayer.from_weights(WEIGHT, (1, 8, 8), np.zeros(4), pools=(Pool((7, 7)),)), "does not fit 6x6"),
        (
            lambda: BinaryGraph(
                (ConvLayer.from_weights(WEIGHT, (1, 8, 8), np.zeros(4)),),
                Readout.from_weights(np.ones((2, 144))),
                255,
                (8, 8, 1),
            ),
            r"hidden1 takes \(channels, rows, columns\) = \(1, 8, 8\), but gets \(8, 8, 1\)",
        ),
    ],
)
def test_fields_that_do_not_fit_are_refused(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        make()
