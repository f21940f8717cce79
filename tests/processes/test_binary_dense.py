"""Binary layers against their equations written out in Python integers, as floating and as fixed point."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("lava.magma")

from lava.magma.core.run_configs import Loihi2SimCfg

from lava_meta.errors import RunError
from lava_meta.graph import DenseLayer, Readout
from lava_meta.processes.binary_dense.process import BinaryDense, BinaryReadout
from lava_meta.processes.ring import Ring
from lava_meta.processes.runtime import Supervised
from lava_meta.processes.stream.process import Sink, Source

pytestmark = [pytest.mark.lava, pytest.mark.timeout(60), pytest.mark.usefixtures("nothing_left")]

SEED = 20


def expected_sums(weight: np.ndarray, x: np.ndarray) -> list[list[int]]:
    """`W x` in Python's own integers."""
    signs = np.where(weight, 1, -1).tolist()
    return [[sum(w * p for w, p in zip(row, image, strict=True)) for row in signs] for image in x.tolist()]


def expected_signs(layer: DenseLayer, x: np.ndarray) -> list[list[int]]:
    """The layer's equation, one unit at a time."""
    out = []
    for sums in expected_sums(layer.weight, x):
        d = [layer.n_out * s - sum(sums) for s in sums] if layer.centred else sums
        units = zip(layer.polarity.tolist(), d, layer.threshold.tolist(), strict=True)
        out.append([1 if polarity * value >= threshold else -1 for polarity, value, threshold in units])
    return out


def through_lava(process, x: np.ndarray, lanes: int, tag: str) -> np.ndarray:
    """Pass x (steps * lanes, n_in) through a Process with ports `s_in` and `s_out`."""
    inlet = Ring(process.s_in.shape, np.int32, slots=len(x) // lanes)
    outlet = Ring(process.s_out.shape, np.int64, slots=len(x) // lanes)
    source, sink = Source(ring=inlet), Sink(ring=outlet)
    source.s_out.connect(process.s_in)
    process.s_out.connect(sink.a_in)
    batches = x.reshape(-1, lanes, x.shape[1])
    for batch in batches:
        inlet.put(batch)
    with Supervised(process, Loihi2SimCfg(select_tag=tag), timeout=20) as run:
        run.steps(len(batches))
        return np.concatenate([outlet.get() for _ in batches])


def random_inputs(rng: np.random.Generator, n: int, n_in: int, max_level: int | None) -> np.ndarray:
    if max_level is None:
        return rng.choice([-1, 1], (n, n_in))
    x = rng.integers(0, max_level + 1, (n, n_in))
    x[0], x[1] = 0, max_level  # the extremes
    return x


@pytest.mark.parametrize("tag", ["floating_pt", "fixed_pt"])
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("max_level", [None, 255, 65535])
@pytest.mark.parametrize(("n_in", "n_out", "lanes"), [(1, 1, 1), (63, 9, 3), (130, 65, 4)])
def test_a_layer_computes_its_equation(n_in, n_out, lanes, max_level, centred, tag):
    rng = np.random.default_rng(SEED)
    x = random_inputs(rng, 12, n_in, max_level)
    weight = rng.random((n_out, n_in)) < 0.5
    polarity = rng.choice(np.array([-1, 1], np.int8), n_out)
    # Thresholds that some image meets exactly, and some that are missed by one, on either side.
    sums = np.array(expected_sums(weight, x))
    d = n_out * sums - sums.sum(axis=1, keepdims=True) if centred else sums
    met = polarity * d[rng.integers(0, 12, n_out), np.arange(n_out)]
    layer = DenseLayer.from_weights(weight, met + rng.integers(-1, 2, n_out), polarity, centred=centred)
    process = BinaryDense(layer=layer, lanes=lanes, max_level=max_level)
    assert through_lava(process, x, lanes, tag).tolist() == expected_signs(layer, x)


@pytest.mark.parametrize("tag", ["floating_pt", "fixed_pt"])
def test_sums_above_what_float32_holds_are_exact(tag):
    # 300 * 65535 is above 2**24: float32 would lose the odd ones.
    rng = np.random.default_rng(SEED)
    readout = Readout.from_weights(np.ones((3, 301), bool))
    x = 65535 - rng.integers(0, 2, (4, 301))
    out = through_lava(BinaryReadout(layer=readout, lanes=2, max_level=65535), x, 2, tag)
    assert out.tolist() == expected_sums(readout.weight, x)
    assert (out > 2**24).all()
    assert (out % 2).any()


@pytest.mark.parametrize("tag", ["floating_pt", "fixed_pt"])
@pytest.mark.parametrize("lanes", [1, 5])
def test_a_readout_gives_sums(lanes, tag):
    rng = np.random.default_rng(SEED)
    readout = Readout.from_weights(rng.random((7, 100)) < 0.5)
    x = random_inputs(rng, 10, 100, None)
    assert through_lava(BinaryReadout(layer=readout, lanes=lanes), x, lanes, tag).tolist() == expected_sums(
        readout.weight, x
    )


@pytest.mark.parametrize("tag", ["floating_pt", "fixed_pt"])
@pytest.mark.parametrize(
    ("max_level", "value", "message"),
    [(None, 0, "received another value"), (15, 16, "pixels run from"), (15, -1, "pixels run from -1")],
)
def test_inputs_that_do_not_belong_are_refused(max_level, value, message, tag):
    layer = DenseLayer.from_weights(np.ones((2, 4)), np.zeros(2))
    x = np.ones((1, 4), int)
    x[0, 2] = value
    with pytest.raises(RunError, match=message):
        through_lava(BinaryDense(layer=layer, max_level=max_level), x, 1, tag)


@pytest.mark.parametrize("kind", [BinaryDense, BinaryReadout])
def test_a_time_step_takes_at_least_one_image(kind):
    weight = np.ones((2, 4))
    layer = DenseLayer.from_weights(weight, np.zeros(2)) if kind is BinaryDense else Readout.from_weights(weight)
    with pytest.raises(ValueError, match="lanes is 0"):
        kind(layer=layer, lanes=0)
