"""The report of networks with time: counts against loops over steps, images and synapses."""

from __future__ import annotations

import numpy as np
import pytest

from lava_meta.converters.spiking.network import SpikingNetwork
from lava_meta.errors import ConversionError
from lava_meta.graph.bits import pack
from lava_meta.graph.spiking import LIFLayer, SpikingGraph


def layer(rng: np.random.Generator, inputs: int, units: int, threshold: float, reset: str = "zero") -> LIFLayer:
    numbers = np.full(units, 0.9, np.float32), np.full(units, threshold, np.float32)
    return LIFLayer(pack(rng.random((units, inputs)) < 0.6), inputs, *numbers, reset=reset, reset_delay=False)


def network(max_level: int, **options: str) -> SpikingNetwork:
    rng = np.random.default_rng(0)
    layers = layer(rng, 9, 6, 3.0 * max_level, **options), layer(rng, 6, 4, 1.0, **options)
    return SpikingNetwork(SpikingGraph(layers, max_level, 0, (9,)))


@pytest.mark.parametrize("max_level", [1, 100])
def test_counts_are_sums_over_the_steps_of_an_image(max_level: int) -> None:
    net, steps, n = network(max_level), 5, 7
    x = np.random.default_rng(1).integers(0, max_level + 1, (n, 9)) * (np.arange(9) % 3 > 0)
    found = net.report("loihi2", x, steps=steps, labels=np.zeros(n, int))
    spikes = net.graph.spikes(x, steps, "fixed_pt")
    assert 0 < spikes["hidden1"].mean() < 1
    first = second = 0
    for t in range(steps):
        for image in range(n):
            first += sum(1 for j in range(9) for _ in range(6) if x[image, j])
            second += sum(1 for j in range(6) for _ in range(4) if spikes["hidden1"][t, image, j])
    assert [row.synaptic_operations for row in found.layers] == pytest.approx([first / n, second / n])
    assert [row.spikes_sent for row in found.layers] == pytest.approx([s.sum() / n for s in spikes.values()])
    assert found.totals.neurons == 6 + 4
    assert found.totals.neuron_updates == 10 * steps
    assert found.counts.active_neuron_update + found.counts.inactive_neuron_update == 10 * steps
    assert found.totals.latency_in_steps == 2 + steps - 1
    assert found.totals.synapses == 9 * 6 + 6 * 4
    assert found.neurobench["Synaptic Operations"] == pytest.approx(
        {
            "Dense": steps * (54 + 24),
            "Effective_MACs": first / n if max_level > 1 else 0,
            "Effective_ACs": (second + (first if max_level == 1 else 0)) / n,
        }
    )
    everything = np.concatenate([s.reshape(-1) for s in spikes.values()])
    assert found.neurobench["Activation Sparsity"] == pytest.approx(1 - everything.mean())
    classes = spikes["output"].sum(axis=0).argmax(axis=1)
    assert found.neurobench["Classification Accuracy"] == pytest.approx((classes == 0).mean())
    assert f"held for {steps} time steps" in str(found)
    assert "An image enters each time step" not in str(found)


def test_frames_may_differ_from_step_to_step() -> None:
    net = network(1)
    frames = np.random.default_rng(2).integers(0, 2, (3, 5, 9))
    assert net.report("loihi2", frames).layers[0].spikes_in == pytest.approx(frames.sum() / 5)


def test_what_has_no_stock_form_or_does_not_fit_is_refused() -> None:
    x = np.zeros((2, 9), int)
    with pytest.raises(ConversionError, match="hidden1 resets by 'subtract'"):
        network(1, reset="subtract").report("loihi2", x, steps=2)
    for options, says in (
        ({"steps": 0}, "at least one time step"),
        ({"steps": 2, "labels": [1]}, "one for each of 2"),
        ({"steps": 2, "weight_bits": 9}, "2 to 8 bits"),
    ):
        with pytest.raises(ValueError, match=says):
            network(1).report("loihi2", x, **options)
    with pytest.raises(ValueError, match="public limits for loihi2"):
        network(1).report("loihi9", x, steps=2)
