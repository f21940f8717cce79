"""Convolutions written to NIR compute the same by NIR's equations and in snnTorch, and come back to the byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

import lava_meta
from lava_meta.errors import ConversionError
from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.graph.conv import ConvLayer, Pool, Window

STEP = 1e-4  # snnTorch's importer simulates with this one
CHANNELS = 4


def reference(graph: nir.NIRGraph, x: np.ndarray) -> dict[str, np.ndarray]:
    """NIR's equations in float64, by torch's convolution: the output of every node, for inputs (n, ...)."""
    after, out = dict(graph.edges), {}
    value, name = torch.from_numpy(x).double(), "input"
    while name in after:
        name = after[name]
        node = graph.nodes[name]
        if isinstance(node, nir.Conv2d):
            weight, bias = torch.from_numpy(node.weight).double(), torch.from_numpy(node.bias).double()
            padding = node.padding if isinstance(node.padding, str) else tuple(map(int, node.padding))
            options = (tuple(map(int, node.stride)), padding, tuple(map(int, node.dilation)))
            value = conv2d(value, weight, bias, *options, int(node.groups))
        elif isinstance(node, (nir.SumPool2d, nir.AvgPool2d)):
            kernel, stride, padding = (tuple(map(int, f)) for f in (node.kernel_size, node.stride, node.padding))
            ones = torch.ones(value.shape[1], 1, *kernel, dtype=torch.float64)
            value = conv2d(value, ones, None, stride, padding, 1, value.shape[1])
            if isinstance(node, nir.AvgPool2d):
                value = value / np.prod(kernel)
        elif isinstance(node, nir.Affine):
            value = value @ torch.from_numpy(node.weight).double().T + torch.from_numpy(node.bias)
        elif isinstance(node, nir.Threshold):
            value = (value > torch.from_numpy(node.threshold)).double()
        elif isinstance(node, nir.LIF):
            assert np.unique([node.tau / STEP, node.r, 1 + node.v_leak]) == 1
            value = (value > torch.from_numpy(node.v_threshold)).double()
        elif isinstance(node, nir.Flatten):
            value = value.flatten(1)
        else:
            assert isinstance(node, nir.Output)
        out[name] = value.flatten(1).numpy()
    return out


def pair(rng: np.random.Generator, low: int, high: int) -> tuple[int, int]:
    return int(rng.integers(low, high + 1)), int(rng.integers(low, high + 1))


def fitting(rng: np.random.Generator, shape: tuple[int, ...], square: bool, padded: bool, dilated: bool) -> Window:
    while True:
        kernel = pair(rng, 1, 3)
        if square and (kernel[0] - kernel[1]) % 2:  # one that has no middle in a square
            continue
        padding = (int(rng.integers(0, kernel[0] + 1)), int(rng.integers(0, kernel[1] + 1))) if padded else (0, 0)
        window = Window(kernel, pair(rng, 1, 2), padding, pair(rng, 1, 2) if dilated else (1, 1))
        try:
            window.positions(*shape[1:])
        except ValueError:
            continue
        return window


def random_layer(rng: np.random.Generator, shape: tuple[int, ...], level: int | None) -> ConvLayer:
    """Everything that NIR can say; thresholds where the sums are, so that ties are common."""
    groups = int(rng.choice([g for g in (1, 1, 2) if shape[0] % g == 0]))
    window = fitting(rng, shape, square=True, padded=True, dilated=True)
    if rng.random() < 0.2:  # padding "same" of an even kernel
        window = Window((2, 2), padding=(0, 0), after=(1, 1))
    size = (CHANNELS, *window.positions(*shape[1:]))
    sums = (
        fitting(rng, size, square=False, padded=bool(rng.random() < 0.3), dilated=False) if rng.random() < 0.3 else None
    )
    size = size if sums is None else (CHANNELS, *sums.positions(*size[1:]))
    threshold_shape = size if level is not None and rng.random() < 0.5 else (CHANNELS, 1, 1)
    threshold = rng.integers(-2, 3, threshold_shape) * (level or 1)
    pools = []
    for _ in range(rng.integers(0, 3)):
        dilated = bool(rng.random() < 0.3)
        drawn = fitting(rng, size, square=dilated, padded=True, dilated=dilated)
        every = tuple(int(c) for c in np.flatnonzero(rng.random(CHANNELS) < 0.4))
        pools.append(Pool(drawn.kernel, drawn.stride, drawn.padding, drawn.dilation, every))
        size = (CHANNELS, *drawn.positions(*size[1:]))
    return ConvLayer.from_weights(
        rng.random((CHANNELS, shape[0] // groups, *window.kernel)) < 0.5,
        shape,
        threshold,
        rng.choice(np.array([-1, 1], np.int8), CHANNELS),
        stride=window.stride,
        padding=window.padding,
        dilation=window.dilation,
        after=window.after,
        groups=groups,
        sum_window=sums,
        pools=tuple(pools),
    )


def random_graph(rng: np.random.Generator) -> BinaryGraph:
    shape: tuple[int, ...] = (int(rng.choice([1, 2, 3])), *pair(rng, 4, 8))
    max_level, input_shape = int(rng.choice([1, 3, 255])), shape
    layers: list[ConvLayer | DenseLayer] = []
    for i in range(rng.integers(1, 4)):
        layers.append(random_layer(rng, shape, max_level if i == 0 else None))
        shape = layers[-1].output_shape
    width = int(np.prod(shape))
    if rng.random() < 0.5:
        weight, centred = rng.random((7, width)) < 0.5, bool(rng.random() < 0.5)
        layers.append(DenseLayer.from_weights(weight, rng.integers(-3, 4, 7), centred=centred))
        width = 7
    return BinaryGraph(tuple(layers), Readout.from_weights(rng.random((5, width)) < 0.5), max_level, input_shape)


def random_images(rng: np.random.Generator, graph: BinaryGraph, n: int) -> np.ndarray:
    images = rng.integers(0, graph.max_level, (n, *graph.input_shape), endpoint=True)
    images[0], images[-1] = 0, graph.max_level
    return images


def last_spikes(written: nir.NIRGraph, number: int) -> str:
    """The node whose output is that of hidden layer `number`: the last threshold, behind all pooling."""
    kinds = (nir.Threshold, nir.LIF)
    return [k for k, node in written.nodes.items() if k.startswith(f"hidden{number}_") and isinstance(node, kinds)][-1]


def saved(network: lava_meta.LavaNetwork | BinaryGraph, path: Path) -> bytes:
    network.save(path)
    return path.read_bytes()


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("time_step", [None, STEP])
def test_random_networks_compute_the_same_and_come_back_to_the_byte(tmp_path, time_step):
    rng = np.random.default_rng(11)
    seen = {
        "groups": 0,
        "sum window": 0,
        "border": 0,
        "dilated pool": 0,
        "every": 0,
        "padded": 0,
        "same": 0,
        "oblong": 0,
    }
    for number in range(90):
        graph = random_graph(rng)
        images = random_images(rng, graph, 12)
        written = lava_meta.to_nir(graph, time_step=time_step)
        if number % 8 == 0:  # through a file, which takes longer
            nir.write(tmp_path / "net.nir", written)
            written = nir.read(tmp_path / "net.nir")
        theirs, ours = reference(written, images), graph.activations(images)
        for i in range(1, len(graph.layers) + 1):
            assert np.array_equal(theirs[last_spikes(written, i)] == 1, ours[f"hidden{i}"] == 1)
        assert np.array_equal(theirs["output"], ours["readout"])
        assert saved(lava_meta.from_nir(written), tmp_path / "a") == saved(graph, tmp_path / "b")
        for i, layer in enumerate(graph.layers):
            if isinstance(layer, ConvLayer):
                seen["groups"] += layer.groups > 1
                seen["sum window"] += layer.sum_window is not None
                seen["border"] += layer.per_position
                seen["dilated pool"] += any(pool.dilation != (1, 1) for pool in layer.pools)
                seen["every"] += any(pool.every for pool in layer.pools)
                seen["oblong"] += layer.window.kernel[0] != layer.window.kernel[1]
                seen["same"] += any(layer.window.after)
                seen["padded"] += i > 0 and layer.window.padding != (0, 0)
    assert min(seen.values()) > 10, f"the networks drawn must put everything to the test: {seen}"


def test_a_trained_kind_of_network_in_every_order_gives_the_same_bytes(tmp_path):
    """`BinaryConvNet`: padding whose level is the offset, thresholds a position, max pooling before the sign."""
    model = lava_meta.BinaryConvNet((1, 8, 8), (6, 5), 10, pixel_mean=5, pixel_std=6, max_level=16, seed=3)
    net = lava_meta.convert(model.eval())
    expected = saved(net.graph, tmp_path / "first")
    nir.write(tmp_path / "net.nir", lava_meta.to_nir(net))
    written = nir.read(tmp_path / "net.nir")
    back = lava_meta.from_nir(written)
    assert saved(back.graph, tmp_path / "second") == expected
    images = random_images(np.random.default_rng(1), net.graph, 200)
    theirs = reference(written, images)["output"]
    assert np.array_equal(theirs.argmax(axis=1), net.graph.predict(images))
    with torch.no_grad():
        model_classes = model(torch.from_numpy(images).float()).argmax(dim=1).numpy()
    assert np.array_equal(theirs.argmax(axis=1), model_classes)


def test_snntorch_loads_the_file_and_computes_the_same(tmp_path, capsys):
    """300 images, float32, every sum. snnTorch knows one threshold a node, so hidden convolutions have no padding."""
    pytest.importorskip("nirtorch")
    from snntorch.import_nir import import_from_nir

    rng = np.random.default_rng(12)
    one = ConvLayer.from_weights(
        rng.random((6, 1, 3, 3)) < 0.5,
        (1, 12, 12),
        rng.integers(-300, 300, 6),
        rng.choice(np.array([-1, 1], np.int8), 6),
        padding=(1, 1),
        pools=(Pool((2, 2), (2, 2)),),
    )
    two = ConvLayer.from_weights(
        rng.random((8, 6, 3, 3)) < 0.5, one.output_shape, rng.integers(-8, 8, 8), sum_window=Window((2, 2), (2, 2))
    )
    readout = Readout.from_weights(rng.random((10, two.n_out)) < 0.5)
    graph = BinaryGraph((one, two), readout, 255, (1, 12, 12))
    images = random_images(rng, graph, 300)
    nir.write(tmp_path / "net.nir", lava_meta.to_nir(graph, time_step=STEP))
    written = nir.read(tmp_path / "net.nir")
    written.nodes["flatten"].start_dim = 1  # snnTorch counts the batch
    network = import_from_nir(written)
    with torch.no_grad():
        output = network(torch.from_numpy(images).float())
    output = (output[0] if isinstance(output, tuple) else output).numpy()
    assert np.array_equal(output, graph.sums(images))


def chain(*nodes: nir.NIRNode) -> nir.NIRGraph:
    return nir.NIRGraph.from_list(*nodes, type_check=False)


def conv(weight: np.ndarray, bias: np.ndarray | None = None, padding: int | str = 0, groups: int = 1) -> nir.Conv2d:
    return nir.Conv2d(None, weight, 1, padding, 1, groups, np.zeros(len(weight)) if bias is None else bias)


def pooling(kind: type = nir.SumPool2d, padding: int = 0) -> nir.NIRNode:
    return kind(np.array([2, 2]), np.array([2, 2]), np.array([padding, padding]))


def threshold(value: float, *shape: int) -> nir.Threshold:
    return nir.Threshold(np.full(shape, value))


def signs(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return np.where(rng.random(shape) < 0.5, 1.0, -1.0)


def test_other_programs_graphs_are_exact():
    """A scale a channel, biases, means, thresholds of each position, padding 'same', OR as a mean above 0."""
    rng = np.random.default_rng(13)
    for _ in range(30):
        c, d = rng.integers(1, 9, (4, 1, 1, 1)) / 8, rng.integers(1, 9, (3, 1, 1, 1)) / 4
        written = chain(
            nir.Input(np.array([2, 8, 8])),
            conv(c * signs(rng, 4, 2, 3, 3), rng.integers(-4, 5, 4) / 8, "same"),
            pooling(nir.AvgPool2d),
            nir.Threshold(rng.integers(-8, 9, (4, 4, 4)) / 16),
            conv(d * signs(rng, 3, 4, 3, 3), padding=1),
            threshold(0.25, 3, 4, 4),
            pooling(nir.AvgPool2d),
            threshold(0.0, 3, 2, 2),
            nir.Flatten({"input": np.array([3, 2, 2])}, start_dim=0),
            nir.Affine(signs(rng, 5, 12), np.arange(5.0)),
        )
        net = lava_meta.from_nir(written, max_level=1)
        images = random_images(rng, net.graph, 40)
        theirs = reference(written, images)
        assert np.array_equal(theirs["output"], net.graph.readout.values(net.graph.sums(images)))


def w(*shape: int) -> np.ndarray:
    return np.ones(shape)


IMAGE = nir.Input(np.array([1, 4, 4]))
CONV = (IMAGE, conv(w(2, 1, 3, 3), padding=1))
FIRES = threshold(0.5, 2, 4, 4)
REFUSED = {
    "conv2d.*not \\+c and -c": [
        IMAGE,
        conv(np.arange(9.0).reshape(1, 1, 3, 3)),
        threshold(0, 1, 2, 2),
        nir.Linear(w(2, 4)),
    ],
    "conv2d.*finite bias": [IMAGE, conv(w(2, 1, 3, 3), np.array([0, np.nan])), FIRES],
    "conv2d.*2 groups": [IMAGE, conv(w(2, 1, 3, 3), groups=2), FIRES],
    "conv2d.*does not fit": [IMAGE, conv(w(2, 1, 5, 5)), FIRES, nir.Linear(w(2, 4))],
    "conv2d.*'same'": [IMAGE, nir.Conv2d(None, w(2, 1, 3, 3), 2, "same", 1, 1, np.zeros(2)), FIRES],
    "threshold.*expected \\(2, 4, 4\\)": [*CONV, threshold(0.5, 2, 2, 2)],
    "threshold.*all finite": [*CONV, threshold(np.nan, 2, 4, 4)],
    "sumpool2d_1.*one SumPool2d": [*CONV, pooling(), pooling()],
    "conv2d_1.*without a threshold": [*CONV, conv(w(2, 2, 1, 1)), FIRES],
    "affine.*without a threshold": [*CONV, nir.Affine(w(2, 32), np.zeros(2))],
    "sumpool2d.*must follow a convolution": [IMAGE, pooling(), threshold(0, 1, 2, 2)],
    "threshold_1.*neither for one": [*CONV, FIRES, pooling(), threshold(1.5, 2, 2, 2)],
    "threshold_1.*expected \\(2, 2, 2\\)": [*CONV, FIRES, pooling(), threshold(0.5, 2, 4, 4)],
    "sumpool2d_1.*without a threshold": [*CONV, FIRES, pooling(), pooling()],
    "linear.*no Flatten": [*CONV, FIRES, nir.Linear(w(2, 4))],
    "flatten.*must flatten all": [*CONV, FIRES, nir.Flatten({"input": np.array([2, 4, 4])}, 0, 1), nir.Linear(w(2, 4))],
    "conv2d is the last node": [*CONV],
    "conv1d.*not supported": [IMAGE, nir.Conv1d(4, w(1, 4, 1), 1, 0, 1, 1, np.zeros(1)), nir.Linear(w(2, 4))],
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_exact_is_refused_by_node_name(reason):
    with pytest.raises(ConversionError, match=f"(?i){reason}"):
        lava_meta.from_nir(chain(*REFUSED[reason]), max_level=1)


def test_what_nir_cannot_say_is_refused_by_layer_name():
    def graph(layer: ConvLayer) -> BinaryGraph:
        return BinaryGraph((layer,), Readout.from_weights(w(3, layer.n_out)), 255, (1, 6, 6))

    wide = ConvLayer.from_weights(w(2, 1, 3, 2), (1, 6, 6), np.zeros(2))
    with pytest.raises(ConversionError, match=r"hidden1 has a kernel of \(3, 2\)"):
        lava_meta.to_nir(graph(wide))
    plain = ConvLayer.from_weights(w(2, 1, 3, 3), (1, 6, 6), np.zeros(2))
    with pytest.raises(ConversionError, match="hidden1 sums over a window with dilation"):
        lava_meta.to_nir(graph(replace(plain, sum_window=Window((2, 2), dilation=(2, 2)))))
    with pytest.raises(ConversionError, match=r"hidden1_pool1 has a kernel of \(2, 1\)"):
        lava_meta.to_nir(graph(replace(plain, pools=(Pool((2, 1), dilation=(2, 2)),))))
    with pytest.raises(ConversionError, match="hidden1_pool1 has windows that reach outside"):
        lava_meta.to_nir(graph(replace(plain, pools=(Pool((3, 3), (2, 2), after=(1, 1)),))))
    with pytest.raises(ConversionError, match="hidden1 has windows that reach outside"):
        lava_meta.to_nir(graph(ConvLayer.from_weights(w(2, 1, 3, 3), (1, 6, 6), np.zeros(2), after=(1, 0))))


def test_thresholds_that_no_sum_reaches_stay_out_of_reach():
    layer = ConvLayer.from_weights(w(2, 1, 3, 3), (1, 6, 6), np.array([-(2**63), 2**63 - 1]))
    graph = BinaryGraph((layer,), Readout.from_weights(w(3, layer.n_out)), 255, (1, 6, 6))
    back = lava_meta.from_nir(lava_meta.to_nir(graph)).graph
    images = np.random.default_rng(0).integers(0, 256, (5, 36))
    assert np.array_equal(back.activations(images)["hidden1"], graph.activations(images)["hidden1"])
    assert np.array_equal(back.sums(images), graph.sums(images))


def test_altered_metadata_are_refused():
    layer = ConvLayer.from_weights(w(2, 1, 3, 3), (1, 6, 6), np.zeros(2), pools=(Pool((2, 2), (2, 2)),))
    written = lava_meta.to_nir(BinaryGraph((layer,), Readout.from_weights(w(3, layer.n_out)), 255, (1, 6, 6)))
    written.nodes["hidden1_pool1_fires"].metadata["every"] = np.array([1])
    with pytest.raises(ConversionError, match=r"hidden1_pool1_fires.*say other channels"):
        lava_meta.from_nir(written)
    for kernel in ((1, 1), (3, 2), (5, 5), (-1, 3)):
        written.nodes["hidden1"].metadata["kernel"] = np.array(kernel)
        with pytest.raises(ConversionError, match=r"hidden1 \(Conv2d\) has no zeros around a kernel of"):
            lava_meta.from_nir(written)
    del written.nodes["hidden1"].metadata["kernel"]
    written.nodes["hidden1"].metadata["polarity"] = np.array([1, 3])
    with pytest.raises(ConversionError, match=r"hidden1 \(Conv2d\) has a polarity"):
        lava_meta.from_nir(written)
