"""Spiking networks of any form as stock Processes: the integers of the fixed-point form, some steps later."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("lava.magma")
pytest.importorskip("snntorch")

import snntorch as snn
import stock_steps
import torch
from torch import Tensor, nn

import lava_meta
from lava_meta.converters.spiking.fit import fit
from lava_meta.errors import ConversionError
from lava_meta.graph.spiking import SpikingGraph
from lava_meta.graph.spiking_graph import SteppedGraph
from lava_meta.loihi.stock.stepped import period, plan_stepped

pytestmark = pytest.mark.lava
RESET = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}
KINDS = ("leaky", "synaptic", "rleaky")


def neurons(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> nn.Module:
    """With one beta, and thresholds of their own."""
    sizes = shape if len(shape) == 1 else (shape[0], 1, 1)
    options = RESET | {"threshold": torch.tensor(rng.uniform(0.4, 1.2, sizes), dtype=torch.float32)}
    beta = float(rng.uniform(0.1, 0.97))
    if kind == "leaky":
        return snn.Leaky(beta, **options)
    if kind == "synaptic":
        return snn.Synaptic(float(rng.uniform(0.0, 0.8)), beta, **options)
    recurrent = {"linear_features": shape[0]} if len(shape) == 1 else {"conv2d_channels": shape[0], "kernel_size": 3}
    if rng.random() < 0.4:
        recurrent = {"all_to_all": False, "V": float(rng.uniform(-0.5, 0.5))}
    return snn.RLeaky(beta, **recurrent, **options)


class Joined(nn.Module):
    """A shortcut past a layer, and spikes of two layers joined."""

    def __init__(self, kind: str, rng: np.random.Generator) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(36, 8), nn.Linear(8, 8), nn.Linear(16, 5)
        self.one, self.two = neurons(kind, rng, (8,)), neurons(kind, rng, (8,))
        self.three = neurons("leaky", rng, (5,))

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(self.fc1(x))
        return self.three(self.fc3(torch.cat([one, self.two(self.fc2(one))], dim=1)))


def model(rng: np.random.Generator, kind: str) -> tuple[nn.Module, tuple[int, ...]]:
    torch.manual_seed(int(rng.integers(2**31)))
    form, shape = int(rng.integers(3)), (36,)
    made: nn.Module = Joined(kind, rng)
    if form == 1:
        made = nn.Sequential(nn.Linear(36, 8), neurons(kind, rng, (8,)), nn.Linear(8, 5), neurons(kind, rng, (5,)))
    elif form == 2:
        shape = (1, 6, 6)
        made = nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1),
            nn.AvgPool2d(2) if rng.random() < 0.5 else nn.Identity(),
            neurons(kind, rng, (3, 3, 3)),
            nn.MaxPool2d(3),
            nn.Flatten(),
            nn.LazyLinear(5),
            neurons("leaky", rng, (5,)),
        )
        made(torch.zeros(1, *shape))
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                module.weight.mul_(2.5)
    return made.eval(), shape


@pytest.mark.parametrize("kind", KINDS)
def test_random_networks_start_anew_and_equal_the_fixed_point_form(kind: str) -> None:
    rng, fired, total = np.random.default_rng(81), 0, 0
    for number in range(5):
        net, shape = model(rng, kind)
        given = lava_meta.from_snntorch(net, input_shape=shape, bits=8, form="stock")
        graph, steps, n = given.graph, 2 + number, 4
        assert isinstance(graph, SteppedGraph)
        assert given.parity is not None
        assert given.parity.fixed_spikes[graph.output] > 0.95
        frames = rng.integers(0, 2, (steps, n, 36))
        expected = graph.spikes(frames, form="fixed_pt")
        every = period(graph, steps)
        assert every == steps + (kind == "rleaky")
        film = np.zeros((n, every, 36), np.int32)
        film[:, :steps] = frames.swapaxes(0, 1)
        film[:, steps:] = 1  # what enters in the idle step does not matter
        found, _ = stock_steps.pipeline(plan_stepped(graph, steps), film.reshape(-1, 36))
        for name, wanted in expected.items():
            sent = found[name].reshape(n, every, -1)[:, :steps].swapaxes(0, 1)
            assert np.array_equal(sent, wanted), (number, name)
            fired, total = fired + int(wanted.sum()), total + wanted.size
    assert 0.05 < fired / total < 0.95


def test_weights_are_rounded_in_whole_shares_of_thresholds() -> None:
    """The bound of what rounding changes, of every weight; K is the greatest that the bits allow."""
    rng = np.random.default_rng(82)
    net = nn.Sequential(nn.Linear(20, 6), neurons("leaky", rng, (6,))).eval()
    graph = lava_meta.from_snntorch(net).graph
    made = fit(graph, 8)
    neuron = made.neurons["1"]
    threshold = net[1].threshold.numpy()
    whole = threshold / neuron.gain
    assert np.allclose(whole, np.rint(whole[0]))
    weights = made.nodes[neuron.sources[0]].weight.values
    assert np.abs(neuron.gain[:, None] * weights - net[0].weight.detach().numpy()).max() <= neuron.gain.max() / 2 * 1.01
    assert 64 < np.abs(weights).max() <= 127
    np.testing.assert_allclose(np.broadcast_to(neuron.constant, 6), net[0].bias.detach().numpy(), rtol=1e-6)


def test_chains_of_binary_layers_are_rounded_only_if_they_do_not_fit() -> None:
    for threshold, kind in ((2.0, SpikingGraph), (1.3, SteppedGraph)):
        net = nn.Sequential(lava_meta.BinaryLinear(12, 5), snn.Leaky(0.9, threshold=threshold, **RESET)).eval()
        made = lava_meta.from_snntorch(net, bits=8, form="stock")
        assert type(made.graph) is kind
        frames = np.random.default_rng(83).integers(0, 2, (4, 3, 12))
        wanted = made.graph.spikes(frames, form="fixed_pt")
        found = made.spikes(frames, time_first=True)
        assert all(np.array_equal(found[name], spikes) for name, spikes in wanted.items())


def test_what_stock_neurons_cannot_do_is_refused_by_name() -> None:
    def graph(*modules: nn.Module, **options: object) -> SteppedGraph:
        torch.manual_seed(0)
        found = fit(lava_meta.from_snntorch(nn.Sequential(*modules).eval(), **options).graph, 8)
        assert isinstance(found, SteppedGraph)
        return found

    betas = torch.tensor([0.5, 0.6, 0.7])
    for net, steps, reason in (
        (graph(nn.Linear(4, 3), snn.Leaky(0.9)), 2, "1 resets by 'subtract' a step late; stock LIF"),
        (graph(nn.Linear(4, 3), snn.Alpha(0.9, 0.8)), 2, "1 has alpha neurons, which are no LIF"),
        (graph(nn.Linear(4, 3), snn.Leaky(betas, **RESET)), 2, "1 has several beta; the neurons"),
        (graph(nn.Linear(4, 3), snn.Leaky(0.0, **RESET)), 2, "1 has a beta of 0"),
        (graph(nn.Linear(4, 3), snn.Leaky(0.9, **RESET)), None, "1 has a bias, and never starts again"),
        (
            graph(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), snn.Leaky(0.5, **RESET), input_shape=(1, 6, 6)),
            2,
            "2 gets the greatest of sums: stock neurons find it of spikes only",
        ),
        (graph(nn.Linear(40000, 3), snn.Leaky(0.9, **RESET), max_level=255), 2, "0.linear has weights of"),
    ):
        with pytest.raises(ConversionError, match=reason):
            plan_stepped(net, steps)
    exact = lava_meta.from_snntorch(nn.Sequential(nn.Linear(4, 3), snn.Leaky(0.9, **RESET)).eval(), bits=8).graph
    with pytest.raises(ConversionError, match="1 has thresholds of several numbers of synapses"):
        plan_stepped(exact, 2)
