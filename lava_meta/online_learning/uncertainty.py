"""How sure a network is: its hidden weights say how sure their signs are.

A synapse that was driven far from zero has a sign that many images agreed on; one near zero might as well have the
other. So networks are drawn, each with signs that differ from the network's own with a probability that falls with |h|,

    P(sign is flipped) = exp(-|h| / (width * limit)) / 2               1/2 at h = 0

and each classifies. Where the drawn networks disagree, the network does not know.

    p_s     softmax of the sums of drawn network s over 0.7 times the rule's temperature
    p       mean of p_s
    entropy        H(p) = -sum_c p_c log p_c                           all that is uncertain
    disagreement   H(p) - mean of H(p_s)                               what another draw would change

Nothing of this is learned, and no label or data set is needed. Width and temperature were chosen on held-out images of
MNIST (docs/results/online.md): mixed, networks are less sure than each is, which the lower temperature makes up for.

Source: for the two measures, Depeweg et al. 2018; for
binary synapses whose probability is learned itself, Cottart et al. 2026 (BiMU).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lava_meta.online_learning.backend import LocalEngine
from lava_meta.online_learning.network import PlasticNetwork

SAMPLES, WIDTH = 10, 0.035
_SHARPER = 0.7


class Prediction(NamedTuple):
    """What drawn networks say of n images."""

    classes: NDArray[np.int64]  # (n,), the largest of the probabilities
    probabilities: NDArray[np.float64]  # (n, classes)
    entropy: NDArray[np.float64]  # (n,), in nats
    disagreement: NDArray[np.float64]  # (n,), in nats


def uncertain(
    network: PlasticNetwork, x: NDArray[Any], *, samples: int = SAMPLES, width: float = WIDTH, seed: int = 0
) -> Prediction:
    """Classes and how sure they are, of inputs (n, n_in).

    Args:
        network: what has learned. It stays as it is.
        x: inputs as the network takes them.
        samples: networks that are drawn.
        width: |h| as a share of its limit over which the probability of a flip falls to 1/e; 0 flips none.
        seed: of the draws.

    Raises:
        ValueError: samples or a width that are none.
    """
    if samples < 1 or not width >= 0:
        raise ValueError(f"samples is {samples} and width is {width}; give a sample or more, and a width of 0 or more")
    generator = np.random.default_rng([seed, 2])
    last = network.settings[-1]
    temperature = _SHARPER * (math.sqrt(last.n_in) if last.rule.temperature is None else last.rule.temperature)
    each = [
        _softmax(LocalEngine(_drawn(network, generator, width), compiled=True).sums(x) / temperature)
        for _ in range(samples)
    ]
    mean: NDArray[np.float64] = np.mean(each, axis=0)
    entropy = _entropy(mean)
    return Prediction(mean.argmax(axis=1), mean, entropy, entropy - np.mean([_entropy(p) for p in each], axis=0))


def _drawn(network: PlasticNetwork, generator: np.random.Generator, width: float) -> PlasticNetwork:
    """A copy whose signs are drawn; sizes of hidden weights stay, except that a negative one is never 0."""
    states = []
    for state, limit, settings in zip(network.states, network.limits, network.settings, strict=True):
        copied = {name: values.copy() for name, values in state.items()}
        hidden = copied["hidden"]
        size = np.abs(hidden)
        share = np.exp(-size / np.float32(width * limit)) if width else np.float32(0)
        flips = 2 * generator.random(hidden.shape, np.float32) < share
        least = np.finfo(np.float32).tiny if settings.precision == "float" else 1
        hidden[:] = np.where((hidden >= 0) ^ flips, size, -np.maximum(size, hidden.dtype.type(least)))
        states.append(copied)
    return replace(network, states=states)


def _softmax(z: NDArray[Any]) -> NDArray[np.float64]:
    power = np.exp(z - z.max(axis=1, keepdims=True))
    share: NDArray[np.float64] = power / power.sum(axis=1, keepdims=True)
    return share


def _entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    entropy: NDArray[np.float64] = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1)
    return entropy
