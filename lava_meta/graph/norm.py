"""Norms over the sums of one image, decided without rounding: layer norm, group norm and instance norm.

The sums of a layer, in the order (channels, rows, columns), part into `groups` equal runs. Of the n sums of a run,

    z_j = s_j - origin * R_j                      what the norm sees; R_j the sum of the weights that made s_j
    d_j = n z_j - sum_k z_k                       n (z_j - mean)
    q   = sum_k d_k**2 / n + n**2 epsilon         n**2 (variance + epsilon)
    a_j = +1 if gain_j * d_j / sqrt(q) + bias_j >= 0, else -1

The threshold of a unit with a bias depends on the image, as the spread of its layer does. Its comparison is one of
squares of rationals. It is made in float64, whose error has a bound, and again in rationals if the bound does not
decide; so what comes out is what the equations say, on any machine, ties included.

Sources: Ba et al. 2016 (layer norm), Wu and He 2018 (group norm), Ulyanov et al. 2016 (instance norm).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_ROUNDING = float(np.finfo(np.float64).eps)  # twice the relative error of one operation
_EXACT = 2**53  # float64 holds every integer up to it
_SMALLEST = float(np.finfo(np.float64).tiny)
_OUTWEIGHED = 1e-250  # a gain so far below its bias leaves the sign of the bias, whatever d and epsilon are


class _Parts(NamedTuple):
    """What the comparison is made of, (n, groups, size) or shapes that broadcast to it."""

    whole: NDArray[Any]  # int64, d if the origin is 0
    shift: NDArray[Any]  # int64, what the origin is multiplied with
    gain: NDArray[Any]
    bias: NDArray[Any]
    ratio: NDArray[Any]  # bias / |gain|
    root: NDArray[Any]  # sqrt(q)
    margin: NDArray[Any]
    error: NDArray[Any]  # of d


@dataclass(frozen=True, eq=False)
class GroupNorm:
    """The norm that stands between a layer's sums and its signs; see the equations above.

    Raises `ValueError` when a field's shape, type or range does not fit the others.
    """

    groups: int
    gain: NDArray[Any]  # float64 (units,), or one for each run of units (channel)
    bias: NDArray[Any]  # float64, like gain
    epsilon: Fraction  # in squares of sums
    origin: Fraction  # of the first layer's inputs; 0 behind it
    row: NDArray[Any]  # int64 (units,): R; (0,) if the origin is 0

    def __post_init__(self) -> None:
        if self.groups < 1 or self.epsilon <= 0:
            raise ValueError(f"a norm of {self.groups} groups with epsilon {self.epsilon}; both must be positive")
        for label, number, bits in (("epsilon", self.epsilon, 300), ("origin", self.origin, 64)):
            if abs(number) >= 2**bits:
                raise ValueError(
                    f"a norm's {label} has {int(abs(number)).bit_length()} bits in units of the sums; at most {bits} "
                    "are supported: scale the inputs to a range nearer to 1"
                )
        for name, value in (("gain", self.gain), ("bias", self.bias)):
            if value.dtype != np.float64 or value.shape != (self.gain.size,) or not np.isfinite(value).all():
                raise ValueError(f"a norm's {name} is {value.dtype} {value.shape}, or not finite")
        if self.row.dtype != np.int64 or self.row.ndim != 1 or (self.row.size == 0) != (self.origin == 0):
            raise ValueError(f"a norm's row is {self.row.dtype} {self.row.shape} for an origin of {self.origin}")

    def check_units(self, units: int) -> None:
        """Raises `ValueError` if the norm is not one of `units` sums."""
        if units % self.groups or units % self.gain.size or self.row.size not in (0, units):
            raise ValueError(f"a norm of {self.groups} groups and {self.gain.size} gains does not fit {units} units")

    def fires(self, sums: NDArray[Any]) -> NDArray[Any]:
        """Booleans (n, units), True for +1, from the integer sums (n, units)."""
        return self.order(sums) >= 0

    def order(self, sums: NDArray[Any]) -> NDArray[Any]:
        """The sign of what the norm gives, int8 (n, units): -1, +1, and 0 for an exact tie; sums are integers."""
        parts = self._parts(sums)
        ratio, size = parts.ratio, parts.whole.shape[2]
        spread = parts.error.max(axis=2, keepdims=True)  # a root mean square moves no further than its terms do
        slack = parts.error + np.abs(ratio) * spread + (size + 16) * _ROUNDING * np.abs(ratio * parts.root)
        found = np.where(parts.gain == 0, np.sign(parts.bias), np.sign(parts.margin)).astype(np.int8)
        for image, group, unit in np.argwhere((np.abs(parts.margin) <= slack) & (slack > 0) & (parts.gain != 0)):
            found[image, group, unit] = self._exactly(
                parts.whole[image, group].tolist(),
                parts.shift[group].tolist(),
                unit,
                parts.gain[group, unit],
                parts.bias[group, unit],
            )
        return found.reshape(sums.shape)

    def ties(self, sums: NDArray[Any]) -> NDArray[Any]:
        """Where what the norm gives is 0, or nearer to 0 than its evaluation in float64 can tell, booleans (n, units).

        The bound is that of means and deviations added up one term after the other.
        """
        parts = self._parts(sums)
        size = parts.whole.shape[2]
        largest = np.abs(sums).max() + (float(abs(self.origin)) * np.abs(self.row).max() if self.origin else 0.0)
        slack = (size + 16) * _ROUNDING * (np.abs(parts.ratio * parts.root) + size * largest)
        near: NDArray[Any] = (np.abs(parts.margin) <= slack) & (parts.gain != 0)
        return near.reshape(sums.shape)

    def _parts(self, sums: NDArray[Any]) -> _Parts:
        """Both sides of the comparison in float64: `sign(gain) * d + ratio * root` has the sign of what is asked."""
        images, units = sums.shape
        size = units // self.groups
        s = sums.astype(np.int64).reshape(images, self.groups, size)
        whole = size * s - s.sum(axis=2, keepdims=True)
        gain, bias = (
            np.repeat(value, units // value.size).reshape(self.groups, size) for value in (self.gain, self.bias)
        )
        gain = np.where(np.abs(gain) < _OUTWEIGHED * np.abs(bias), 0.0, gain)
        ratio = np.divide(bias, np.abs(gain), out=np.zeros_like(bias), where=gain != 0)
        d, error = whole.astype(np.float64), np.zeros((1, 1, 1))
        shift = np.zeros((self.groups, size), np.int64)
        if self.origin:
            row = self.row.reshape(self.groups, size)
            shift = size * row - row.sum(axis=1, keepdims=True)
            moved = float(self.origin) * shift
            d = d - moved
            if self.origin.denominator != 1 or max(np.abs(whole).max(), np.abs(moved).max()) >= _EXACT:
                error = 3 * _ROUNDING * (np.abs(moved) + np.abs(d))
        # Where all d are 0, a root above 0 leaves the sign of the bias, however small epsilon is.
        epsilon = max(float(self.epsilon), _SMALLEST)
        root = np.sqrt((d * d).sum(axis=2, keepdims=True) / size + epsilon * size**2)
        return _Parts(whole, shift, gain, bias, ratio, root, np.sign(gain) * d + ratio * root, error)

    def _exactly(self, whole: list[int], shift: list[int], unit: int, gain: float, bias: float) -> int:
        """The same for one unit, in rationals."""
        scale, origin = self.origin.denominator, self.origin.numerator
        d = [scale * w - origin * k for w, k in zip(whole, shift, strict=True)]
        n = len(d)
        q = Fraction(sum(x * x for x in d), n) + self.epsilon * (n * scale) ** 2
        left, right = (1 if gain > 0 else -1) * d[unit], -Fraction(bias) / abs(Fraction(gain))  # left - right * sqrt(q)
        if (left > 0) != (right > 0) or not left or not right:
            return (left > right) - (left < right)
        difference = (left * left - right * right * q) * (1 if left > 0 else -1)
        return (difference > 0) - (difference < 0)

    def to_dict(self) -> dict[str, Any]:
        """The structure without the arrays, as JSON-ready values."""
        return {
            "groups": self.groups,
            "epsilon": list(self.epsilon.as_integer_ratio()),
            "origin": list(self.origin.as_integer_ratio()),
        }

    @classmethod
    def from_dict(
        cls, structure: dict[str, Any], gain: NDArray[Any], bias: NDArray[Any], row: NDArray[Any]
    ) -> GroupNorm:
        """Undo `to_dict`, with the arrays."""
        epsilon, origin = (Fraction(*map(operator.index, structure[name])) for name in ("epsilon", "origin"))
        return cls(operator.index(structure["groups"]), gain, bias, epsilon, origin, row)
