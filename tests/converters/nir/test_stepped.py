"""Spiking networks of any form in NIR: the written equations give their spikes, and reading gives them back."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import snntorch as snn
import torch
from torch import nn

import lava_meta
from lava_meta.converters.spiking.network import SpikingNetwork
from lava_meta.errors import ConversionError
from lava_meta.graph.spiking_graph import SteppedGraph

STEP = 1e-3


def neurons(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> nn.Module:
    """With the reset that NIR has, constants of their own."""
    sizes = shape if len(shape) == 1 else (shape[0], 1, 1)

    def drawn(low: float, high: float) -> torch.Tensor:
        return torch.tensor(rng.uniform(low, high, sizes), dtype=torch.float32)

    options = {"threshold": drawn(0.2, 1.5), "reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}
    if kind == "leaky":
        return snn.Leaky(drawn(0.3, 0.95), **options)
    if kind == "synaptic":
        return snn.Synaptic(drawn(0.2, 0.9), drawn(0.3, 0.95), **options)
    recurrent = {"linear_features": shape[0]} if len(shape) == 1 else {"conv2d_channels": shape[0], "kernel_size": 3}
    if rng.random() < 0.3:
        recurrent = {"all_to_all": False, "V": drawn(-0.5, 0.5)}
    return snn.RLeaky(drawn(0.3, 0.95), **recurrent, **options)


def network(rng: np.random.Generator, kind: str) -> SteppedGraph:
    torch.manual_seed(int(rng.integers(2**31)))
    if rng.random() < 0.4:
        model = nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1, bias=kind != "synaptic"),
            nn.AvgPool2d(2),
            neurons(kind, rng, (3, 3, 3)),
            nn.MaxPool2d(2, stride=1),
            nn.Flatten(),
            nn.Linear(12, 5, bias=kind != "synaptic"),
            neurons(kind, rng, (5,)),
        )
        shape = (1, 6, 6)
    else:
        model = nn.Sequential(
            nn.Linear(36, 8, bias=kind != "synaptic"),
            neurons(kind, rng, (8,)),
            nn.Linear(8, 5, bias=kind != "synaptic"),
            neurons(kind, rng, (5,)),
        )
        shape = (36,)
    with torch.no_grad():
        for module in model:
            if hasattr(module, "weight"):
                module.weight.mul_(3)
    return lava_meta.from_snntorch(model.eval(), input_shape=shape).graph


def simulated(graph: nir.NIRGraph, order: list[str], frames: np.ndarray) -> np.ndarray:
    """NIR's own equations in float64, by Euler's method: what another program computes."""
    states, sent, out = {}, {}, []
    for frame in frames:
        values = {"input": frame.astype(float).reshape(-1, *graph.nodes["input"].input_type["input"])}
        for name in [*order, "output"]:
            node = graph.nodes[name]
            given = [values.get(a, sent.get(a)) for a, b in graph.edges if b == name]
            x = sum(value for value in given if value is not None)
            if isinstance(node, nir.Linear):
                values[name] = x @ node.weight.T
            elif isinstance(node, nir.Conv2d):
                weight = torch.from_numpy(node.weight)
                values[name] = torch.conv2d(
                    torch.from_numpy(x), weight, None, tuple(node.stride), tuple(node.padding)
                ).numpy()
            elif isinstance(node, nir.SumPool2d):
                stride = tuple(node.stride)
                values[name] = 4 * nn.functional.avg_pool2d(torch.from_numpy(x), 2, stride).numpy()
            elif isinstance(node, nir.Threshold):
                values[name] = (x > node.threshold).astype(float)
            elif isinstance(node, nir.Flatten):
                values[name] = x.reshape(len(x), -1)
            elif isinstance(node, (nir.LIF, nir.CubaLIF)):
                current, v = states.get(name, (0.0, 0.0))
                if isinstance(node, nir.CubaLIF):
                    x = current = current + STEP / node.tau_syn * (-current + node.w_in * x)
                tau = node.tau_mem if isinstance(node, nir.CubaLIF) else node.tau
                v = v + STEP / tau * (node.v_leak - v + node.r * x)
                spikes = v > node.v_threshold
                states[name] = current, np.where(spikes, node.v_reset, v)
                values[name] = spikes.astype(float)
            elif isinstance(node, nir.Output):
                out.append(x.astype(np.uint8))
        for name, node in graph.nodes.items():
            if name.endswith(".back"):
                x = values[name.removesuffix(".back")]
                sent[name] = x * node.scale if isinstance(node, nir.Scale) else x @ node.weight.T + node.bias
    return np.stack(out)


@pytest.mark.parametrize("kind", ["leaky", "synaptic", "rleaky"])
def test_the_written_equations_give_the_spikes_and_reading_gives_the_network_back(kind, tmp_path):
    """In float64 as NIR's readers compute; a potential within float32's rounding of its threshold may differ."""
    rng = np.random.default_rng(51)
    fired, differ, total = 0, 0, 0
    for number in range(12):
        graph = network(rng, kind)
        written = lava_meta.to_nir(SpikingNetwork(graph), time_step=STEP)
        if number % 4 == 0:
            nir.write(tmp_path / "net.nir", written)
            written = nir.read(tmp_path / "net.nir")
        x = rng.integers(0, 2, (15, 10, 36))
        ours = graph.spikes(x)[graph.output]
        again = lava_meta.from_nir(written)
        assert isinstance(again, SpikingNetwork)
        found = again.graph.spikes(x)
        for mine, other in zip(graph.neurons, again.graph.neurons, strict=True):
            assert (found[other] == graph.spikes(x)[mine]).mean() > 0.999
        if kind != "rleaky":  # whose first step has the bias of the way back, which a simulation sends a step later
            order = [part for name in graph.nodes for part in (f"{name}.sum", name) if part in written.nodes]
            differ += int((simulated(written, order, x) != ours).sum())
        fired, total = fired + int(ours.sum()), total + ours.size
    assert 0.05 < fired / total < 0.95
    assert differ <= total // 2000


def test_integrating_readouts_and_other_programs_graphs_are_read():
    weight = np.array([[0.5, -0.25], [1.0, 0.75]])
    ones = np.ones(2)
    graph = nir.NIRGraph(
        {
            "input": nir.Input(np.array([2])),
            "fc": nir.Affine(weight, np.array([0.25, 0.0])),
            "li": nir.LI(tau=4 * STEP * ones, r=ones, v_leak=0 * ones),
            "output": nir.Output(np.array([2])),
        },
        [("input", "fc"), ("fc", "li"), ("li", "output")],
    )
    net = lava_meta.from_nir(graph, time_step=STEP, max_level=1)
    assert net.readout == "last"
    x = np.array([[[1, 0]], [[1, 1]], [[0, 1]]])
    v, wanted = np.zeros(2), []
    for frame in x[:, 0]:
        v = v + (weight @ frame + [0.25, 0] - v) / 4
        wanted.append(v)
    spikes, potentials = net.graph.traces(x, potentials=["li"])
    assert not spikes["li"].any()
    np.testing.assert_allclose(potentials["li"][:, 0], wanted, rtol=1e-6)


def test_what_nir_lacks_is_refused_by_name():
    rng = np.random.default_rng(52)

    def converted(model: nn.Module, **options) -> SteppedGraph:
        return lava_meta.from_snntorch(model.eval(), **options).graph

    plain = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}
    for graph, reason in (
        (
            converted(nn.Sequential(nn.Linear(4, 3), snn.Leaky(0.9, init_hidden=True))),
            "1 has the reset 'subtract', one",
        ),
        (converted(nn.Sequential(nn.Linear(4, 3), snn.Alpha(0.9, 0.8))), r"1 \(alpha neurons\) has no node"),
        (converted(nn.Sequential(nn.Linear(4, 3), snn.Leaky(1.0, **plain))), "1 has an alpha or beta of 1"),
        (converted(nn.Sequential(nn.Linear(4, 3), snn.Leaky(0.5, threshold=-1.0, **plain))), "thresholds below 0"),
        (converted(nn.Sequential(nn.Linear(4, 3), snn.Synaptic(0.5, 0.5, **plain))), "1 has a bias in front of"),
        (
            converted(
                nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), snn.Leaky(0.5, **plain)), input_shape=(1, 6, 6)
            ),
            r"1.pool \(max pooling\) has no node",
        ),
    ):
        with pytest.raises(ConversionError, match=reason):
            lava_meta.to_nir(graph, time_step=STEP)
    graph = lava_meta.to_nir(network(rng, "leaky"), time_step=STEP)
    neurons = next(node for node in graph.nodes.values() if isinstance(node, nir.LIF))
    neurons.v_reset = neurons.v_reset + 0.5
    with pytest.raises(ConversionError, match=r"\(LIF\) has a v_reset that is not 0"):
        lava_meta.from_nir(graph)
    neurons.v_reset = neurons.v_reset * 0
    neurons.tau = neurons.tau * 1e-6
    with pytest.raises(ConversionError, match="time constants below the time step"):
        lava_meta.from_nir(graph)
    del graph.metadata["time_step"]
    with pytest.raises(ConversionError, match="pass time_step="):
        lava_meta.from_nir(graph)
