"""The resource report: counts against brute force, NeuroBench's definitions by hand, placement by its invariants."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from lava_meta.converters import LavaNetwork
from lava_meta.data import load_dataset
from lava_meta.errors import ConversionError
from lava_meta.graph import BinaryGraph
from lava_meta.graph.conv import ConvLayer, Pool, Window
from lava_meta.graph.dense import DenseLayer, Readout
from lava_meta.graph.inputs import Binarize
from lava_meta.loihi.chips import CHIPS, LOIHI2, Chip, find_chip
from lava_meta.loihi.cost import energy, neurobench, report
from lava_meta.loihi.cost.placement import place
from lava_meta.loihi.cost.populations import INPUT, Population, populations
from lava_meta.loihi.cost.synapses import read
from lava_meta.loihi.cost.workload import measure
from lava_meta.loihi.stock import Part, plan
from lava_meta.online_learning import Learner


def signs(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.choice([-1, 1], shape)


def dense(rng: np.random.Generator, n_in: int, n_out: int, spread: int, **options: bool) -> DenseLayer:
    return DenseLayer.from_weights(
        signs(rng, n_out, n_in), rng.integers(-spread, spread, n_out), signs(rng, n_out), **options
    )


def dense_net() -> BinaryGraph:
    rng = np.random.default_rng(1)
    readout = Readout.from_weights(signs(rng, 3, 5))
    return BinaryGraph((dense(rng, 12, 7, 300), dense(rng, 7, 5, 5)), readout, 255, (12,))


def centred_net() -> BinaryGraph:
    rng = np.random.default_rng(2)
    layer = dense(rng, 7, 6, 10, centred=True)
    return BinaryGraph((dense(rng, 12, 7, 300), layer), Readout.from_weights(signs(rng, 3, 6)), 255, (12,))


def conv_net() -> BinaryGraph:
    """Padding, stride, groups, sums over a window, two kinds of pooling, thresholds a position."""
    rng = np.random.default_rng(3)
    first = ConvLayer.from_weights(
        signs(rng, 4, 2, 3, 3),
        (2, 8, 8),
        rng.integers(-300, 300, (4, 8, 8)),
        signs(rng, 4),
        padding=(1, 1),
        pools=(Pool((2, 2), (2, 2), every=(1,)),),
    )
    second = ConvLayer.from_weights(signs(rng, 6, 2, 2, 2), (4, 4, 4), rng.integers(-5, 5, 6), groups=2)
    third = ConvLayer.from_weights(
        signs(rng, 4, 6, 1, 2), (6, 3, 3), rng.integers(-5, 5, 4), sum_window=Window((2, 2), (1, 1)), padding=(0, 1)
    )
    width = third.n_out
    return BinaryGraph((first, second, third), Readout.from_weights(signs(rng, 3, width)), 255, (2, 8, 8))


def signed_net() -> BinaryGraph:
    rng = np.random.default_rng(4)
    return BinaryGraph((dense(rng, 9, 6, 99),), Readout.from_weights(signs(rng, 3, 6)), 100, (9,), min_level=-100)


def sign_net() -> BinaryGraph:
    rng = np.random.default_rng(5)
    readout = Readout.from_weights(signs(rng, 3, 6))
    return BinaryGraph((dense(rng, 9, 6, 5),), readout, 1, (9,), min_level=-1, signs=True)


def binarizing_net() -> BinaryGraph:
    rng = np.random.default_rng(6)
    inputs = Binarize(rng.integers(0, 255, 9), signs(rng, 9).astype(np.int8))
    return BinaryGraph((dense(rng, 9, 6, 5),), Readout.from_weights(signs(rng, 3, 6)), 255, (9,), binarize=inputs)


NETS = {
    "dense": dense_net,
    "centred": centred_net,
    "conv": conv_net,
    "signed": signed_net,
    "signs": sign_net,
    "binarizing": binarizing_net,
}


def images(graph: BinaryGraph, n: int, seed: int = 0) -> np.ndarray:
    """Half of the pixels are black; signs have no 0."""
    rng = np.random.default_rng(seed)
    if graph.signs:
        return signs(rng, n, *graph.input_shape)
    x = rng.integers(graph.min_level, graph.max_level + 1, (n, *graph.input_shape))
    return x * rng.integers(0, 2, x.shape)


# What each population sends is what the network computes.


@pytest.mark.parametrize("name", NETS)
def test_populations_send_what_the_graph_computes(name: str) -> None:
    graph = NETS[name]()
    x = images(graph, 40)
    entering = graph.check_images(x).astype(np.int64)
    values = {INPUT: entering > 0 if graph.signs else entering}
    for population in populations(plan(graph)):
        values[population.name] = population.send(values)
    for layer in plan(graph):
        if layer.name == "inputs":
            assert graph.binarize is not None
            assert ((values["inputs.neurons"] > 0) == graph.binarize.fires(entering)).all()
            continue
        sent, expected = values[f"{layer.name}.{layer.output}"], graph.activations(x)[layer.name]
        if layer.name == "readout":
            assert (sent == expected).all()
        else:
            assert ((sent > 0) == (expected > 0)).all()


@pytest.mark.lava
@pytest.mark.parametrize("name", NETS)
def test_populations_send_what_lavas_own_models_send(name: str) -> None:
    """Every stock Process of every layer, helper units included: an image is held until all have seen it."""
    import stock_steps

    graph = NETS[name]()
    x = images(graph, 8)
    entering = graph.check_images(x).astype(np.int32)
    if graph.signs:
        entering = (entering > 0).astype(np.int32)
    groups = populations(plan(graph))
    values = {INPUT: entering.astype(np.int64)}
    for population in groups:
        values[population.name] = population.send(values)
    layers = {layer.name: stock_steps.Layer(layer) for layer in plan(graph)}
    for i, image in enumerate(entering):
        for _ in range(1 + sum(layer.layer.latency for layer in layers.values())):
            passing = image
            for layer in layers.values():
                passing = layer.step(passing)
        for population in groups:
            sent = layers[population.layer].models[population.name.split(".")[1]].s_out.value
            flat = sent if sent.ndim == 1 else sent.transpose(2, 0, 1).reshape(-1)
            assert flat.astype(np.int64).tolist() == values[population.name][i].tolist(), population.name


# Counts against loops over every synapse.


def loop_dense(layer: DenseLayer | Readout, on: np.ndarray) -> int:
    return sum(int(on[j]) for _ in range(layer.n_out) for j in range(layer.n_in))


def taps(layer: ConvLayer, channel: int, row: int, column: int) -> list[int]:
    """Inputs of one convolution sum, by their flat place, without those outside the image."""
    group = channel // (layer.channels // layer.groups)
    inputs = layer.input_shape[0] // layer.groups
    window, (_, rows, columns) = layer.window, layer.input_shape
    found = []
    for c, i, j in product(range(inputs), range(window.kernel[0]), range(window.kernel[1])):
        r = row * window.stride[0] - window.padding[0] + i * window.dilation[0]
        k = column * window.stride[1] - window.padding[1] + j * window.dilation[1]
        if 0 <= r < rows and 0 <= k < columns:
            found.append(((group * inputs + c) * rows + r) * columns + k)
    return found


def test_operations_of_dense_layers_are_counted_synapse_by_synapse() -> None:
    graph = dense_net()
    x = images(graph, 9)
    found = report(graph, x)
    acts = graph.activations(x)
    flat = graph.check_images(x)
    expected = {
        "hidden1": np.mean([loop_dense(graph.layers[0], image != 0) for image in flat]),
        "hidden2": np.mean([loop_dense(graph.layers[1], signs > 0) for signs in acts["hidden1"]]),
        "readout": np.mean([loop_dense(graph.readout, signs > 0) for signs in acts["hidden2"]]),
    }
    for row in found.layers:
        # Beside those of the network: synapses of units that fire in every step, which add constants.
        constants = sum(
            np.count_nonzero(part.arguments["weights"])
            for layer in plan(graph)
            for name, part in layer.parts.items()
            if layer.name == row.layer and "constant" in name and not part.is_neurons
        )
        assert row.synaptic_operations == pytest.approx(expected[row.layer] + constants)
    assert found.layers[0].spikes_in == pytest.approx((flat != 0).sum(axis=1).mean())
    assert found.layers[1].spikes_in == pytest.approx((acts["hidden1"] > 0).sum(axis=1).mean())


def test_operations_and_synapses_of_convolutions_are_counted_synapse_by_synapse() -> None:
    graph = conv_net()
    x = images(graph, 5)
    flat = graph.check_images(x)
    groups = {population.name: population for population in populations(plan(graph))}
    workload = measure(list(groups.values()), flat)
    first = graph.layers[0]
    places = [taps(first, *place) for place in np.ndindex(first.conv_shape)]
    constants = sum(1 for name in groups if name == "hidden1.neurons_constant")
    by_hand = np.mean([sum(int((image[place] != 0).sum()) for place in places) for image in flat])
    extra = sum(
        int(np.count_nonzero(part.arguments["weights"]))
        for name, part in plan(graph)[0].parts.items()
        if "constant_synapses" in name
    )
    assert constants == 0 or extra > 0
    assert workload.work["hidden1.neurons"].operations == pytest.approx(by_hand + extra)
    assert groups["hidden1.neurons"].fan_in.sum() == sum(map(len, places)) + extra
    # Pooling: four signs a window, without overlap.
    fired = first.polarity[:, None, None] * first.sums(flat) >= first.threshold
    assert workload.work["hidden1.pool1"].operations == pytest.approx(fired.sum() / len(x))
    assert groups["hidden1.pool1"].fan_in.tolist() == [4] * 64
    # Sums over two by two positions are part of the kernel: its columns are w0, w0 + w1, w1, and 0 is no synapse.
    third = graph.layers[2]
    reach = groups["hidden3.neurons"].fan_in.reshape(third.output_shape)
    w0, w1 = np.where(third.weight[0], 1, -1).reshape(6, 2).T
    assert reach[0, 0, 1] == 2 * (6 + np.count_nonzero(w0 + w1) + 6)
    assert reach[0, 0, 0] == 2 * (np.count_nonzero(w0 + w1) + 6)  # the first column lies outside


def test_active_neurons_are_those_that_receive_or_send() -> None:
    """One bright pixel of a 3x3 convolution without padding reaches the positions around it only."""
    layer = ConvLayer.from_weights(np.ones((1, 1, 3, 3)), (1, 7, 7), np.array([100]))
    graph = BinaryGraph((layer,), Readout.from_weights(np.ones((2, 25))), 255, (1, 7, 7))
    x = np.zeros((1, 1, 7, 7), np.uint8)
    x[0, 0, 0, 1] = 255  # seen by the windows that begin at (0, 0) and (0, 1)
    found = report(graph, x)
    assert found.layers[0].active_neurons == 2
    assert found.layers[0].synaptic_operations == 2
    assert found.layers[0].spikes_sent == 2
    assert found.counts.active_neuron_update + found.counts.inactive_neuron_update == found.totals.neurons


def test_a_neuron_that_fires_without_input_is_active() -> None:
    layer = DenseLayer.from_weights(np.ones((2, 4)), np.array([-2, 2]))  # the first fires at sums from -2 on
    graph = BinaryGraph((layer,), Readout.from_weights(np.array([[1, -1], [-1, 1]])), 1, (4,))
    row = report(graph, np.zeros((1, 4), np.uint8)).layers[0]
    assert (row.synaptic_operations, row.spikes_sent, row.active_neurons) == (0, 1, 1)


def test_weights_of_0_are_no_operations_but_dense_ones_are_stored() -> None:
    weights = np.array([[2, 0, -2], [0, -2, 0]])
    values = np.array([[1, 5, 0], [1, 1, 7]])
    dense, sparse = read(Part("Dense", {"weights": weights})), read(Part("Sparse", {"weights": csr_matrix(weights)}))
    for one in (dense, sparse):
        assert one.operations(values).tolist() == [[1, 1], [2, 1]]
        assert one.fan_in.tolist() == [2, 1]
    assert dense.stored_a_unit().tolist() == [3, 3]
    assert sparse.stored_a_unit().tolist() == [2, 1]


# NeuroBench, by hand.


def test_neurobench_metrics_of_a_network_worked_out_by_hand() -> None:
    # 3 pixels, 2 hidden units, 2 classes. W1 = [[1, 1, -1], [-1, 1, 1]], both fire from a sum of 5 on.
    hidden = DenseLayer.from_weights(np.array([[1, 1, -1], [-1, 1, 1]]), np.array([5, 5]))
    readout = Readout.from_weights(np.array([[1, -1], [-1, 1]]))
    graph = BinaryGraph((hidden,), readout, 10, (3,))
    x = np.array([[7, 0, 0], [0, 6, 0], [0, 0, 0]], np.uint8)
    # Image 1: sums 7, -7: spikes 1, 0, class 0. Image 2: 6, 6: spikes 1, 1; sums 0, 0: class 0. Image 3: none: class 0.
    found = neurobench.metrics(graph, graph.check_images(x), np.array([0, 1, 0]))
    assert found["Activation Sparsity"] == pytest.approx(3 / 6)
    assert found["Connection Sparsity"] == 0
    operations = found["Synaptic Operations"]
    assert operations["Dense"] == 3 * 2 + 2 * 2
    assert operations["Effective_MACs"] == pytest.approx((2 + 2 + 0) / 3)  # each pixel that is not 0 meets 2 weights
    assert operations["Effective_ACs"] == pytest.approx((2 + 4 + 0) / 3)
    assert found["Classification Accuracy"] == pytest.approx(2 / 3)
    # One word of packed weights a unit, 8-byte thresholds, a byte of polarity; scale and offset of 8 bytes.
    assert found["Footprint"] == 2 * (8 + 8 + 1) + 2 * (8 + 8 + 8)


@pytest.mark.parametrize(
    ("name", "sparsity", "dense", "macs", "acs"),
    [("dense", 0.5125, 134, 45.5, 22.75), ("conv", 0.5083832335329341, 4808, 1862.2, 546.2)],
)
def test_neurobench_metrics_are_those_of_its_harness(
    name: str, sparsity: float, dense: int, macs: float, acs: float
) -> None:
    """NeuroBench 2.3.0's own figures of the same networks as modules of PyTorch, whose activations are 0 and 1."""
    graph = NETS[name]()
    found = neurobench.metrics(graph, graph.check_images(images(graph, 20)))
    assert found["Activation Sparsity"] == pytest.approx(sparsity)
    assert found["Synaptic Operations"] == pytest.approx({"Dense": dense, "Effective_MACs": macs, "Effective_ACs": acs})


def test_binary_inputs_are_accumulates() -> None:
    graph = BinaryGraph((dense(np.random.default_rng(0), 4, 3, 3),), Readout.from_weights(np.ones((2, 3))), 1, (4,))
    x = np.array([[1, 0, 1, 1]], np.uint8)
    operations = neurobench.metrics(graph, graph.check_images(x))["Synaptic Operations"]
    fired = (graph.activations(x)["hidden1"] > 0).sum()
    assert operations == {"Dense": 12 + 6, "Effective_MACs": 0.0, "Effective_ACs": 9 + 2 * fired}


def test_neurobench_operations_of_a_convolution_leave_out_padding_and_pooling() -> None:
    graph = conv_net()
    x = images(graph, 4)
    found = neurobench.metrics(graph, graph.check_images(x))["Synaptic Operations"]
    places = [[taps(layer, *place) for place in np.ndindex(layer.conv_shape)] for layer in graph.layers]  # type: ignore[arg-type, union-attr]
    assert found["Dense"] == sum(len(p) for layer in places for p in layer) + graph.readout.n_in * graph.readout.n_out
    inputs = [graph.check_images(x), graph.activations(x)["hidden1"] > 0, graph.activations(x)["hidden2"] > 0]
    effective = [sum(int((on[:, p] != 0).sum()) for p in layer) / 4 for on, layer in zip(inputs, places, strict=True)]
    assert found["Effective_MACs"] == pytest.approx(effective[0])
    last = (graph.activations(x)["hidden3"] > 0).sum() * graph.readout.n_out / 4
    assert found["Effective_ACs"] == pytest.approx(sum(effective[1:]) + last)


# Placement.


def layer_of(name: str, weights: np.ndarray) -> Population:
    neurons = Part("LIF", {"shape": (len(weights),)})
    return Population(name, f"{name}.neurons", neurons, ((read(Part("Dense", {"weights": weights})), INPUT),))


def map_of(name: str, channels: int, inputs: int, size: int) -> Population:
    part = Part("Conv", {"weight": np.ones((channels, 3, 3, inputs)), "input_shape": (size, size, inputs)})
    neurons = Part("LIF", {"shape": (size - 2, size - 2, channels)})
    return Population(name, f"{name}.neurons", neurons, ((read(part), INPUT),))


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 40)), min_size=1, max_size=4),
    maps=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(3, 9)), max_size=2),
    neurons=st.integers(1, 30),
    memory=st.integers(40, 200),
    share=st.booleans(),
)
def test_every_neuron_and_synapse_is_placed_once_and_no_limit_is_passed(
    sizes: list[tuple[int, int]], maps: list[tuple[int, int, int]], neurons: int, memory: int, share: bool
) -> None:
    chip = Chip("small", cores=4, neurons=neurons, synaptic_bytes=memory, synapses=10**9, source="")
    groups = [layer_of(f"dense{i}", np.ones(size)) for i, size in enumerate(sizes)]
    groups += [map_of(f"map{i}", *size) for i, size in enumerate(maps)]
    cores = place(groups, chip, {population.layer: 8 for population in groups}, share_kernels=share)
    for core in cores:
        assert 0 < core.neurons <= neurons
        assert core.bits <= 8 * memory
        assert {piece.population.split(".")[0] for piece in core.pieces} == {core.layer}
    for population in groups:
        pieces = [piece for core in cores for piece in core.pieces if piece.population == population.name]
        assert [piece.start for piece in pieces] == [0, *(piece.stop for piece in pieces[:-1])]
        assert pieces[-1].stop == population.units
        assert sum(piece.synapses for piece in pieces) == population.fan_in.sum()
        if population.channels == 1 and population.name.startswith("dense"):
            assert sum(piece.bits for piece in pieces) == 8 * population.fan_in.sum()
            # No core more than needed: neurons are equal, so that full cores are as full as they can be.
            a_core = min(neurons, memory // int(population.fan_in[0]))
            assert len(pieces) == math.ceil(population.units / a_core)
        if population.name.startswith("map"):
            kernel = 8 * population.synapses[0][0].stored_a_channel()
            a_channel = population.units // population.channels
            for piece in pieces:
                channels = (piece.stop - 1) // a_channel - piece.start // a_channel + 1
                assert piece.bits == (kernel * channels if share else 8 * piece.synapses)


def test_a_layer_that_does_not_fit_a_core_is_split_and_a_net_that_does_not_fit_a_chip_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    graph = BinaryGraph((dense(rng, 784, 400, 100),), Readout.from_weights(signs(rng, 10, 400)), 1, (784,))
    x = rng.integers(0, 2, (3, 784)).astype(np.uint8)
    found = report(graph, x)
    # 784 inputs at 8 bits: 131072 // 784 = 167 neurons a core.
    assert [core.neurons for core in found.cores if core.layer == "hidden1"] == [167, 167, 66]
    assert found.chips == 1
    small = Chip("Small", cores=3, neurons=8192, synaptic_bytes=10_000, synapses=10**9, source="")
    monkeypatch.setitem(CHIPS, "small", small)
    found = report(graph, x, "small")
    assert sum(core.layer == "hidden1" for core in found.cores) == math.ceil(400 / (10_000 // 784))
    assert found.chips == math.ceil(len(found.cores) / 3) > 1
    assert f"{found.chips} chips: more than one chip holds" in str(found)
    monkeypatch.setitem(CHIPS, "few", replace(small, cores=1000, synapses=100_000))
    assert report(graph, x, "few").chips == math.ceil((784 * 400 + 400 * 10 + 10) / 100_000)


def test_a_neuron_that_no_core_holds_is_refused_by_name() -> None:
    with pytest.raises(ConversionError, match=r"one neuron of big\.neurons needs 200 bytes.*has 100"):
        place([layer_of("big", np.ones((3, 200)))], Chip("tiny", 4, 10, 100, 10**9, ""), {"big": 8})


# Energy.


def test_energy_is_counts_times_loihi_1_coefficients() -> None:
    graph = dense_net()
    found = report(graph, images(graph, 7))
    assert energy.PICOJOULES.synaptic_operation == 23.6  # Davies et al. 2018, table 1
    assert found.counts.synaptic_update is None
    for name, picojoules in vars(energy.PICOJOULES).items():
        if name != "synaptic_update":
            assert getattr(found.nanojoules, name) == pytest.approx(getattr(found.counts, name) * picojoules / 1000)
    # One core a layer, all on one tile: pixels go to one core, spikes of each layer to the next one's.
    spikes = sum(row.spikes_in for row in found.layers)
    constants = sum(1 for core in found.cores for piece in core.pieces if "constant" in piece.population)
    assert found.counts.spike_within_a_tile == pytest.approx(spikes + constants)
    assert found.counts.hop_east_or_west == found.counts.hop_north_or_south == 0


def test_hops_are_counted_on_the_mesh() -> None:
    """Forty cores: from the first tile to the last one it is one row down and one column on."""
    chip = Chip("small", cores=128, neurons=1, synaptic_bytes=1000, synapses=10**9, source="")
    rng = np.random.default_rng(0)
    graph = BinaryGraph((dense(rng, 4, 36, 1),), Readout.from_weights(signs(rng, 4, 36)), 1, (4,))
    groups = populations(plan(graph))
    cores = place(groups, chip, {"hidden1": 8, "readout": 8})
    workload = measure(groups, rng.integers(0, 2, (20, 4)).astype(np.uint8))
    found = energy.traffic(groups, cores, workload)
    where = {(piece.population, piece.start): i for i, core in enumerate(cores) for piece in core.pieces}
    south = east = messages = 0.0
    for population in groups:
        for _, source in population.synapses:
            for target in [i for (name, _), i in where.items() if name == population.name]:
                for (name, unit), core in where.items():
                    if name == source:
                        spikes = workload.sent[source][unit]
                        a, b = core // 4 % 32, target // 4 % 32
                        south += spikes * abs(a // 8 - b // 8)
                        east += spikes * abs(a % 8 - b % 8)
                        messages += spikes
                if source == INPUT:
                    messages += workload.sent[INPUT].sum()
    assert found["hop_north_or_south"] == pytest.approx(south)
    assert found["hop_east_or_west"] == pytest.approx(east)
    assert found["spike_within_a_tile"] == pytest.approx(messages)
    assert south > 0 < east


# The report as users get it.


def test_latency_is_that_of_the_stock_form() -> None:
    assert report(dense_net(), images(dense_net(), 1)).totals.latency_in_steps == 3
    assert report(centred_net(), images(centred_net(), 1)).totals.latency_in_steps == 4  # a centred layer takes two
    assert report(conv_net(), images(conv_net(), 1)).totals.latency_in_steps == 5  # pooling takes one


def test_other_inputs_are_counted_as_they_are_deployed() -> None:
    x = images(signed_net(), 6)
    macs = neurobench.metrics(signed_net(), x)["Synaptic Operations"]["Effective_MACs"]
    assert macs == pytest.approx((x != 0).sum(axis=1).mean() * 6)
    for graph, on in ((sign_net(), images(sign_net(), 6) > 0), (binarizing_net(), None)):
        x = images(graph, 6)
        if on is None:
            assert graph.binarize is not None
            on = graph.binarize.fires(x)
        found = report(graph, x)
        operations = found.neurobench["Synaptic Operations"]
        fired = (graph.activations(x)["hidden1"] > 0).sum() / 6
        assert operations["Effective_MACs"] == 0
        assert operations["Effective_ACs"] == pytest.approx(on.sum() / 6 * 6 + 3 * fired)
        row = next(row for row in found.layers if row.layer == "hidden1")
        assert row.spikes_in == pytest.approx(on.sum() / 6)


@pytest.mark.parametrize("name", ["dense", "binarizing"])
def test_the_report_is_saved_as_json_text_and_figure(name: str, tmp_path: Path) -> None:
    graph = NETS[name]()
    found = report(graph, images(graph, 6), labels=np.zeros(6, int))
    found.save(tmp_path / "folder")
    kept = json.loads((tmp_path / "folder" / "report.json").read_text())
    assert kept == json.loads(json.dumps(found.to_dict()))
    assert kept["verified"] is False
    assert all(assumption["source"] for assumption in kept["assumptions"])
    assert (tmp_path / "folder" / "report.png").read_bytes()[:4] == b"\x89PNG"
    text = (tmp_path / "folder" / "report.txt").read_text()
    assert text.strip() == str(found)
    assert "Not verified on a chip" in text
    assert "not Loihi 2" in text
    assert sum(core["neurons"] for core in kept["cores"]) == kept["totals"]["neurons"]
    assert sum(row["cores"] for row in kept["layers"]) == len(kept["cores"])


def test_plastic_layers_have_tags_traces_and_updates() -> None:
    graph = dense_net()
    x = images(graph, 5)
    still, learns = report(graph, x), report(graph, x, plastic={"hidden2": 8})
    row = learns.layers[1]
    assert row.tag_bytes == math.ceil(7 * 5 * 9 / 8)
    assert row.trace_bytes == math.ceil((7 + 3 * 5) * 7 / 8)
    assert row.synaptic_updates == pytest.approx(still.layers[1].spikes_in * 5)
    assert learns.counts.synaptic_update == pytest.approx(row.synaptic_updates)
    assert learns.layers[0] == still.layers[0]
    assert "What learning adds" in str(learns)
    assert "What learning adds" not in str(still)
    bits = sum(core.synapses for core in learns.cores if core.layer == "hidden2") * (8 + 9)
    assert row.synaptic_bytes == math.ceil(bits / 8)
    wide = report(graph, x, plastic={"hidden2": 16})
    assert any("hidden2 (16 bits)" in assumption.says for assumption in wide.assumptions)


def test_kernels_that_are_not_shared_take_a_weight_for_every_synapse() -> None:
    graph = conv_net()
    x = images(graph, 1)
    shared, own = report(graph, x), report(graph, x, share_kernels=False)
    assert own.layers[1].synaptic_bytes == own.layers[1].synapses
    assert shared.layers[1].synaptic_bytes == 6 * 2 * 2 * 2
    assert any("per synapse" in assumption.says for assumption in own.assumptions)


def test_fewer_bits_a_weight_take_less_memory_and_say_what_they_hold() -> None:
    graph = dense_net()
    x = images(graph, 1)
    eight, two = report(graph, x), report(graph, x, weight_bits=2)
    assert two.layers[0].synaptic_bytes == math.ceil(eight.layers[0].synaptic_bytes / 4)
    assert [any("+128 and -128" in one.says for one in found.assumptions) for found in (eight, two)] == [False, True]


@pytest.mark.lava
def test_two_bits_of_both_signs_hold_128() -> None:
    from lava.utils.weightutils import SignMode, truncate_weights

    assert truncate_weights(np.array([[128, -128]]), SignMode.MIXED, 2).tolist() == [[128, -128]]
    assert truncate_weights(np.array([[128, -128]]), SignMode.MIXED, 1).tolist() != [[128, -128]]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"target": "loihi3"}, "there are public limits for loihi2"),
        ({"weight_bits": 9}, "2 to 8 bits"),
        ({"weight_bits": 1}, "2 to 8 bits"),
        ({"weight_bits": 2.0}, "2 to 8 bits"),
        ({"labels": [1, 2]}, "one for each of 3 images"),
        ({"plastic": {"hidden9": 8}}, "this network has hidden1, hidden2, readout"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, object], error: str) -> None:
    graph = dense_net()
    with pytest.raises(ValueError, match=error):
        report(graph, images(graph, 3), **options)  # type: ignore[arg-type]


def test_images_that_do_not_fit_are_refused_as_the_network_refuses_them() -> None:
    with pytest.raises(TypeError, match="float64"):
        report(dense_net(), np.full((2, 12), 0.5))
    with pytest.raises(ValueError, match="no images"):
        report(dense_net(), np.zeros((0, 12), np.uint8))


def test_the_public_limits() -> None:
    assert find_chip("loihi2") is LOIHI2
    assert (LOIHI2.cores, LOIHI2.neurons, LOIHI2.synaptic_bytes, LOIHI2.synapses) == (128, 8192, 131072, 120_000_000)


def test_networks_and_learners_report_without_lava() -> None:
    graph = dense_net()
    x = images(graph, 4)
    assert LavaNetwork(graph).report("loihi2", x).to_dict() == report(graph, x).to_dict()
    learner = Learner([64, 20, 10], precision=8, backend="kernels", seed=0)
    digits = load_dataset("digits").test
    found = learner.report("loihi2", digits.x[:50], labels=digits.y[:50])
    spikes = learner.encode(digits.x[:50])
    assert found.layers[0].synaptic_updates == pytest.approx(20 * spikes.sum() / 50)
    assert found.neurobench["Synaptic Operations"]["Effective_MACs"] == 0
    assert (
        found.neurobench["Classification Accuracy"] == (learner.predict(digits.x[:50]) == digits.y[:50].numpy()).mean()
    )
