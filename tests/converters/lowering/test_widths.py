"""Sums of any width: every form gives Python's integers, or refuses the layer by its name.

Inputs of 16 bits, signed and not, up to 40,000 of them, so that sums leave 32 bits; thresholds where sums are, at the
ends of int32 and int64, and everywhere between. A few networks run here, hundreds are marked slow.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lava_meta
from lava_meta.converters.lava import LavaNetwork
from lava_meta.errors import ConversionError
from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.graph.bits import pack, words
from lava_meta.graph.conv import ConvLayer, Pool, Window
from lava_meta.graph.dense import MOST_SUM, REACH
from lava_meta.graph.inputs import Binarize
from lava_meta.graph.norm import GroupNorm
from lava_meta.graph.packed import network
from lava_meta.graph.packed.network import LANES, PackedNetwork
from lava_meta.graph.spiking import DYNAMICS, RESETS, FixedLIF, LIFLayer, SpikingGraph
from lava_meta.loihi.stock import plan

ENDS = [sign * (2**bits + step) for sign in (-1, 1) for bits in (31, 32, 53, 62) for step in (-1, 0, 1)]
ENDS += [-(2**63), 1 - 2**63, 2**63 - 1]
INPUTS = (1, 2, 63, 65, 300, 33_000, 40_000)
LEVELS = ((0, 65535), (-32768, 32767), (-32768, 1), (-1, 32767), (0, 255), (-128, 127))
FORMS = ("packed", "floating_pt", "fixed_pt")


def by_integers(graph: BinaryGraph, images: np.ndarray) -> dict[str, np.ndarray]:
    """Every layer's output in Python's integers."""
    x = images.reshape(len(images), -1).astype(object)
    if graph.binarize is not None:
        x = signs(graph.binarize.polarity.astype(object) * x >= graph.binarize.threshold.astype(object))
    found = {}
    for name, layer in graph.named_layers():
        d = sums(layer, x)
        if isinstance(layer, Readout):
            found[name] = d
            break
        if layer.norm is not None:
            fires = normed(layer.norm, d.reshape(len(d), -1)).reshape(d.shape)
        else:
            polarity = layer.polarity.astype(object).reshape(-1, *[1] * (d.ndim - 2))
            fires = (polarity * d >= layer.threshold.astype(object)).astype(bool)
        for pool in getattr(layer, "pools", ()):
            fires = pool.signs(fires)
        x = found[name] = signs(fires.reshape(len(fires), -1))
    return found


def signs(fires: np.ndarray) -> np.ndarray:
    return np.where(fires.astype(bool), 1, -1).astype(object)


def sums(layer: Any, x: np.ndarray) -> np.ndarray:
    weight = np.where(layer.weight, 1, -1).astype(object)
    if isinstance(layer, ConvLayer):
        return layer.convolve(x, weight)
    s = x @ weight.T
    centred = isinstance(layer, DenseLayer) and layer.centred
    return layer.n_out * s - s.sum(axis=1, keepdims=True) if centred else s


def normed(norm: GroupNorm, s: np.ndarray) -> np.ndarray:
    """`gain * (z - mean) / sqrt(var + eps) + bias >= 0` in fractions."""
    units = s.shape[1]
    size = units // norm.groups
    z = s - norm.origin * (norm.row.astype(object) if norm.row.size else np.zeros(units, object))
    out = np.zeros(s.shape, bool)
    for image, first in np.ndindex(len(s), norm.groups):
        run = slice(first * size, (first + 1) * size)
        centred = [value - Fraction(sum(z[image, run])) / size for value in z[image, run]]
        spread = sum(value**2 for value in centred) / size + norm.epsilon
        for k, value in enumerate(centred, run.start):
            channel = k * norm.gain.size // units
            left, right = Fraction(norm.gain[channel]) * value, Fraction(norm.bias[channel])
            out[image, k] = left * abs(left) + right * abs(right) * spread >= 0
    return out


def draw(seed: int) -> tuple[BinaryGraph, np.ndarray]:
    """A network and images for it: dense, convolutional, centred, with norms, with binarized inputs."""
    rng = np.random.default_rng(seed)
    low, high = LEVELS[rng.integers(len(LEVELS))]
    conv = seed % 3 == 0
    shape = (int(rng.integers(1, 3)), 46, 46) if conv else (int(rng.choice(INPUTS)),)
    n_in = int(np.prod(shape))
    binarize = None
    if rng.random() < 0.15:
        binarize = Binarize(
            _among(rng, rng.integers(low, high + 1, n_in)), rng.choice(np.array([-1, 1], np.int8), n_in)
        )
    images = rng.choice([low, high, 0, int(rng.integers(low, high + 1))], (4, n_in))
    images[0], images[1] = low, high
    layers: list[Any] = []
    x = images.astype(object)
    if binarize is not None:
        x = signs(binarize.polarity * images >= binarize.threshold)
    for i in range(int(rng.integers(0 if not conv else 1, 3))):
        convolution = conv and i == 0
        layers.append(_conv(rng, shape, x) if convolution else _dense(rng, x, first=i == 0 and binarize is None))
        made = BinaryGraph(tuple(layers), _readout(rng, layers[-1].n_out), high, shape, low, False, binarize)
        x = by_integers(made, images)[f"hidden{i + 1}"]
    readout = _readout(rng, x.shape[1])
    return BinaryGraph(tuple(layers), readout, high, shape, low, False, binarize), images


def _readout(rng: np.random.Generator, n_in: int) -> Readout:
    return Readout.from_weights(_weights(rng, 3, n_in), rng.choice([1.0, 0.5, -1.0], 3), rng.normal(size=3))


def _weights(rng: np.random.Generator, units: int, n_in: int) -> np.ndarray:
    return rng.random((units, n_in)) < rng.choice([0.0, 0.5, 1.0], (units, 1))


def _among(rng: np.random.Generator, near: np.ndarray) -> np.ndarray:
    """Thresholds: some of `near`, where ties are, or one beside; the others at the ends."""
    ends = np.array([ENDS[i] for i in rng.integers(len(ENDS), size=near.shape).flat], object).reshape(near.shape)
    return np.where(rng.random(near.shape) < 0.6, near + rng.integers(-1, 2, near.shape), ends).astype(np.int64)


def _dense(rng: np.random.Generator, x: np.ndarray, first: bool) -> DenseLayer:
    units = int(rng.integers(1, 5))
    weight = _weights(rng, units, x.shape[1])
    if rng.random() < 0.2:
        row = 2 * weight.sum(axis=1) - x.shape[1]
        return DenseLayer.from_weights(weight, np.zeros(units), norm=_norm(rng, units, row if first else None))
    polarity, centred = rng.choice([-1, 1], units), bool(rng.random() < 0.3)
    d = sums(DenseLayer.from_weights(weight, np.zeros(units), centred=centred), x)
    return DenseLayer.from_weights(weight, _among(rng, polarity * d[rng.integers(len(d))]), polarity, centred=centred)


def _conv(rng: np.random.Generator, shape: tuple[int, ...], x: np.ndarray) -> ConvLayer:
    """Sums over wide windows, so that few channels sum many inputs."""
    options = {
        "sum_window": Window((41, 41), (3, 2), (1, 0)) if rng.random() < 0.7 else None,
        "pools": (Pool((2, 1), every=(0,)),),
        "stride": (1, 1) if rng.random() < 0.5 else (2, 1),
    }
    if options["stride"] == (2, 1):
        options["sum_window"] = Window((20, 41)) if rng.random() < 0.5 else None
    weight = _weights(rng, 2, shape[0] * 9).reshape(2, shape[0], 3, 3)
    plain = ConvLayer.from_weights(weight, shape, np.zeros(2), **options)
    polarity = rng.choice([-1, 1], 2)
    d = polarity[:, None, None] * sums(plain, x)[rng.integers(len(x))]
    threshold = _among(rng, d) if rng.random() < 0.5 else _among(rng, d[:, :1, :1])
    return ConvLayer.from_weights(weight, shape, threshold, polarity, **options)


def _norm(rng: np.random.Generator, units: int, row: np.ndarray | None) -> GroupNorm:
    origin = Fraction(0) if row is None else Fraction(rng.choice([0.0, 3.0, 32767.5, 0.1]))
    return GroupNorm(
        int(rng.choice([groups for groups in (1, units) if units % groups == 0])),
        rng.choice([1.0, -1.0, 0.0, 1e-300], units),
        rng.choice([0.0, 1.0, -1.0, 1e300], units),
        Fraction(rng.choice([1e-5, 1e-320, 1e10])),
        origin,
        row.astype(np.int64) if origin else np.zeros(0, np.int64),
    )


def refused(message: str, run: Callable[[], Any]) -> None:
    """Runs, or raises `ConversionError` with this message."""
    try:
        run()
    except ConversionError as error:
        if not re.match(message, str(error)):
            raise


def through_nir(graph: BinaryGraph) -> BinaryGraph:
    return lava_meta.from_nir(lava_meta.to_nir(graph)).graph


def in_lava(graph: BinaryGraph, images: np.ndarray, form: str) -> dict[str, np.ndarray]:
    with LavaNetwork(graph, form=form) as net:
        return net.activations(images, lanes=3)


def agree(seed: int, seen: Counter, tmp_path: Path, forms: tuple[str, ...] = ()) -> None:
    graph, images = draw(seed)
    expected = by_integers(graph, images)

    def check(form: str, found: dict[str, np.ndarray]) -> None:
        assert list(found) == list(expected), (seed, form)
        for name in expected:
            assert found[name].tolist() == expected[name].tolist(), (seed, form, name)
        seen[form] += 1

    check("reference", graph.activations(images))
    for products_from in (1, LANES + 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(network, "PRODUCTS_FROM", products_from)
            check("kernels", PackedNetwork(graph).activations(graph.check_images(images)))
    graph.save(tmp_path / "net")
    loaded = BinaryGraph.load(tmp_path / "net")
    check("file", loaded.activations(images))
    assert all(np.array_equal(a.threshold, b.threshold) for a, b in zip(graph.layers, loaded.layers, strict=True))
    refused("(hidden|inputs).*(norm|kernel)", lambda: check("nir", through_nir(graph).activations(images)))
    if not forms:
        refused("(hidden|readout|inputs)", lambda: plan(graph))
    for form in forms:
        refused(
            "(hidden|readout|inputs)" if form == "stock" else "$",
            lambda form=form: check(form, in_lava(graph, images, form)),
        )
    seen["wide sums"] += int(max(abs(int(u)) for u in expected["readout"].flat) >= 2**31)
    seen["wide thresholds"] += sum(int((abs(layer.threshold.astype(object)) > 2**62).sum()) for layer in graph.layers)
    for layer in graph.layers:
        seen["centred"] += getattr(layer, "centred", False)
        seen["norms"] += layer.norm is not None
        seen["convolutions"] += isinstance(layer, ConvLayer)
    seen["binarized"] += graph.binarize is not None


def test_thirty_networks_agree_with_pythons_integers(tmp_path: Path) -> None:
    seen: Counter = Counter()
    for seed in range(30):
        agree(seed, seen, tmp_path)
    for kind in ("wide sums", "wide thresholds", "centred", "norms", "convolutions", "binarized", "nir"):
        assert seen[kind] > 0, seen


@pytest.mark.lava
@pytest.mark.parametrize("form", [*FORMS, "stock"])
@pytest.mark.parametrize("seed", [1, 6])
def test_lava_agrees_with_pythons_integers(seed: int, form: str, tmp_path: Path) -> None:
    agree(seed, Counter(), tmp_path, (form,))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_hundreds_of_networks_agree_with_pythons_integers(tmp_path: Path) -> None:
    seen: Counter = Counter()
    for seed in range(1000, 1600):
        agree(seed, seen, tmp_path)
    print(dict(seen))


@pytest.mark.slow
@pytest.mark.lava
@pytest.mark.timeout(1200)
def test_more_networks_agree_in_every_form_of_lava(tmp_path: Path) -> None:
    seen: Counter = Counter()
    for seed in range(2000, 2060):
        agree(seed, seen, tmp_path, (*FORMS, "stock"))
    print(dict(seen))
    assert seen["stock"] > 0


def wide_readout() -> tuple[BinaryGraph, np.ndarray]:
    weight = np.array([[True], [False]]) & np.ones(40_000, bool)
    return BinaryGraph((), Readout.from_weights(weight), 65535, (40_000,)), np.full((3, 40_000), 60_000, np.uint16)


@pytest.mark.lava
@pytest.mark.parametrize("form", FORMS)
def test_a_readout_beyond_32_bits(form: str) -> None:
    graph, images = wide_readout()
    net = LavaNetwork(graph, form=form)
    assert net.sums(images).tolist() == [[2_400_000_000, -2_400_000_000]] * 3
    assert net.predict(images).tolist() == [0, 0, 0]


@pytest.mark.lava
def test_a_ring_of_ones_own_holds_them_or_says_that_it_does_not() -> None:
    from lava.magma.core.run_configs import Loihi2SimCfg

    from lava_meta.errors import RunError
    from lava_meta.processes.binary_network.process import BinaryNetwork
    from lava_meta.processes.ring import Ring
    from lava_meta.processes.runtime import Supervised
    from lava_meta.processes.stream.process import Sink, Source

    graph, images = wide_readout()
    for dtype in (np.int64, np.int32):
        process, given, taken = BinaryNetwork(graph=graph), Ring((1, 40_000), np.int32), Ring((1, 2), dtype)
        Source(ring=given).s_out.connect(process.s_in)
        process.out.connect(Sink(ring=taken).a_in)
        given.put(images[:1])
        with Supervised(process, Loihi2SimCfg(), timeout=30) as run:
            if dtype is np.int64:
                run.steps(1)
                assert taken.get().tolist() == [[2_400_000_000, -2_400_000_000]]
            else:
                with pytest.raises(RunError, match=r"from -2,400,000,000 to 2,400,000,000; this ring is of int32"):
                    run.steps(1)


def test_the_threshold_at_the_end_of_int64_on_signed_inputs() -> None:
    """Every sum reaches it, for either sign of the weights."""
    layer = DenseLayer.from_weights(np.ones((2, 4)) * [[-1], [1]], np.full(2, np.iinfo(np.int64).min))
    graph = BinaryGraph((layer,), Readout.from_weights(np.ones((1, 2))), 127, (4,), min_level=-128)
    found = PackedNetwork(graph).activations(np.zeros((1, 4), np.int8))
    assert found["hidden1"].tolist() == [[1, 1]]


def _rows(n_out: int, n_in: int) -> np.ndarray:
    """Weights of -1 that take no memory."""
    return np.broadcast_to(np.uint64(0), (n_out, words(n_in)))


def test_sums_beyond_what_fits_are_refused_by_layer_and_bound() -> None:
    n_in = 2**38
    readout = Readout(_rows(2, n_in), n_in, np.ones(2), np.zeros(2))
    with pytest.raises(ValueError, match=f"readout can sum to {n_in * 65535:,}; sums of up to {MOST_SUM:,}"):
        BinaryGraph((), readout, 65535, (n_in,))
    n_in, units = 2**24, 2**22
    fields = np.zeros(units, np.int64), np.ones(units, np.int8)
    after = Readout(_rows(1, units), units, np.ones(1), np.zeros(1))
    assert BinaryGraph((DenseLayer(_rows(units, n_in), n_in, *fields),), after, 65535, (n_in,)).reach() == {
        "hidden1": n_in * 65535,
        "readout": units,
    }
    centred = DenseLayer(_rows(units, n_in), n_in, *fields, centred=True)
    bound = 2 * units * n_in * 65535
    with pytest.raises(
        ValueError, match=f"hidden1 subtracts the mean of .*, which can make {bound:,}; up to {REACH:,}"
    ):
        BinaryGraph((centred,), after, 65535, (n_in,))


def test_a_norm_over_sums_beyond_float64_is_decided_exactly() -> None:
    """Sums near 2**59 of which the inputs' offset leaves a few units, on the mean and beside it."""
    rng = np.random.default_rng(0)
    row = rng.integers(-(2**57), 2**57, 4)
    norm = GroupNorm(1, np.ones(4), np.array([0.0, 0.1, -0.1, 0.5]), Fraction(1e-5), Fraction(3), row)
    s = 3 * row + rng.integers(-2, 3, (50, 4))
    assert norm.fires(s).tolist() == normed(norm, s.astype(object)).tolist()


def test_a_first_convolution_of_more_inputs_than_the_kernels_count_is_refused() -> None:
    side = 4105  # its square times 255 is more than 2**32
    layer = ConvLayer.from_weights(np.ones((1, 1, side, side), bool), (1, side, side), np.zeros(1))
    graph = BinaryGraph((layer,), Readout.from_weights(np.ones((1, 1))), 255, (1, side, side))
    with pytest.raises(ConversionError, match="hidden1 has kernels of 16,851,025 inputs"):
        PackedNetwork(graph)


def lif(reset: str, *thresholds: float) -> LIFLayer:
    units = len(thresholds)
    ones = np.ones(units, np.float32)
    return LIFLayer(pack(np.ones((units, 5), bool)), 5, ones, np.array(thresholds, np.float32), 1.0, reset)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("form", DYNAMICS)
def test_spiking_thresholds_of_any_size(form: str, reset: str) -> None:
    """One that no potential reaches, and one that all do."""
    graph = SpikingGraph((lif(reset, 1e30, -1e30),), 65535, 0, (5,))
    spikes = graph.spikes(np.full((1, 5), 65535), 200, form)["output"]
    assert (spikes == [0, 1]).all()


def test_a_potential_saturates_and_does_not_wrap() -> None:
    neurons = FixedLIF(lif("none", 1.0))
    for v in (2**51, 2**62):
        neurons.v = np.array([[v]])
        assert neurons.step(np.zeros((1, 1))).tolist() == [[True]]
        assert neurons.v.tolist() == [[2**50]]


@pytest.mark.slow
def test_more_pixels_than_products_of_bytes_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "PRODUCTS_FROM", 1)
    n_in = 17_000_000
    graph = BinaryGraph((), Readout.from_weights(np.ones((1, n_in), bool)), 255, (n_in,))
    assert PackedNetwork(graph).sums(np.full((1, n_in), 255, np.uint8)).tolist() == [[255 * n_in]]
