"""Trains of neurons that are set to 0 with their spike and whose current is held: each is known by its period.

A spike leaves such a neuron as it began, so it fires again after as many steps as before. A larger current never fires
later, as products with beta >= 0 and sums are never rounded to less than those of smaller numbers. So the period
follows from the least currents that fire within 1, 2, ... steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.packed import spiking_loops as loops
from lava_meta.jit import njit


def least_currents(beta: np.float32, threshold: np.float32, steps: int) -> NDArray[np.float32]:
    """The least currents by which neurons at rest fire within 1, 2, ... steps; NaN if none does. Neither may be < 0.

    None up to 0 does, so each is found by halving among the positive float32, which lie in the order of their bits.
    """
    low, high = np.zeros(steps, np.int32), np.full(steps, np.float32(np.inf).view(np.int32) + 1, np.int32)
    within = np.arange(steps)
    while (high - low).max() > 1:
        middle = low + (high - low) // 2
        current = middle.view(np.float32)
        potential, fires = np.zeros_like(current), np.zeros(steps, bool)
        with np.errstate(over="ignore", invalid="ignore"):
            for step in range(steps):
                potential = beta * potential + current
                fires |= (step <= within) & (potential - threshold > 0)
        low, high = np.where(fires, low, middle), np.where(fires, middle, high)
    return high.view(np.float32)


def trains(steps: int, word: type) -> NDArray[Any]:
    """The trains of the periods from 1 to `steps`, and silence; bit k of each is the spike in step k."""
    spikes = [range(period - 1, steps, period) for period in range(1, steps + 1)]
    return np.array([*(sum(1 << step for step in train) for train in spikes), 0], word)


@njit(cache=True, nogil=True)
def fire(sums: Any, gain: Any, constant: Any, least: Any, trains: Any, words: Any) -> None:
    """The trains (n, units) of integer sums, whose currents are `gain * sums + constant`."""
    current, later = np.empty((1, words.shape[1]), np.float32), np.empty(words.shape[1], np.int32)
    for n in range(len(words)):
        loops.currents(sums[n : n + 1], gain, constant, current)
        later[:] = 0
        for bound in least:
            for j in range(len(later)):
                later[j] += not current[0, j] >= bound
        for j in range(len(later)):
            words[n, j] = trains[later[j]]
