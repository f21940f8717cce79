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
from lava_meta.graph.packed import spiking_loops as loops
from lava_meta.graph.packed import spiking_periods
from lava_meta.graph.packed.spiking import CompiledRun
from lava_meta.graph.packed.spiking_ahead import AllSteps


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
    from lava_meta.converters.spiking.reading import read_spiking

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
    ("options", "few", "pool"),
    [
        ({"reset_mechanism": "zero"}, True, nn.MaxPool2d(2)),
        ({"reset_mechanism": "zero", "reset_delay": False}, True, nn.AvgPool2d(2)),
        ({"reset_mechanism": "subtract", "reset_delay": False}, False, nn.Identity()),
        ({"reset_mechanism": "none"}, True, nn.MaxPool2d((1, 2))),
    ],
)
@pytest.mark.parametrize("held", [True, False])
def test_all_time_steps_of_a_layer_at_once(options, few, pool, held, monkeypatch):
    """Few trains are summed once each, many spike by spike, in one piece or in several: the reference's spikes."""
    torch.manual_seed(3)
    neurons = {"beta": 0.9, "init_hidden": True, **options}
    model = nn.Sequential(
        nn.Conv2d(2, 12, 3, padding=1),
        snn.Leaky(**neurons),
        nn.Conv2d(12, 5, 3, stride=(2, 1), padding=(0, 2), dilation=(2, 1)),
        pool,
        snn.Synaptic(alpha=0.4, beta=0.8, init_hidden=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.LazyLinear(3),
        snn.Leaky(output=True, **neurons),
    )
    model(torch.zeros(1, 2, 11, 11))
    max_level = 255 if held else 1
    graph = read(models.louder(model), input_shape=(2, 11, 11), mean=0, std=1, bits=8, max_level=max_level)
    assert AllSteps.of(graph, held=held) is not None
    first = next(iter(graph.neurons))
    rng = np.random.default_rng(44)
    run = CompiledRun(graph)
    for steps in (7, 30, 40, 70):  # 70 steps are no word
        x = rng.integers(0, max_level, (6, 242) if held else (steps, 6, 242), endpoint=True)
        wanted = graph.spikes(x, steps if held else None)
        for nearest, most in ((1, 1), (1, 2**19), (2**15, 2**19)):
            monkeypatch.setattr(ahead, "_NEAREST", nearest)
            monkeypatch.setattr(ahead, "_MOST_BYTES", most)
            frames = graph.frames(x, steps if held else None)
            found = run.trains(frames[:1] if held else frames, steps if held else None, [*graph.neurons])
            for name in graph.neurons:
                assert np.array_equal(found[name], wanted[name]), (name, steps)
                assert 0 < wanted[name].mean() < 1
        bits = (wanted[first].astype(object) << np.arange(steps)[:, None, None]).sum(axis=0)
        assert (max(len({*image}) for image in bits) < 32) == (few and held) or steps < 30


def test_what_is_not_computed_at_once():
    """Recurrent networks, branches, other neurons and strides along the rows go step by step."""
    torch.manual_seed(1)
    for kind in ("rleaky", "alpha", "lapicque"):
        model, shape = models.random_network(np.random.default_rng(3), kind)
        assert AllSteps.of(read(model, input_shape=shape), held=True) is None
    graph = read(models.louder(models.Branches()), input_shape=(64,))
    assert AllSteps.of(graph, held=True) is None
    graph = read(models.louder(models.Dense()), input_shape=(64,), max_level=255)
    assert AllSteps.of(graph, held=False) is None  # frames of levels
    assert AllSteps.of(graph, held=True) is not None


@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize(("beta", "threshold"), [(0.9, 1.0), (0.0, 0.5), (1.0, 1.0), (1.5, 2.0), (0.3, 0.0)])
def test_trains_of_held_currents_follow_from_their_period(beta, threshold, delayed):
    """At each least current, just below it, and at what no current should be: as the neurons' loop, step by step."""
    steps = 30
    least = spiking_periods.least_currents(np.float32(beta), np.float32(threshold), steps)
    assert (np.diff(least[~np.isnan(least)]) <= 0).all()
    currents = np.concatenate([least, np.nextafter(least, 0), [0, -0.0, -1, 1e-45, 3e38, np.inf, -np.inf, np.nan]])
    units = len(currents)
    given = currents.astype(np.float32)[None]
    decay, limit = (np.full(units, value, np.float32) for value in (beta, threshold))
    potential, spikes, stepped = (
        np.zeros((1, units), np.float32),
        np.empty((1, units), bool),
        np.zeros(units, np.uint32),
    )
    for step in range(steps):
        loops.leaky(given, decay, limit, loops.ZERO, delayed, potential, spikes)
        stepped |= spikes[0].astype(np.uint32) << np.uint32(step)
    at_once = np.empty((1, units), np.uint32)
    sums, known = np.zeros((1, units), np.int16), spiking_periods.trains(steps, np.uint32)
    spiking_periods.fire(sums, np.zeros(units), currents.astype(np.float64), least, known, at_once)
    assert np.array_equal(at_once[0], stepped)
    assert len(np.unique(stepped)) >= 2
