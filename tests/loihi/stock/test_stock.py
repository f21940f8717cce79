"""The stock form through Lava's own ProcessModels: equal integers, step for step, within Loihi's ranges."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("lava.magma")

import stock_nets
import stock_steps

from lava_meta.errors import ConversionError
from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.graph.bits import pack
from lava_meta.graph.conv import ConvLayer, Pool
from lava_meta.graph.norm import GroupNorm
from lava_meta.loihi.stock import StockLayer, latencies, plan

pytestmark = pytest.mark.lava


def assert_equal_and_in_range(graph: BinaryGraph, n: int) -> list[stock_steps.Layer]:
    images = stock_nets.images(graph, n)
    found, layers = stock_steps.activations(graph, images)
    expected = graph.activations(images)
    assert list(found) == list(expected)
    for name in expected:
        assert np.array_equal(found[name], expected[name]), name
    for layer in layers:
        for name, part in layer.layer.parts.items():
            if part.kind == "LIF":
                assert layer.extremes[name] < 2**15
            else:
                assert layer.extremes[name] < 2**23
    return layers


@pytest.mark.parametrize("seed", range(20))
def test_random_dense_networks(seed):
    assert_equal_and_in_range(stock_nets.dense_graph(seed), 10)


@pytest.mark.parametrize("seed", range(16))
def test_random_convolutions(seed):
    assert_equal_and_in_range(stock_nets.conv_graph(seed), 6)


@pytest.mark.parametrize(("channels", "groups"), [(128, 128), (130, 1), (262, 131)])
def test_more_groups_than_lava_counts(channels, groups):
    """Lava keeps the number of groups in 8 bits with sign: pooling of 128 channels, and convolutions of as many."""
    rng = np.random.default_rng(channels)
    shape = (groups, 4, 4)
    pools = (Pool((2, 2), (2, 2), every=(1, 5)),)
    layer = ConvLayer.from_weights(
        rng.random((channels, 1, 3, 3)) < 0.5,
        shape,
        rng.integers(-9, 9, channels),
        groups=groups,
        padding=(1, 1),
        pools=pools,
    )
    readout = Readout.from_weights(rng.random((5, layer.n_out)) < 0.5)
    assert_equal_and_in_range(BinaryGraph((layer,), readout, 7, shape), 4)


@pytest.mark.parametrize("levels", [(0, 255), (-100, 30), (-1, 1)])
def test_a_readout_alone(levels):
    """On features a weight of +1 is twice 1, halved by the exponent; on signs it is +2 on spikes."""
    low, high = levels
    readout = Readout.from_weights(np.random.default_rng(0).normal(size=(4, 30)))
    assert_equal_and_in_range(BinaryGraph((), readout, high, (30,), min_level=low, signs=levels == (-1, 1)), 6)


def test_random_networks_use_every_part():
    plans = [layer for seed in range(30) for layer in plan(stock_nets.dense_graph(seed))]
    plans += [layer for seed in range(5) for layer in plan(stock_nets.conv_graph(seed))]
    assert {part.kind for layer in plans for part in layer.parts.values()} == {*stock_steps.MODELS} - {"LIFReset"}


@pytest.mark.parametrize("units", [32, 48, 300, 512])
def test_layer_norm_divides_by_powers_of_two_only(units):
    """512 units of 8-bit pixels need 2**8 taken out of n * s - S to stay within 24 bits; 48 leave a factor of 3."""
    rng = np.random.default_rng(units)
    inputs = 30 if units == 300 else 100
    layer = DenseLayer.from_weights(rng.normal(size=(units, inputs)), np.zeros(units), centred=True)
    graph = BinaryGraph((layer,), Readout.from_weights(rng.normal(size=(3, units))), 255, (inputs,))
    layers = assert_equal_and_in_range(graph, 8)
    shared = layers[0].layer.parts["shared_synapses"].arguments
    assert -shared["weight_exp"] == min(8, (units & -units).bit_length() - 1)


# A threshold unit has no memory.


def one_unit(n: int, theta: int) -> BinaryGraph:
    """One unit on pixels of one bit, all weights +1."""
    unit = DenseLayer(pack(np.ones((1, n), bool)), n, np.array([theta]), np.ones(1, np.int8))
    return BinaryGraph((unit,), Readout.from_weights(np.ones((1, 1))), 1, (n,))


@pytest.mark.parametrize(("theta", "kind"), [(4096, "LIF"), (4097, "GradedReluVec")])
def test_an_image_far_below_the_threshold_leaves_nothing_that_matters(theta, kind):
    """The lowest potential that a LIF neuron may reach, again and again, and then the sum that just fires."""
    graph = one_unit(theta + 3, theta)
    assert plan(graph)[0].parts["neurons"].kind == kind
    ones = np.array([0, 0, 0, 0, theta, theta - 1, 0, theta, 0, 0, theta + 3, 0, theta])
    images = (np.arange(theta + 3) < ones[:, None]).astype(np.uint8)
    found, _ = stock_steps.activations(graph, images)
    assert np.array_equal(found["hidden1"][:, 0], np.where(ones >= theta, 1, -1))


def test_one_more_input_and_memory_would_matter():
    """Past the limit a LIF neuron does go wrong, so that the limit is no superstition."""
    theta = 4097
    arguments = {"shape": (1,), "du": 4095, "dv": 4095, "vth": 0, "bias_mant": np.array([1 - theta]), "bias_exp": 7}
    lif = stock_steps.make_model("LIF", arguments)
    fired = []
    for y in (0, 0, 0, theta):
        lif.a_in.send(np.array([2 * y]))
        lif.run_spk()
        fired.append(bool(lif.s_out.value[0]))
    assert fired == [False, False, False, False]


# What does not fit is refused with the layer, the value and the range.


def wide(inputs: int, units: int, centred: bool = False, level: int = 255) -> BinaryGraph:
    ones = np.ones((units, inputs), bool)
    layer = DenseLayer.from_weights(ones, np.zeros(units), centred=centred)
    return BinaryGraph((layer,), Readout.from_weights(np.ones((2, units))), level, (inputs,))


def test_sums_beyond_24_bits():
    plan(wide(16_000, 1))
    with pytest.raises(ConversionError, match=r"hidden1: the sum of neurons runs from 0 to 8,670,\d+; .* 8,388,607"):
        plan(wide(17_000, 1))


def test_a_layer_norm_that_does_not_fit():
    rng = np.random.default_rng(0)
    layer = DenseLayer.from_weights(rng.normal(size=(501, 784)), np.zeros(501), centred=True)
    graph = BinaryGraph((layer,), Readout.from_weights(np.ones((2, 501))), 255, (784,))
    with pytest.raises(ConversionError, match=r"hidden1: .*width that 256 divides"):
        plan(graph)


def test_arguments_are_checked_one_by_one():
    layer = StockLayer("hidden7")
    for arguments, words in [
        ({"weights": np.array([[1, -2]])}, "odd weights of both signs"),
        ({"weights": np.array([[256]])}, "weights runs from 256"),
        ({"weights": np.array([[-258, 2]])}, "-256 to 254"),
        ({"weights": np.array([[2]]), "weight_exp": -9}, "weight_exp"),
        ({"bias_mant": 4096}, "bias_mant"),
        ({"bias_exp": 8}, "bias_exp"),
        ({"vth": 2**17}, "vth"),
        ({"num_message_bits": 25}, "num_message_bits"),
        ({"du": 4096}, "du"),
    ]:
        with pytest.raises(ConversionError, match=f"hidden7: .*{words}"):
            layer.add("part", "Dense", **arguments)


def test_layers_without_a_stock_form():
    class Unknown(DenseLayer):
        pass

    layer = Unknown.from_weights(np.ones((2, 3)), np.zeros(2))
    with pytest.raises(ConversionError, match="hidden1 is a Unknown, which has no stock form"):
        plan(BinaryGraph((layer,), Readout.from_weights(np.ones((2, 2))), 1, (3,)))


def test_norms_with_biases():
    norm = GroupNorm(1, np.ones(2), np.array([0.5, 0.0]), Fraction(1, 10), Fraction(0), np.zeros(0, np.int64))
    layer = DenseLayer.from_weights(np.ones((2, 3)), np.zeros(2), norm=norm)
    with pytest.raises(ConversionError, match=r"hidden1 has a norm .*SampleNorm"):
        plan(BinaryGraph((layer,), Readout.from_weights(np.ones((2, 2))), 1, (3,)))


def test_latencies_add_up():
    rng = np.random.default_rng(0)
    dense = DenseLayer.from_weights(rng.normal(size=(8, 4)), np.zeros(8))
    centred = DenseLayer.from_weights(rng.normal(size=(4, 8)), np.zeros(4), centred=True)
    graph = BinaryGraph((dense, centred), Readout.from_weights(np.ones((2, 4))), 1, (4,))
    assert latencies(plan(graph)) == {"hidden1": 1, "hidden2": 3, "readout": 4}
    conv = next(
        layer
        for seed in range(50)
        for layer in stock_nets.conv_graph(seed).layers
        if isinstance(layer, ConvLayer) and len(layer.pools) == 2
    )
    pooled = BinaryGraph((conv,), Readout.from_weights(np.ones((2, conv.n_out))), 255, conv.input_shape)
    assert latencies(plan(pooled)) == {"hidden1": 3, "readout": 4}
