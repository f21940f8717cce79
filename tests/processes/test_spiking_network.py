"""A spiking network wired to other Processes: a time step of it per time step, with and without an end."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("lava")
pytest.importorskip("snntorch")
import spiking_models as models
import torch
from children import actors
from lava.magma.core.run_configs import Loihi2SimCfg

import lava_meta
from lava_meta.errors import ConversionError, RunError
from lava_meta.processes.ring import Ring
from lava_meta.processes.runtime import Supervised
from lava_meta.processes.spiking_network.process import SpikingNetworkProcess
from lava_meta.processes.stream.process import Sink, Source


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(0)
    return lava_meta.from_snntorch(models.louder(models.sequential()), bits=8).graph


def run(graph, frames: np.ndarray, form: str, **options) -> np.ndarray:
    steps, lanes, n_in = frames.shape
    network = SpikingNetworkProcess(graph=graph, lanes=lanes, **options)
    inlet, outlet = Ring((lanes, n_in), np.int32), Ring((lanes, network.s_out.shape[1]), np.uint8)
    source = Source(ring=inlet)
    source.s_out.connect(network.s_in)
    network.s_out.connect(Sink(ring=outlet).a_in)
    out = []
    with Supervised(source, Loihi2SimCfg(select_tag=form), 60) as supervised:
        supervised.start(steps)
        for frame in frames:
            inlet.put(frame, supervised.check)
            out.append(outlet.get(supervised.check))
        supervised.wait()
    return np.stack(out)


@pytest.mark.lava
@pytest.mark.parametrize("form", ["floating_pt", "fixed_pt"])
def test_ports_carry_the_references_spikes(graph, form):
    frames = np.random.default_rng(71).integers(0, 2, (12, 5, 64))
    assert np.array_equal(run(graph, frames, form), graph.spikes(frames, form=form)["4"])
    first = graph.spikes(frames[:6], form=form)["2"], graph.spikes(frames[6:], form=form)["2"]
    assert np.array_equal(run(graph, frames, form, steps=6, output="2"), np.concatenate(first))
    assert actors() == []


@pytest.mark.lava
def test_other_numbers_end_the_run(graph):
    with pytest.raises(RunError, match="inputs run from 2 to 2; this network takes 0 to 1"):
        run(graph, np.full((2, 3, 64), 2), "floating_pt")
    for options, reason in (
        ({"lanes": 0}, "lanes is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"output": "3"}, "output is '3'; this network has 2, 4"),
    ):
        with pytest.raises(ValueError, match=reason):
            SpikingNetworkProcess(graph=graph, **options)


def test_a_stream_is_answered_frame_by_frame(graph):
    """Frames come from a generator without an end; nothing is kept of those that have passed."""
    frames = np.random.default_rng(72).integers(0, 2, (30, 2, 64))
    net = lava_meta.SpikingNetwork(graph)
    wanted = graph.spikes(frames)

    def endless():
        while True:
            yield from frames

    for k, spikes in zip(range(30), net.stream(endless()), strict=False):
        assert all(np.array_equal(spikes[name], wanted[name][k]) for name in wanted)
    chain = lava_meta.from_snntorch(
        torch.nn.Sequential(
            lava_meta.BinaryLinear(64, 5), models.neuron("leaky", np.random.default_rng(1), (5,))
        ).eval()
    )
    wanted = chain.graph.spikes(frames)["output"]
    assert np.array_equal(np.stack([spikes["output"] for spikes in chain.stream(frames)]), wanted)


def layered(graph, frames: np.ndarray, form: str, names: list[str], **options) -> dict[str, np.ndarray]:
    steps, lanes, n_in = frames.shape
    network = lava_meta.SpikingNetwork(graph).process(lanes, **options)
    inlet = Ring((lanes, n_in), np.int32)
    outlets = {name: Ring((lanes, graph.placed[name].n_out), np.uint8) for name in names}
    outlets["out"] = Ring((lanes, graph.n_out), np.uint8)
    source = Source(ring=inlet)
    source.s_out.connect(network.s_in)
    for name, ring in outlets.items():
        (network.out if name == "out" else network.port(name)).connect(Sink(ring=ring).a_in)
    out: dict[str, list[np.ndarray]] = {name: [] for name in outlets}
    with Supervised(source, Loihi2SimCfg(select_tag=form), 60) as supervised:
        supervised.start(steps)
        for frame in frames:
            inlet.put(frame, supervised.check)
            for name, ring in outlets.items():
                out[name].append(ring.get(supervised.check))
        supervised.wait()
    return {name: np.stack(values) for name, values in out.items()}


@pytest.mark.lava
@pytest.mark.parametrize("form", ["floating_pt", "fixed_pt"])
def test_a_process_per_node_gives_the_references_spikes(form):
    """Branches, both kinds of recurrence, with and without new beginnings."""
    rng = np.random.default_rng(73)
    torch.manual_seed(1)
    branches = models.Branches() if form == "fixed_pt" else models.Recurrent(joined=True)
    graphs = [lava_meta.from_snntorch(models.louder(branches), input_shape=(64,), bits=8).graph]
    model, shape = models.random_network(rng, "rsynaptic")
    graphs.append(lava_meta.from_snntorch(model, input_shape=shape).graph)
    for graph in graphs:
        frames = rng.integers(0, 2, (6, 3, graph.n_in))
        wanted = graph.spikes(frames, form=form)
        found = layered(graph, frames, form, [*wanted])
        assert all(np.array_equal(found[name], values) for name, values in wanted.items())
        assert np.array_equal(found["out"], wanted[graph.output])
    again = layered(graph, frames, form, [*wanted], steps=3)
    parts = [graph.spikes(part, form=form)[graph.output] for part in (frames[:3], frames[3:])]
    assert np.array_equal(again["out"], np.concatenate(parts))
    assert actors() == []


@pytest.mark.lava
def test_stock_processes_give_the_fixed_point_spikes():
    """With recurrent synapses, an idle step between two images; a network that does not fit is refused at once."""
    options = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}
    torch.manual_seed(2)
    model = torch.nn.Sequential(
        torch.nn.Linear(16, 8),
        models.snn.RLeaky(0.8, linear_features=8, **options),
        torch.nn.Linear(8, 4),
        models.snn.Leaky(0.7, threshold=0.5, **options),
    )
    net = lava_meta.from_snntorch(models.louder(model), bits=8, form="stock")
    frames = np.random.default_rng(74).integers(0, 2, (5, 4, 16))
    wanted = net.graph.spikes(frames, form="fixed_pt")
    assert all(0 < spikes.mean() < 1 for spikes in wanted.values())
    found = net.spikes(frames, time_first=True)
    assert all(np.array_equal(found[name], values) for name, values in wanted.items())
    first = net.spikes(frames[0], 3, layers=["1"])["1"]
    assert np.array_equal(first, net.graph.spikes(frames[0], 3, form="fixed_pt")["1"])
    assert actors() == []
    with pytest.raises(ConversionError, match="2 resets by 'subtract' a step late"):
        lava_meta.SpikingNetwork(lava_meta.from_snntorch(models.sequential().eval(), bits=8).graph, form="stock")
