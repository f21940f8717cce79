"""Figures of spiking networks show every spike, potential and rate of the network's own run."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("snntorch")
import spiking_models as models
import torch

import lava_meta


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return lava_meta.from_snntorch(models.louder(models.Convolutional()), mean=0, std=1, input_shape=(1, 8, 8))


IMAGE = np.random.default_rng(1).integers(0, 256, (1, 8, 8))


def test_a_raster_has_a_mark_per_spike(net):
    spikes = net.graph.spikes(IMAGE[None], 12)
    figure = net.raster(IMAGE, 12)
    for axis, (name, values) in zip(figure.axes, spikes.items(), strict=True):
        marks = axis.collections[0].get_segments()
        assert {(round(x), round((low + high) / 2)) for (x, low), (_, high) in marks} == {
            (int(step) + 1, int(unit)) for step, unit in np.argwhere(values[:, 0])
        }
        assert axis.get_ylabel() == name
        assert axis.texts[0].get_text() == f"{values.mean():.0%}"
    wide = lava_meta.from_snntorch(models.louder(models.Dense(outputs=450)), mean=0, std=1)
    axis = wide.raster(IMAGE, 5, ["lif2"]).axes[0]
    assert axis.get_ylabel() == "lif2\n(1 of 3)"


def test_traces_are_the_potentials(net):
    spikes, potentials = net.graph.traces(IMAGE[None], 12, potentials=["lif3"])
    figure = net.trace(IMAGE, "lif3", 12, neurons=[7, 2])
    for axis, neuron in zip(figure.axes, (7, 2), strict=True):
        line, threshold, marks = axis.lines
        assert np.array_equal(line.get_ydata(), potentials["lif3"][:, 0, neuron])
        assert set(threshold.get_ydata()) == {1.0}
        assert np.array_equal(marks.get_xdata(), 1 + np.flatnonzero(spikes["lif3"][:, 0, neuron]))
        assert axis.get_ylabel() == f"neuron {neuron}"
    with pytest.raises(ValueError, match="lif3 has neurons 0 to 9"):
        net.trace(IMAGE, "lif3", 12, neurons=[10])


def test_rate_maps_are_means_over_time(net):
    train = np.random.default_rng(2).integers(0, 256, (9, 1, 8, 8))
    rates = net.graph.spikes(train[:, None])
    figure = net.rate_map(train, "lif1")
    maps = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert np.allclose(np.stack(maps), rates["lif1"][:, 0].mean(axis=0).reshape(6, 4, 4))
    bars = net.rate_map(train, "lif3").axes[0].patches
    assert np.allclose([bar.get_height() for bar in bars], rates["lif3"][:, 0].mean(axis=0))
    with pytest.raises(ValueError, match="layers is"):
        net.rate_map(train, "conv1")
