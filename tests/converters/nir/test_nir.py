"""A network written to NIR computes the same in other readers, comes back to the byte, and strangers are refused."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import nir
import numpy as np
import pytest

import lava_meta
from lava_meta.converters.lava import LavaNetwork
from lava_meta.errors import ConversionError
from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.graph.inputs import Binarize
from lava_meta.graph.norm import GroupNorm

STEP = 1e-4  # snnTorch's importer simulates with this one


def random_graph(
    rng: np.random.Generator,
    sizes: tuple[int, ...],
    max_level: int = 255,
    centred: bool = False,
    affine: bool = True,
    shape: tuple[int, ...] | None = None,
) -> BinaryGraph:
    """Random weights and polarities, thresholds among the sums, so that exact ties are common in small layers."""
    layers = []
    for i, (a, b) in enumerate(pairwise(sizes[:-1])):
        spread = a**0.5 * (max_level / 2 if i == 0 else 1) * (b if centred else 1)
        threshold = np.round(rng.normal(size=b) * spread / 2).astype(np.int64)
        polarity = rng.choice(np.array([-1, 1], np.int8), b)
        layers.append(DenseLayer.from_weights(rng.random((b, a)) < 0.5, threshold, polarity, centred=centred))
    scale, offset = rng.normal(size=sizes[-1]), rng.normal(size=sizes[-1])
    if affine:
        scale[0], offset[0] = 0.0, -0.0
    readout = Readout.from_weights(
        rng.random((sizes[-1], sizes[-2])) < 0.5, scale if affine else None, offset if affine else None
    )
    return BinaryGraph(tuple(layers), readout, max_level, shape or (sizes[0],))


def random_images(rng: np.random.Generator, graph: BinaryGraph, n: int) -> np.ndarray:
    images = rng.integers(0, graph.max_level, (n, graph.n_in), endpoint=True)
    images[0], images[-1] = 0, graph.max_level
    return images


def reference(graph: nir.NIRGraph, x: np.ndarray, dt: float = STEP) -> dict[str, np.ndarray]:
    """NIR's equations: the output of every node, for inputs (n, ...) of one step from rest."""
    after = dict(graph.edges)
    name = next(name for name, node in graph.nodes.items() if isinstance(node, nir.Input))
    out = {}
    while name in after:
        name = after[name]
        node = graph.nodes[name]
        if isinstance(node, nir.Affine):
            x = x @ node.weight.T.astype(np.float64) + node.bias
        elif isinstance(node, nir.Linear):
            x = x @ node.weight.T.astype(np.float64)
        elif isinstance(node, nir.Scale):
            x = x * node.scale
        elif isinstance(node, nir.Threshold):
            x = (x > node.threshold).astype(np.float64)
        elif isinstance(node, nir.LIF):
            x = (dt / node.tau * (node.v_leak + node.r * x) > node.v_threshold).astype(np.float64)
        elif isinstance(node, nir.Flatten):
            x = x.reshape(len(x), -1)
        else:
            assert isinstance(node, nir.Output)
        out[name] = x
    return out


def assert_computes(written: nir.NIRGraph, graph: BinaryGraph, images: np.ndarray) -> None:
    """The reference run of `written` has the signs, values and classes of `graph`."""
    theirs, ours = reference(written, images.astype(np.float64)), graph.activations(images)
    for i in range(1, len(graph.layers) + 1):
        assert np.array_equal(theirs[f"hidden{i}_fires"] == 1, ours[f"hidden{i}"] == 1)
    assert np.array_equal(theirs["output"], graph.readout.values(ours["readout"]))
    assert np.array_equal(theirs["output"].argmax(axis=1), graph.predict(images))


def saved(network: LavaNetwork | BinaryGraph, path: Path) -> bytes:
    network.save(path)
    return path.read_bytes()


CASES = [
    ((64, 64, 64, 10), 16, False),
    ((67, 33, 65, 3), 255, True),
    ((5, 1, 2), 1, False),
    ((5, 1, 1, 1), 3, True),
    ((9, 8, 3), 65535, False),
    ((20, 4), 255, False),
]


@pytest.mark.parametrize("time_step", [None, STEP])
@pytest.mark.parametrize(("sizes", "max_level", "centred"), CASES)
def test_a_written_file_computes_the_same_and_comes_back_to_the_byte(tmp_path, sizes, max_level, centred, time_step):
    rng = np.random.default_rng(3)
    graph = random_graph(rng, sizes, max_level, centred)
    nir.write(tmp_path / "net.nir", lava_meta.to_nir(graph, time_step=time_step))
    written = nir.read(tmp_path / "net.nir")
    assert_computes(written, graph, random_images(rng, graph, 200))
    assert saved(lava_meta.from_nir(written), tmp_path / "a") == saved(graph, tmp_path / "b")


def test_hundreds_of_small_networks_keep_every_sign_tie_and_value(tmp_path):
    rng = np.random.default_rng(4)
    ties = 0
    for _ in range(300):
        sizes = tuple(rng.integers(1, 9, rng.integers(2, 5)).tolist())
        graph = random_graph(rng, sizes, int(rng.integers(1, 4)), bool(rng.random() < 0.3), bool(rng.random() < 0.5))
        images = random_images(rng, graph, 40)
        written = lava_meta.to_nir(LavaNetwork(graph))
        assert_computes(written, graph, images)
        assert saved(lava_meta.from_nir(written), tmp_path / "a") == saved(graph, tmp_path / "b")
        if graph.layers and not graph.layers[0].centred:
            first = graph.layers[0]
            ties += int((first.polarity * (images @ np.where(first.weight, 1, -1).T) == first.threshold).sum())
    assert ties > 1000


@pytest.mark.parametrize("kind", ["features", "signs", "binarized pixels", "binarized features"])
def test_other_inputs_than_pixels_compute_the_same_and_come_back_to_the_byte(tmp_path, kind):
    rng = np.random.default_rng(14)
    for _ in range(20):
        pixels = random_graph(rng, (9, 6, 4, 3), 7, affine=False)
        low = {"features": -8, "signs": -1, "binarized pixels": 0, "binarized features": -8}[kind]
        changes = {"min_level": low, "max_level": 1 if kind == "signs" else 7, "signs": kind == "signs"}
        if kind.startswith("binarized"):
            polarity = rng.choice(np.array([-1, 1], np.int8), 9)
            changes["binarize"] = Binarize(polarity * rng.integers(low, 8, 9), polarity)
            changes["layers"] = (replace(pixels.layers[0], threshold=rng.integers(-4, 5, 6)), *pixels.layers[1:])
        graph = replace(pixels, **changes)
        images = rng.integers(low, graph.max_level, (60, 9), endpoint=True)
        images = np.where(images >= 0, 1, -1) if kind == "signs" else images
        nir.write(tmp_path / "net.nir", lava_meta.to_nir(graph))
        written = nir.read(tmp_path / "net.nir")
        assert_computes(written, graph, images)
        assert saved(lava_meta.from_nir(written), tmp_path / "a") == saved(graph, tmp_path / "b")


def test_input_shape_and_levels_are_kept(tmp_path):
    graph = random_graph(np.random.default_rng(5), (18, 6, 3), 16, shape=(2, 3, 3))
    nir.write(tmp_path / "net.nir", lava_meta.to_nir(graph))
    back = lava_meta.from_nir(nir.read(tmp_path / "net.nir")).graph
    assert (back.max_level, back.input_shape) == (16, (2, 3, 3))


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_snntorch_loads_the_file_and_computes_the_same(tmp_path, capsys, centred, affine):
    """600 images, float32: every hidden sign, every class, and (without a real-valued affine map) every sum."""
    pytest.importorskip("nirtorch")
    import torch
    from snntorch.import_nir import import_from_nir

    rng = np.random.default_rng(6)
    graph = random_graph(rng, (64, 60, 50, 10), 16, centred, affine)
    images = random_images(rng, graph, 600)
    nir.write(tmp_path / "net.nir", lava_meta.to_nir(graph, time_step=STEP))
    network = import_from_nir(nir.read(tmp_path / "net.nir"))
    found: dict[str, torch.Tensor] = {}
    for name, module in network.named_modules():
        module.register_forward_hook(lambda _m, _i, output, name=name: found.__setitem__(name, output))
    with torch.no_grad():
        output = network(torch.from_numpy(images).float())
    output = (output[0] if isinstance(output, tuple) else output).numpy()
    ours = graph.activations(images)
    for i in (1, 2):
        assert np.array_equal(found[f"hidden{i}_fires"].numpy() == 1, ours[f"hidden{i}"] == 1)
    assert np.array_equal(output.argmax(axis=1), graph.predict(images))
    if not affine:
        assert np.array_equal(output, ours["readout"])


@pytest.mark.parametrize("norm", ["fixed", "batch", "layer"])
def test_saving_and_exporting_a_converted_model_in_every_order_gives_the_same_bytes(tmp_path, norm):
    import torch

    from lava_meta.nn import BinaryMLP, recalibrate

    model = BinaryMLP([64, 50, 37, 10], norm=norm, pixel_mean=90, seed=4)
    if norm == "batch":
        recalibrate(model, torch.randint(0, 256, (200, 64), generator=torch.Generator().manual_seed(0)))
    net = lava_meta.convert(model.eval())
    expected = saved(net.graph, tmp_path / "first")
    nir.write(tmp_path / "net.nir", lava_meta.to_nir(lava_meta.load(tmp_path / "first")))
    back = lava_meta.from_nir(nir.read(tmp_path / "net.nir"))
    assert saved(back.graph, tmp_path / "second") == expected
    nir.write(tmp_path / "again.nir", lava_meta.to_nir(lava_meta.load(tmp_path / "second")))
    assert saved(lava_meta.from_nir(nir.read(tmp_path / "again.nir")).graph, tmp_path / "third") == expected
    images = random_images(np.random.default_rng(9), net.graph, 200)
    assert_computes(nir.read(tmp_path / "again.nir"), net.graph, images)


def chain(*nodes: nir.NIRNode, metadata: dict | None = None) -> nir.NIRGraph:
    graph = nir.NIRGraph.from_list(*nodes)
    graph.metadata = metadata or {}
    return graph


def signs(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return np.where(rng.random(shape) < 0.5, 1.0, -1.0)


def test_other_programs_graphs_with_scales_biases_and_factors_are_exact():
    """A scale a unit, thresholds anywhere (integers too, where > and >= differ), inverting factors, a Flatten."""
    rng = np.random.default_rng(7)
    for _ in range(50):
        c, d = rng.integers(1, 9, (5, 1)) / 8, rng.integers(1, 9, (4, 1)) / 4
        written = chain(
            nir.Input(np.array([2, 3])),
            nir.Flatten(np.array([2, 3]), start_dim=0),
            nir.Linear(c * signs(rng, (5, 6))),
            nir.Threshold(rng.integers(-8, 9, 5) / 8),
            nir.Affine((d * signs(rng, (4, 5))).astype(np.float32), rng.integers(-4, 5, 4) / 4),
            nir.Scale(rng.choice([-1.5, -1.0, 0.5], 4)),
            nir.Threshold(rng.integers(-8, 9, 4) / 4),
            nir.Affine(signs(rng, (3, 4)), rng.integers(-4, 5, 3) / 2),
        )
        net = lava_meta.from_nir(written, max_level=1)
        assert net.graph.input_shape == (2, 3)
        images = rng.integers(0, 2, (60, 2, 3))
        theirs, ours = reference(written, images.astype(float)), net.graph.activations(images)
        assert np.array_equal(theirs["threshold"] == 1, ours["hidden1"] == 1)
        assert np.array_equal(theirs["threshold_1"] == 1, ours["hidden2"] == 1)
        assert np.array_equal(theirs["output"], net.graph.readout.values(ours["readout"]))


def w(rows: int, columns: int) -> np.ndarray:
    return np.ones((rows, columns))


HALF = np.full(3, 0.5)
REFUSED = {
    "affine.*not \\+c and -c": [nir.Affine(np.array([[1.0, -0.5]]), np.zeros(1))],
    "linear.*not \\+c and -c": [nir.Linear(np.array([[0.0, 0.0]]))],
    "linear.*one c": [nir.Linear(np.array([[np.nan, 1.0]]))],
    "affine.*finite bias": [nir.Affine(w(2, 3), np.array([0.0, np.inf]))],
    "threshold.*finite threshold": [nir.Linear(w(2, 3)), nir.Threshold(np.array([0, np.nan])), nir.Linear(w(2, 2))],
    "threshold_1.*no Affine, Linear or Conv2d": [nir.Threshold(HALF), nir.Threshold(HALF), nir.Linear(w(2, 3))],
    "threshold.*one finite threshold for each input": [nir.Threshold(np.nan * HALF), nir.Linear(w(2, 3))],
    "scale.*one finite factor": [nir.Scale(0 * HALF), nir.Threshold(HALF), nir.Linear(w(2, 3))],
    "threshold is the last": [nir.Linear(w(3, 3)), nir.Threshold(HALF)],
    "linear.*inputs are weighted as they are": [nir.Scale(HALF), nir.Linear(w(2, 3))],
    "scale_1.*must be an Affine": [
        nir.Scale(HALF),
        nir.Threshold(HALF),
        nir.Scale(HALF),
        nir.Threshold(HALF),
        nir.Linear(w(2, 3)),
    ],
    "threshold.*factor of 0": [
        nir.Linear(w(3, 3)),
        nir.Scale(0 * HALF),
        nir.Threshold(HALF),
        nir.Linear(w(2, 3)),
    ],
    "linear_1.*follows linear": [nir.Linear(w(3, 3)), nir.Linear(w(2, 3))],
    "neurons with memory: pass time_step": [nir.Linear(w(3, 3)), nir.LIF(HALF, HALF, HALF, HALF), nir.Linear(w(2, 3))],
    "if.*not supported": [nir.Linear(w(3, 3)), nir.IF(HALF, HALF), nir.Linear(w(2, 3))],
    "affine.*more bits": [nir.Linear(w(3, 3)), nir.Threshold(HALF), nir.Affine(0.1 * w(2, 3), np.full(2, 1e-3))],
    "flatten.*must flatten all": [nir.Input(np.array([2, 3])), nir.Flatten(np.array([2, 3])), nir.Linear(w(2, 3))],
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_exact_is_refused_by_node_name(reason):
    graph = nir.NIRGraph.from_list(*REFUSED[reason], type_check=False)
    with pytest.raises(ConversionError, match=f"(?i){reason}"):
        lava_meta.from_nir(graph, max_level=1)


def test_graphs_that_lead_nowhere_or_round():
    nodes = {"in": nir.Input(np.array([2])), "a": nir.Linear(w(2, 2)), "b": nir.Linear(w(2, 2)), "out": nir.Output([2])}
    for edges, reason in (
        ([("in", "a"), ("a", "b"), ("b", "a")], "out takes nothing"),
        ([("in", "a"), ("a", "b"), ("b", "a"), ("b", "out")], "lies on a cycle"),
        ([("in", "a"), ("a", "out"), ("b", "out")], "b takes nothing"),
        ([("in", "a"), ("a", "b")], "out is not on the way"),
    ):
        with pytest.raises(ConversionError, match=reason):
            lava_meta.from_nir(nir.NIRGraph(dict(nodes), edges, type_check=False), max_level=1)
    with pytest.raises(ConversionError, match="pass max_level="):
        lava_meta.from_nir(chain(nir.Linear(w(2, 2))))


def test_thresholds_that_no_sum_reaches_stay_out_of_reach():
    """Of 63 bits in a network, of any size in NIR."""
    graph = random_graph(np.random.default_rng(8), (6, 4, 3))
    ends = np.array([-(2**63), -(2**52), 2**52, 2**63 - 1])
    graph = replace(graph, layers=(replace(graph.layers[0], threshold=ends),))
    images = random_images(np.random.default_rng(9), graph, 20)
    assert (graph.activations(images)["hidden1"] == [1, 1, -1, -1]).all()
    back = lava_meta.from_nir(lava_meta.to_nir(graph)).graph
    for name, values in graph.activations(images).items():
        assert np.array_equal(back.activations(images)[name], values), name
    tiny = [nir.Linear(1e-300 * w(3, 3)), nir.Threshold(np.array([0.5, -0.5, 1e300])), nir.Linear(w(2, 3))]
    never = lava_meta.from_nir(chain(*tiny), max_level=1).graph
    assert (never.activations(np.ones((1, 3), np.uint8))["hidden1"] == [[-1, 1, -1]]).all()


def test_altered_metadata_and_thresholds_are_refused():
    graph = random_graph(np.random.default_rng(8), (6, 4, 3))
    written = lava_meta.to_nir(graph)
    written.nodes["hidden1"].metadata["polarity"] = np.array([1, 1, 2, 1])
    with pytest.raises(ConversionError, match=r"hidden1 \(Affine\) has a polarity"):
        lava_meta.from_nir(written)
    norm = GroupNorm(1, np.ones(4), np.ones(4), Fraction(1, 100), Fraction(0), np.zeros(0, np.int64))
    normed = DenseLayer.from_weights(w(4, 6), np.zeros(4), norm=norm)
    with pytest.raises(ConversionError, match="hidden1 has a norm whose threshold depends on the image"):
        lava_meta.to_nir(replace(graph, layers=(normed,)))
    with pytest.raises(ValueError, match="time_step is 0"):
        lava_meta.to_nir(graph, time_step=0)
    with pytest.raises(TypeError, match="to_nir takes a converted network or its graph; got DenseLayer"):
        lava_meta.to_nir(graph.layers[0])
    with pytest.raises(TypeError, match=r"a path, or an NIRGraph; got int"):
        lava_meta.from_nir(3)
