"""Binary convolutions as Processes: equal integers in floating and fixed point, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("lava.magma")

from lava.magma.core.run_configs import Loihi2SimCfg

from lava_meta.errors import RunError
from lava_meta.graph.conv import ConvLayer, Pool
from lava_meta.processes.binary_conv.process import BinaryConv
from lava_meta.processes.ring import Ring
from lava_meta.processes.runtime import Supervised
from lava_meta.processes.stream.process import Sink, Source

pytestmark = [pytest.mark.lava, pytest.mark.timeout(60), pytest.mark.usefixtures("nothing_left")]

SEED = 20


def through_lava(process: BinaryConv, x: np.ndarray, tag: str) -> np.ndarray:
    """Pass x (steps * lanes, n_in) through a Process with ports `s_in` and `s_out`."""
    batches = x.reshape(-1, *process.s_in.shape)
    inlet = Ring(process.s_in.shape, np.int32, slots=len(batches))
    outlet = Ring(process.s_out.shape, np.int64, slots=len(batches))
    source, sink = Source(ring=inlet), Sink(ring=outlet)
    source.s_out.connect(process.s_in)
    process.s_out.connect(sink.a_in)
    for batch in batches:
        inlet.put(batch)
    with Supervised(process, Loihi2SimCfg(select_tag=tag), timeout=20) as run:
        run.steps(len(batches))
        return np.concatenate([outlet.get() for _ in batches])


@pytest.mark.parametrize("tag", ["floating_pt", "fixed_pt"])
@pytest.mark.parametrize(("max_level", "lanes"), [(None, 1), (255, 3), (65535, 2)])
def test_a_layer_computes_its_equation(max_level, lanes, tag):
    """Against the equation as four loops, with the pooling as a maximum of what a unit has beyond its threshold."""
    rng = np.random.default_rng(SEED)
    inputs = [-1, 1] if max_level is None else [0, max_level // 3, max_level]
    x = rng.choice(inputs, (6, 2, 5, 6))
    weight = np.where(rng.random((3, 2, 2, 3)) < 0.5, 1, -1)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    sums = np.zeros((6, 3, 6, 4), np.int64)
    for channel in range(3):
        for y in range(6):
            for z in range(4):
                seen = padded[:, :, y : y + 2, z : z + 3]
                sums[:, channel, y, z] = (seen * weight[channel]).sum(axis=(1, 2, 3))
    polarity = np.array([1, -1, 1], np.int8)
    threshold = polarity[:, None, None] * sums[2] + rng.integers(-1, 2, sums.shape[1:])  # ties, and one to either side
    margin = polarity[:, None, None] * sums - threshold
    blocks = margin.reshape(6, 3, 3, 2, 2, 2)
    pooled = np.where(np.arange(3)[:, None, None] == 2, blocks.min(axis=(3, 5)), blocks.max(axis=(3, 5)))
    layer = ConvLayer.from_weights(
        weight, (2, 5, 6), threshold, polarity, padding=(1, 0), pools=(Pool((2, 2), (2, 2), every=(2,)),)
    )
    process = BinaryConv(layer=layer, lanes=lanes, max_level=max_level)
    found = through_lava(process, x.reshape(6, -1), tag)
    assert np.array_equal(found, np.where(pooled >= 0, 1, -1).reshape(6, -1))


@pytest.mark.parametrize("tag", ["floating_pt", "fixed_pt"])
def test_sums_above_what_float32_holds_are_exact(tag):
    """513 terms of 65535 are above 2**24: float32 would lose the odd ones."""
    rng = np.random.default_rng(SEED)
    x = 65535 - rng.integers(0, 2, (4, 57 * 9))
    totals = x.sum(axis=1)
    assert totals.min() > 2**24
    layer = ConvLayer.from_weights(np.ones((4, 57, 3, 3)), (57, 3, 3), totals)
    found = through_lava(BinaryConv(layer=layer, lanes=4, max_level=65535), x, tag)
    assert np.array_equal(found, np.where(totals[:, None] >= totals, 1, -1))


@pytest.mark.parametrize("tag", ["floating_pt", "fixed_pt"])
@pytest.mark.parametrize(("max_level", "value", "message"), [(None, 0, "another value"), (15, 16, "pixels run from")])
def test_inputs_that_do_not_belong_are_refused(max_level, value, message, tag):
    layer = ConvLayer.from_weights(np.ones((1, 1, 2, 2)), (1, 2, 2), np.zeros(1))
    x = np.ones((1, 4), int)
    x[0, 2] = value
    with pytest.raises(RunError, match=message):
        through_lava(BinaryConv(layer=layer, max_level=max_level), x, tag)


def test_a_time_step_takes_at_least_one_image():
    layer = ConvLayer.from_weights(np.ones((1, 1, 2, 2)), (1, 2, 2), np.zeros(1))
    with pytest.raises(ValueError, match="lanes is 0"):
        BinaryConv(layer=layer, lanes=0)
