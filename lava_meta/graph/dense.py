"""The dense layers of a `BinaryGraph`: packed weights of +1 and -1, integer thresholds, and the readout."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.bits import pack, unpack, words
from lava_meta.graph.norm import GroupNorm

MOST_SUM = 2**53 - 1  # the greatest |sum| of a layer: float64 holds it, and all on the way to it, exactly
REACH = 2**62 - 1  # the greatest |d| that meets a threshold: int64 holds it, and the least level shifted into it


class _Synapses:
    """What a dense layer and the readout share: binary weights as packed bits."""

    bits: NDArray[Any]
    n_in: int

    @property
    def n_out(self) -> int:
        """Number of units."""
        return len(self.bits)

    @property
    def weight(self) -> NDArray[Any]:
        """The weights unpacked: bool (n_out, n_in), True for +1."""
        return unpack(self.bits, self.n_in)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of one image: (n_out,)."""
        return (self.n_out,)

    @property
    def most_terms(self) -> int:
        """The most terms that a sum has."""
        return self.n_in

    def row_sums(self) -> NDArray[Any]:
        """`R_j`, the sum of unit j's weights, int64 (n_out,)."""
        sums: NDArray[Any] = 2 * self.weight.sum(axis=1, dtype=np.int64) - self.n_in
        return sums

    def sums(self, x: NDArray[Any]) -> NDArray[Any]:
        """`W x` of the reference implementation, int64 (n, n_out), of integers x (n, n_in)."""
        return exact_product(x, self.weight)


@dataclass(frozen=True, eq=False)
class DenseLayer(_Synapses):
    """Binary synapses and their threshold neurons: `a_j = +1` if `polarity_j * d_j >= threshold_j`.

    `d = W x`, or `n_out * (W x)_j - sum_k (W x)_k` if `centred` (a layer norm's mean, kept in integers). With a
    `norm`, it decides instead, and thresholds are 0.

    Raises `ValueError` when a field's shape, type or range does not fit the others.
    """

    bits: NDArray[Any] = field(repr=False)  # uint64 (n_out, words(n_in)): 1 is a weight of +1
    n_in: int  # inputs
    threshold: NDArray[Any] = field(repr=False)  # int64 (n_out,), in units of d
    polarity: NDArray[Any] = field(repr=False)  # int8 (n_out,), +1 or -1: -1 if the norm's gain is negative
    centred: bool = False
    norm: GroupNorm | None = None

    def __post_init__(self) -> None:
        check_bits(self.bits, self.n_in)
        if not isinstance(self.centred, bool):
            raise TypeError(f"centred is {self.centred!r}; it is True or False")
        check_array("threshold", self.threshold, np.int64, (self.n_out,))
        check_array("polarity", self.polarity, np.int8, (self.n_out,))
        if not np.isin(self.polarity, (-1, 1)).all():
            raise ValueError("polarity holds a value that is neither +1 nor -1")
        check_norm(self.norm, self.n_out, self.threshold, self.polarity, centred=self.centred)

    @classmethod
    def from_weights(
        cls,
        weight: NDArray[Any],
        threshold: NDArray[Any],
        polarity: NDArray[Any] | None = None,
        *,
        centred: bool = False,
        norm: GroupNorm | None = None,
    ) -> DenseLayer:
        """From weights (n_out, n_in), +1 if `weight >= 0` (booleans: if True); polarity defaults to +1."""
        positive = positive_weights(weight)
        n_out, n_in = positive.shape
        return cls(
            bits=pack(positive),
            n_in=n_in,
            threshold=np.asarray(threshold, dtype=np.int64),
            polarity=np.ones(n_out, np.int8) if polarity is None else np.asarray(polarity, dtype=np.int8),
            centred=centred,
            norm=norm,
        )

    @property
    def mean_over(self) -> int:
        """The number of sums whose mean is subtracted from each; 0 if none is."""
        return self.n_out if self.centred else self.n_out // self.norm.groups if self.norm is not None else 0

    def fires(self, sums: NDArray[Any]) -> NDArray[Any]:
        """Booleans (n, n_out), True for +1, from the integer sums `W x` (n, n_out)."""
        if self.norm is not None:
            return self.norm.fires(sums)
        reached: NDArray[Any] = self.polarity * self.centre(sums.astype(np.int64, copy=False)) >= self.threshold
        return reached

    def ties(self, sums: NDArray[Any]) -> NDArray[Any] | None:
        """Where sums tie with a threshold that is a statistic of the image, booleans (n, n_out); None without one."""
        if self.norm is not None:
            return self.norm.ties(sums)
        return self.polarity * self.centre(sums) == self.threshold if self.centred else None

    def centre(self, sums: NDArray[Any]) -> NDArray[Any]:
        """`d` (n, n_out) of sums (n, n_out); linear in them."""
        return self.n_out * sums - sums.sum(axis=1, keepdims=True) if self.centred else sums


@dataclass(frozen=True, eq=False)
class Readout(_Synapses):
    """The last layer: integer sums `u = W a` and the affine map `scale * u + offset` whose argmax is the class."""

    bits: NDArray[Any] = field(repr=False)  # uint64 (classes, words(n_in))
    n_in: int  # inputs
    scale: NDArray[Any] = field(repr=False)  # float64 (classes,)
    offset: NDArray[Any] = field(repr=False)  # float64 (classes,)

    def __post_init__(self) -> None:
        check_bits(self.bits, self.n_in)
        for name, value in (("scale", self.scale), ("offset", self.offset)):
            check_array(name, value, np.float64, (self.n_out,))
            if not np.isfinite(value).all():
                raise ValueError(f"the readout's {name} holds a value that is not finite")

    @classmethod
    def from_weights(
        cls, weight: NDArray[Any], scale: NDArray[Any] | None = None, offset: NDArray[Any] | None = None
    ) -> Readout:
        """From weights (classes, n_in), +1 if `weight >= 0` (booleans: if True)."""
        positive = positive_weights(weight)
        n_out, n_in = positive.shape
        return cls(
            bits=pack(positive),
            n_in=n_in,
            scale=np.ones(n_out) if scale is None else np.asarray(scale, dtype=np.float64),
            offset=np.zeros(n_out) if offset is None else np.asarray(offset, dtype=np.float64),
        )

    def values(self, sums: NDArray[Any]) -> NDArray[Any]:
        """`scale * sums + offset`, float64 (n, classes)."""
        values: NDArray[Any] = self.scale * sums + self.offset
        return values

    def classes(self, sums: NDArray[Any]) -> NDArray[Any]:
        """int64 (n,): argmax of the values, lowest index on ties."""
        classes: NDArray[Any] = np.argmax(self.values(sums), axis=1).astype(np.int64)
        return classes


def exact_product(x: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    """`W x`, int64 (n, outputs); float64 sums of integers below 2**53 are exact in any order of summation."""
    sums: NDArray[Any] = (x.astype(np.float64) @ np.where(weight, 1.0, -1.0).T).astype(np.int64)
    return sums


def positive_weights(weight: NDArray[Any]) -> NDArray[Any]:
    """Booleans (outputs, inputs), True if `weight >= 0`. Raises `ValueError` for another shape or NaN."""
    array = np.asarray(weight)
    if array.ndim != 2:
        raise ValueError(f"weights have shape {array.shape}; expected (outputs, inputs)")
    if array.dtype == bool:
        return array
    if not np.isfinite(array).all():
        raise ValueError("weights hold a value that is not finite")
    return array >= 0


def check_array(name: str, value: NDArray[Any], dtype: type, shape: tuple[int, ...]) -> None:
    """Raises `ValueError` for an array of another type or shape."""
    if value.dtype != dtype or value.shape != shape:
        raise ValueError(f"{name} is {value.dtype} {value.shape}; expected {np.dtype(dtype)} {shape}")


def check_norm(
    norm: GroupNorm | None, units: int, threshold: NDArray[Any], polarity: NDArray[Any], *, centred: bool = False
) -> None:
    """Raises `ValueError` for a norm that does not fit its layer, or stands beside thresholds."""
    if norm is not None:
        norm.check_units(units)
        if threshold.any() or (polarity != 1).any() or centred:
            raise ValueError("a layer with a norm has no thresholds, polarities or mean besides it")


def reach(name: str, layer: Any, largest: int) -> int:
    """The greatest |d| that a layer can compute: by it every form chooses a type that does not wrap.

        |s| <= most_terms * largest
        |d| <= 2 * mean_over * |s| if a mean is subtracted, else |s|

    Args:
        name: of the layer, for the message.
        layer: `DenseLayer`, `ConvLayer` or `Readout`.
        largest: the greatest absolute value of its inputs, 1 for signs.

    Returns:
        A bound of |d|, up to `REACH`.

    Raises:
        ValueError: if |s| can exceed `MOST_SUM` or |d| can exceed `REACH`.
    """
    sums = layer.most_terms * largest
    if sums > MOST_SUM:
        raise ValueError(
            f"{name} can sum to {sums:,}; sums of up to {MOST_SUM:,} (53 bits) are exact. Use fewer inputs or levels"
        )
    over = 0 if isinstance(layer, Readout) else layer.mean_over
    d: int = max(1, 2 * over) * sums
    if d > REACH:
        raise ValueError(
            f"{name} subtracts the mean of {over:,} sums of up to {sums:,}, which can make {d:,}; up to {REACH:,} "
            "(63 bits) fit. Use fewer units or inputs, or a norm over smaller groups"
        )
    return d


def reachable(threshold: NDArray[Any]) -> NDArray[Any]:
    """The same thresholds, int64, with those that no |d| reaches moved to just beyond `REACH`.

    What is added to them afterwards, up to `REACH`, then stays within int64.
    """
    limited: NDArray[Any] = np.clip(threshold, -REACH - 1, REACH + 1)
    return limited


def check_bits(bits: NDArray[Any], n_in: int) -> None:
    """Raises `ValueError` unless `bits` are packed rows of `n_in` weights."""
    if operator.index(n_in) < 1 or bits.ndim != 2 or len(bits) < 1:
        raise ValueError(f"a layer needs at least one input and one unit; got {n_in} inputs, bits {bits.shape}")
    check_array("bits", bits, np.uint64, (len(bits), words(n_in)))
    spare = words(n_in) * 64 - n_in
    if spare and (bits[:, -1] >> np.uint64(64 - spare)).any():
        raise ValueError(f"bits are set past input {n_in}")
