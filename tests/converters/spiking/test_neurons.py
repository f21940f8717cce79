"""Every neuron of snnTorch, spike for spike: random networks with each of them, by calling snnTorch itself."""

from __future__ import annotations

import numpy as np
import pytest
import spiking_models as models
import torch
from snntorch import utils

import lava_meta


def snntorch_run(model: torch.nn.Module, frames: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The output's spikes, by the user's own loop."""
    utils.reset(model)
    out = []
    with torch.no_grad():
        for frame in frames:
            found = model(torch.from_numpy(frame.astype(np.float32)).reshape(-1, *shape))
            out.append((found[0] if isinstance(found, tuple) else found).numpy().astype(np.uint8))
    return np.stack(out)


def check(kind: str, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    fired = compared = 0
    for _ in range(count):
        model, shape = models.random_network(rng, kind)
        max_level = int(rng.choice([1, 1, 15]))
        net = lava_meta.from_snntorch(model, input_shape=shape, max_level=max_level)
        assert net.parity.exact, (model, net.parity)
        trains = rng.integers(0, max_level, (9, 4, int(np.prod(shape))), endpoint=True)
        theirs = snntorch_run(model, trains, shape)
        ours = net.graph.spikes(trains)[net.graph.named_layers()[-1][0]]
        assert np.array_equal(ours, theirs), model
        fired, compared = fired + int(theirs.sum()), compared + theirs.size
    assert 0.03 < fired / compared < 0.97


@pytest.mark.parametrize("kind", models.KINDS)
def test_random_networks_agree_spike_for_spike(kind):
    check(kind, 12, seed=31)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 106))
@pytest.mark.parametrize("kind", models.KINDS)
def test_a_thousand_random_networks_of_every_neuron_agree_spike_for_spike(kind, seed):
    check(kind, 167, seed)
