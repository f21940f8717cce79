"""The compiled spiking network gives the reference's spikes and potentials, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("snntorch")
import snntorch as snn
import spiking_models as models
import torch
from torch import nn

import lava_meta
from lava_meta.graph.packed import spiking_ahead as ahead
from lava_meta.graph.packed.spiking import CompiledRun


def compare(graph, x: np.ndarray, steps: int | None, form: str = "floating_pt") -> None:
    spikes, potentials = graph.traces(x, steps, form, potentials=graph.neurons)
    frames = graph.frames(x, steps)
    names = [*graph.neurons, *(f"{name}.mem" for name in graph.neurons)]
    found = CompiledRun(graph, form).trains(frames if steps is None else frames[:1], steps, names)
    for name in graph.neurons:
        assert np.array_equal(found[name], spikes[name]), name
        assert np.array_equal(found[f"{name}.mem"], potentials[name].astype(np.float32)), name


@pytest.mark.parametrize("kind", models.KINDS)
def test_random_networks_of_every_neuron(kind):
    rng = np.random.default_rng(41)
    fired = 0
    for _ in range(15):
        model, shape = models.random_network(rng, kind)
        max_level = int(rng.choice([1, 15, 255]))
        graph = read(model, input_shape=shape, max_level=max_level)
        x = rng.integers(0, max_level, (9, 5, int(np.prod(shape))), endpoint=True)
        for form in ("floating_pt", "fixed_pt"):
            compare(graph, x, None, form)
            compare(graph, x[0], 6, form)
        fired += graph.spikes(x)[graph.output].sum()
    assert fired > 0


@pytest.mark.parametrize(
    "build", [models.Dense, models.Convolutional, models.Readout, models.Binarized, models.Branches]
)
@pytest.mark.parametrize("bits", [None, 8])
def test_layouts_with_real_and_rounded_weights(build, bits):
    torch.manual_seed(0)
    shape = (1, 8, 8) if build is models.Convolutional else (64,)
    graph = read(models.louder(build()), input_shape=shape, mean=0, std=1, bits=bits)
    rng = np.random.default_rng(42)
    compare(graph, rng.integers(0, 256, (40, 64)), 9)
    compare(graph, rng.integers(0, 256, (7, 12, 64)), None)


def test_strides_dilations_and_padding_of_convolutions():
    rng = np.random.default_rng(43)
    for stride, padding, dilation in ((2, 1, 1), (1, 2, 2), (3, 0, 1), ((2, 1), (0, 2), (1, 2))):
        torch.manual_seed(1)
        model = nn.Sequential(
            nn.Conv2d(2, 5, 3, stride, padding, dilation),
            models.neuron("leaky", rng, (5, 1, 1)),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.LazyLinear(4),
            models.neuron("leaky", rng, (4,)),
        )
        model[0](torch.zeros(1, 2, 9, 11))
        width = nn.Sequential(model[0], model[2], model[3])(torch.zeros(1, 2, 9, 11)).shape[1]
        model[4] = nn.Linear(width, 4)
        graph = read(models.louder(model), input_shape=(2, 9, 11))
        compare(graph, rng.integers(0, 2, (8, 6, 2 * 9 * 11)), None)


def read(model: nn.Module, **options):
    """The network as `from_snntorch` reads it, also where it is a chain of binary layers."""
    from lava_meta.converters.spiking_reading import read_spiking

    return read_spiking(model, **options).graph


def test_a_stream_goes_on_where_it_stood_and_restarts_at_rest():
    torch.manual_seed(2)
    graph = lava_meta.from_snntorch(models.louder(models.sequential())).graph
    x = np.random.default_rng(44).integers(0, 2, (20, 3, 64))
    whole = graph.spikes(x)[graph.output]
    run = CompiledRun(graph)
    for _ in range(2):
        for k, frame in enumerate(x):
            assert np.array_equal(run.step(frame)[graph.output], whole[k])
        run.restart()
    run.step(x[0])
    with pytest.raises(ValueError, match="a frame of 2 inputs behind frames of 3"):
        run.step(x[0][:2])


@pytest.mark.parametrize(
    ("options", "few"),
    [
        ({"reset_mechanism": "zero"}, True),
        ({"reset_mechanism": "zero", "reset_delay": False}, True),
        ({"reset_mechanism": "subtract", "reset_delay": False}, False),
    ],
)
@pytest.mark.parametrize("pooled", [True, False])
def test_sums_of_a_held_image_that_are_known_beforehand(options, few, pooled, monkeypatch):
    """Few trains are summed once each, many step by step; both give the reference's spikes."""
    torch.manual_seed(3)
    neurons = {"beta": 0.9, "init_hidden": True, **options}
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        snn.Leaky(**neurons),
        nn.Conv2d(12, 5, 3, stride=(2, 1), padding=(0, 2), dilation=(2, 1)),
        *([nn.MaxPool2d(2)] if pooled else []),
        snn.Leaky(**neurons),
        nn.Flatten(),
        nn.LazyLinear(3),
        snn.Leaky(output=True, **neurons),
    )
    model(torch.zeros(1, 1, 9, 9))
    graph = read(models.louder(model), input_shape=(1, 9, 9), mean=0, std=1, bits=8)
    given: list[bool] = []
    whole = ahead.sums_of_trains

    def sums_of_trains(*arguments):
        found = whole(*arguments)
        given.append(found is not None)
        return found

    monkeypatch.setattr(ahead, "sums_of_trains", sums_of_trains)
    x = np.random.default_rng(44).integers(0, 256, (6, 81))
    run = CompiledRun(graph)
    for steps in (7, 30, 40, 70):
        wanted = graph.spikes(x, steps)
        found = run.trains(graph.frames(x, steps)[:1], steps, [*graph.neurons])
        for name in graph.neurons:
            assert np.array_equal(found[name], wanted[name]), (name, steps)
            assert 0 < wanted[name].mean() < 1
    assert len(given) == 3  # 70 steps are no word
    assert given[0] or not few
    assert few or not all(given)
