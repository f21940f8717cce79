"""The integer sums of a layer, and what the model makes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.converters.chain.pooling import Average, fixed_pools
from lava_meta.converters.chain.reading import Stage
from lava_meta.converters.chain.scale import InputScale
from lava_meta.converters.functions.monotone import UNIT_ROUNDOFF
from lava_meta.graph.conv import ConvLayer
from lava_meta.graph.dense import DenseLayer


@dataclass(frozen=True)
class Sums:
    """Integer sums of a stage and what they are to the model: `gain * (s - constant) / divisor`.

    Arrays are (units,) or (channels, down, across); int64 but for the constant.
    """

    low: NDArray[Any]  # the least sum
    high: NDArray[Any]  # the greatest
    row: NDArray[Any]  # the sum of the weights
    terms: int  # the most terms of a sum
    scale: InputScale | None  # of inputs that are no signs; None for signs, whose gain is 1 and whose constant is 0
    constant: NDArray[Any]  # float64, `sum_i w_i offset_i`
    divisor: int | NDArray[Any]  # int64 (1, down, across) where windows at the border have one of their own

    @classmethod
    def of(cls, stage: Stage, layer: DenseLayer | ConvLayer, scale: InputScale | None) -> Sums:
        """Of a stage whose layer takes signs, or levels of this scale; its thresholds do not matter."""
        ones = np.ones((1, layer.n_in))
        row, divisor = layer.sums(ones)[0], _divisor(stage, layer)
        # What a window sees of an image of ones: how many terms a position has, and the sum of their weights.
        terms: int | NDArray[Any] = layer.n_in
        if isinstance(layer, ConvLayer):
            terms = layer.convolve(ones, np.ones(layer.weight.shape))[0].astype(np.int64)
        most = int(np.max(terms))
        if scale is None:
            return cls(0 * row - terms, 0 * row + terms, row, most, None, 0.0 * row, divisor)
        rise, fall = (terms + row) // 2, (terms - row) // 2  # weights of +1 and of -1
        low, high = scale.min_level, scale.max_level
        ends = low * rise - high * fall, high * rise - low * fall
        return cls(*ends, row, most, scale, scale.constant(layer), divisor)

    @property
    def even(self) -> bool:
        """Whether all positions of a channel have the same constant part and divisor, so that one threshold serves."""
        return bool((self.constant == self.constant[:, :1, :1]).all()) and isinstance(self.divisor, int)

    def shared(self) -> Sums:
        """For one threshold a channel, which needs the same constant part at all positions."""
        return replace(
            self,
            low=self.low.min(axis=(1, 2), keepdims=True),
            high=self.high.max(axis=(1, 2), keepdims=True),
            row=self.row[:, :1, :1],
            constant=self.constant[:, :1, :1],
        )

    def values(self, sums: NDArray[Any]) -> NDArray[Any]:
        """What the model has for these sums, float64."""
        gain = 1.0 if self.scale is None else float(self.scale.gain)
        values: NDArray[Any] = gain * (sums - self.constant) / self.divisor
        return values

    def slack(self, stage: Stage) -> float | NDArray[Any]:
        """By how much the model's own values may differ from these, in float64: the rounding of its inputs and sums.

        `(2 n + 8) u n max|x| / divisor` for n terms: that of two sums taken one term after the other, the model's and
        the constant's, with eight roundings for inputs, gain and divisor.

        Source: Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 4.2.
        """
        if not stage.rounds and (self.scale is None or self.scale.exact):
            return 0.0
        largest = 1.0 if self.scale is None else self.scale.largest
        return (2 * self.terms + 8) * UNIT_ROUNDOFF * self.terms * largest / np.abs(self.divisor)

    def extremes(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """The least and greatest value of each unit or channel, over all its positions."""
        positions = tuple(range(1, self.row.ndim))
        return (
            self.values(self.low).min(axis=positions, keepdims=True),
            self.values(self.high).max(axis=positions, keepdims=True),
        )


def _divisor(stage: Stage, layer: DenseLayer | ConvLayer) -> int | NDArray[Any]:
    if isinstance(layer, DenseLayer) or layer.sum_window is None:
        return 1
    average = fixed_pools(stage, layer.conv_shape[1:])[0]
    assert isinstance(average, Average)  # the only window over sums
    # Weights are turned round for a divisor below 0.
    return abs(average.divisor) if isinstance(average.divisor, int) else average.divisor
