"""The on-line rule on spikes over time: an image is T time steps of spikes, and is learned at the last of them.

A hidden unit is leaky and fires; per step, from rest, in this order:

    v_k    = leak v_k + y_k                  y: the distance of this step's sum from the threshold, as of units that
                                             spike (`neurons`): (u_k - t_k) / v
    a_k    = 1 if v_k >= kappa s_k, else 0   sent to the next layer in the same step; two-sided units: |v_k|
    n_k   += 1 if |v_k - kappa s_k| <= 5/8 s_k
    v_k    = 0 if it fired

The readout counts what it gets, so its sums are those of T steps, and its temperature is T times as high. At the last
step the rule of `reference` learns, with what synapses and units remember of the image:

    x_j = (spikes of input j) / T            the trace of an input: a count
    d_k = E_k n_k / T                        instead of E_k inside the window and 0 outside
    |y| = (sum of |v_k|) / T                 what s_k, the mean deviation, follows

With T = 1 this is the rule of units that spike, to the bit. T is a power of two: in fixed point its divisions are
shifts, and v has 12 fraction bits, as y has; the leak is a number of 4096ths, and a product with it is rounded down.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.online_learning.neurons import NEURON_STATE, State
from lava_meta.online_learning.reference import FixedLayer, FloatLayer, ReferenceLayer
from lava_meta.online_learning.settings import NEURON_BITS, LayerSettings


class OverTime(ReferenceLayer):
    """A hidden layer whose units integrate. Its settings have `max_level` T, as its synapses learn from counts."""

    def __init__(self, settings: LayerSettings, state: State, leak: float) -> None:
        super().__init__(settings, state)
        self.leak = leak
        # The same neurons, as they meet the spikes of one step.
        self._now = self.form(replace(settings, max_level=1), {name: state[name] for name in NEURON_STATE})
        self._potentials: list[NDArray[Any]] = []  # of every step, before the reset

    def forward(self, x: NDArray[Any]) -> NDArray[Any]:
        """Spikes (lanes, steps, n_in) of 0 and 1 -> (lanes, steps, n_out)."""
        spikes = np.empty((*x.shape[:2], self.settings.n_out), np.int16)
        self._potentials = []
        v: NDArray[Any] | None = None
        for step in range(x.shape[1]):
            now = np.ascontiguousarray(x[:, step], np.int16)
            distance = self._now.distance(self._sums(now), now)
            v = distance if v is None else self._leaked(v) + distance
            self._potentials.append(v)
            spikes[:, step] = self._now.above(v) >= 0
            v = np.where(spikes[:, step] > 0, v.dtype.type(0), v)
        self._x = x.sum(axis=1, dtype=np.int16)
        self._distance = self._mean([np.abs(v) for v in self._potentials])
        return spikes

    def _own_errors(self, error: NDArray[Any]) -> NDArray[Any]:
        return self._mean([self._now.windowed(error, v) for v in self._potentials])

    def _leaked(self, v: NDArray[Any]) -> NDArray[Any]:
        """What is left of potentials after a step."""
        raise NotImplementedError

    def _mean(self, parts: list[NDArray[Any]]) -> NDArray[Any]:
        """Over the steps."""
        raise NotImplementedError


class FixedOverTime(OverTime, FixedLayer):
    """On integers."""

    def _leaked(self, v: NDArray[Any]) -> NDArray[Any]:
        left: NDArray[Any] = v * round(self.leak * 2**NEURON_BITS) >> NEURON_BITS
        return left

    def _mean(self, parts: list[NDArray[Any]]) -> NDArray[Any]:
        total: NDArray[Any] = np.sum(parts, axis=0)
        return total >> self.settings.level_bits


class FloatOverTime(OverTime, FloatLayer):
    """In float32."""

    def _leaked(self, v: NDArray[Any]) -> NDArray[Any]:
        return v * np.float32(self.leak)

    def _mean(self, parts: list[NDArray[Any]]) -> NDArray[Any]:
        total: NDArray[Any] = np.sum(parts, axis=0)
        return total / np.float32(len(parts))
