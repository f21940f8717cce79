"""The integer sums of a layer, and what the model makes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lava_meta.nn import Pixels


@dataclass(frozen=True)
class Sums:
    """Integer sums of a stage and what they are to the model: `gain * (s - offset * row) / divisor`.

    Arrays are int64, (units,) or (channels, down, across).
    """

    low: np.ndarray  # the least sum
    high: np.ndarray  # the greatest
    row: np.ndarray  # the sum of the weights
    pixels: Pixels | None  # gain and offset; None behind the first layer, where they are 1 and 0
    divisor: int | np.ndarray  # int64 (1, down, across) where windows at the border have one of their own

    @classmethod
    def of(cls, terms: int | np.ndarray, row: np.ndarray, pixels: Pixels | None, divisor: int | np.ndarray = 1) -> Sums:
        """Of `terms` inputs, signs or pixels, with weights that sum to `row`."""
        if pixels is None:
            return cls(0 * row - terms, 0 * row + terms, row, None, divisor)
        rise, fall = (terms + row) // 2, (terms - row) // 2  # weights of +1 and of -1
        low, high = pixels.min_level, pixels.max_level
        return cls(low * rise - high * fall, high * rise - low * fall, row, pixels, divisor)

    @property
    def even(self) -> bool:
        """Whether all positions of a channel have the same constant part and divisor, so that one threshold serves."""
        constant = self.pixels is None or self.pixels.offset == 0 or bool((self.row == self.row[:, :1, :1]).all())
        return constant and isinstance(self.divisor, int)

    def shared(self) -> Sums:
        """For one threshold a channel, which needs the same constant part at all positions."""
        return replace(
            self,
            low=self.low.min(axis=(1, 2), keepdims=True),
            high=self.high.max(axis=(1, 2), keepdims=True),
            row=self.row[:, :1, :1],
        )

    def values(self, sums: np.ndarray) -> np.ndarray:
        """What the model has for these sums, float64."""
        if self.pixels is None:
            return sums / self.divisor
        return float(self.pixels.gain) * (sums - float(self.pixels.offset) * self.row) / self.divisor

    def extremes(self) -> tuple[np.ndarray, np.ndarray]:
        """The least and greatest value of each unit or channel, over all its positions."""
        positions = tuple(range(1, self.row.ndim))
        return (
            self.values(self.low).min(axis=positions, keepdims=True),
            self.values(self.high).max(axis=positions, keepdims=True),
        )
