"""Spiking networks in NIR: the same spikes by NIR's equations and in snnTorch's importer."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import nir
import numpy as np
import pytest
import torch

import lava_meta
from lava_meta.converters.spiking.network import SpikingNetwork
from lava_meta.errors import ConversionError
from lava_meta.graph.bits import pack
from lava_meta.graph.spiking import LIFLayer, SpikingGraph

STEP = 1e-4  # snnTorch's importer simulates with this one
STEPS = 20


def random_graph(rng: np.random.Generator, one_threshold: bool = False) -> SpikingGraph:
    """Betas and thresholds of each neuron that fall between what sums can give."""
    sizes = (12, *rng.integers(3, 30, 2).tolist(), 4)
    layers = []
    for number, (a, b) in enumerate(pairwise(sizes)):
        gain = float(rng.choice([1.0, 0.5, 0.3]))
        high = gain * a**0.5 * (8 if number == 0 else 1)
        threshold = rng.uniform(0, high, b)
        layers.append(
            LIFLayer(
                pack(rng.random((b, a)) < 0.5),
                a,
                rng.uniform(0, 0.98, b).astype(np.float32),
                np.full(b, threshold[0], np.float32) if one_threshold else threshold.astype(np.float32),
                gain,
                reset="zero",
                reset_delay=False,
            )
        )
    return SpikingGraph(tuple(layers), max_level=16, offset=int(rng.integers(0, 9)), input_shape=(12,))


def reference(graph: nir.NIRGraph, frames: np.ndarray) -> np.ndarray:
    """NIR's equations by Euler's method in float64: the output's spikes (steps, n, classes)."""
    after, v, out = dict(graph.edges), {}, []
    for frame in frames:
        x, name = frame.astype(np.float64), "input"
        while name in after:
            name = after[name]
            node: Any = graph.nodes[name]
            if isinstance(node, nir.Linear):
                x = x @ node.weight.T.astype(np.float64)
            elif isinstance(node, nir.Affine):
                x = x @ node.weight.T.astype(np.float64) + node.bias
            elif isinstance(node, nir.LIF):
                before = v.get(name, np.zeros_like(x))
                moved = before + STEP / node.tau * (node.v_leak - before + node.r * x)
                x = (moved > node.v_threshold).astype(np.float64)
                v[name] = np.where(x == 1, node.v_reset, moved)
        out.append(x)
    return np.array(out)


def test_two_hundred_random_networks_spike_alike(tmp_path):
    """NIR's equations in float64, our neurons in float32: a potential within rounding of a threshold may differ."""
    rng = np.random.default_rng(21)
    differ = total = 0
    for number in range(200):
        graph = random_graph(rng)
        written = lava_meta.to_nir(SpikingNetwork(graph), time_step=STEP)
        if number % 20 == 0:
            nir.write(tmp_path / "net.nir", written)
            written = nir.read(tmp_path / "net.nir")
        images = rng.integers(0, 17, (10, 12))
        ours = graph.spikes(images, STEPS)["output"]
        differ += int((reference(written, graph.frames(images, STEPS)) != ours).sum())
        total += ours.size
    assert 0.05 < ours.mean() < 0.95
    assert differ == 0, f"{differ} of {total} spikes differ"


def test_snntorch_loads_the_file_and_spikes_alike(tmp_path, capsys):
    pytest.importorskip("nirtorch")
    from snntorch.import_nir import import_from_nir

    rng = np.random.default_rng(22)
    for _ in range(5):
        graph = random_graph(rng, one_threshold=True)
        nir.write(tmp_path / "net.nir", lava_meta.to_nir(graph, time_step=STEP))
        network = import_from_nir(nir.read(tmp_path / "net.nir")).float()
        images = rng.integers(0, 17, (30, 12))
        ours = graph.spikes(images, STEPS)["output"]
        state = None
        with torch.no_grad():
            for step, frame in enumerate(graph.frames(images, STEPS)):
                found, state = network(torch.from_numpy(frame.copy()).float(), state)
                assert np.array_equal(found.numpy(), ours[step])


def test_what_nir_has_no_neuron_for_is_refused_by_layer_name():
    graph = random_graph(np.random.default_rng(23))
    first, *rest = graph.layers

    def changed(**fields: Any) -> SpikingGraph:
        return replace(graph, layers=(replace(first, **fields), *rest))

    for fields, reason in (
        ({"reset": "subtract"}, "hidden1 has the reset 'subtract'; NIR's LIF"),
        ({"reset": "none"}, "hidden1 has the reset 'none'"),
        ({"reset_delay": True}, "hidden1 has the reset 'zero', one step late"),
        ({"beta": np.ones(first.n_out, np.float32)}, "hidden1 has neurons with a beta of 1"),
        ({"threshold": -np.ones(first.n_out, np.float32)}, "hidden1 has thresholds below 0"),
    ):
        with pytest.raises(ConversionError, match=reason):
            lava_meta.to_nir(changed(**fields), time_step=STEP)
    with pytest.raises(ValueError, match="needs time_step="):
        lava_meta.to_nir(graph)


def test_chains_are_read_back_with_equal_spikes():
    rng = np.random.default_rng(24)
    for _ in range(20):
        graph = random_graph(rng)
        again = lava_meta.from_nir(lava_meta.to_nir(graph, time_step=STEP), max_level=16)
        images = rng.integers(0, 17, (10, 12))
        assert np.array_equal(
            again.graph.spikes(images, STEPS)[again.graph.output], graph.spikes(images, STEPS)["output"]
        )
