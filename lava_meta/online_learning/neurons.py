"""What each unit of a metaplastic layer knows of itself: its threshold, its scale, its mean error.

These are the equations of t, a, d, s and b in `reference`. A unit that spikes does so above a raised threshold, and if
it is divisive, measures all distances relative to the spread of the image, of which one inhibitory unit that counts
spikes is enough:

    y_k = (u_k - t_k) / v,   v = sqrt(sum_j x_j^2 - (sum_j x_j)^2 / n_in), at least 1        n (1 - n/n_in) of n spikes
                             v = 1 if it is not divisive
    a_k = 1 if y_k >= kappa s_k, else 0;   d_k = E_k if |y_k - kappa s_k| <= 5/8 s_k, else 0;   s_k: mean of |y_k|

A two-sided unit has two edges: |y_k| stands for y_k, and d_k has the sign of y_k. With a layer norm, t is the mean of
the layer's sums u, v their standard deviation, and s_k the mean |y| of a normal distribution. Which units spike is then
decided without rounding, as the `GroupNorm` of a converted network does (n units, epsilon 2**-20):

    a_k = 1 if n u_k - sum_j u_j >= kappa s_k sqrt(n sum_j u_j**2 - (sum_j u_j)**2 + n**2 epsilon)

Where the sums u come from, and what becomes of the amounts
-lr d, is up to the synapses: a layer's own (`reference`), or those of Lava's learning engine (`learning_engine`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.errors import ConversionError, DivergenceError
from lava_meta.online_learning.settings import (
    AMOUNT_LIMIT,
    CENTRE_SHIFT,
    KAPPA_BITS,
    NEURON_BITS,
    SCALE_SHIFT,
    SPREAD_BITS,
    WINDOW_DEN,
    WINDOW_NUM,
    LayerSettings,
)

State = dict[str, NDArray[Any]]
LAYER_NORM_EPSILON = Fraction(1, 2**20)  # in squares of whole sums
NEURON_STATE = ("balance", "mean", "deviation", "trace", "images")


class Neurons(ABC):
    """State and equations of the units. The arrays of `NEURON_STATE` are changed in place.

    balance (n_out,): sum of each unit's binary weights. mean (n_out,): o, or the homeostatic threshold.
    deviation, trace (n_out,): s and b; of a readout, `trace` is what `class_errors` makes of it. images (1,): how many
    have been learned.
    """

    balance: NDArray[Any]
    mean: NDArray[Any]
    deviation: NDArray[Any]
    trace: NDArray[Any]
    images: NDArray[Any]
    one: float  # a distance of 1

    def __init__(self, settings: LayerSettings, state: State) -> None:
        self.settings = settings
        for name in NEURON_STATE:
            setattr(self, name, state[name])
        self.set_rate(settings.rule.lr)

    def set_rate(self, lr: float) -> None:
        """Change the learning rate."""
        self.lr = lr

    def fire(self, u: NDArray[Any], distance: NDArray[Any]) -> NDArray[Any]:
        """Sums int32 (lanes, n_out) and their distances -> outputs int32: signs, spikes, or the readout's sums."""
        if self.settings.readout:
            return u
        return np.where(self.above(distance) >= 0, 1, 0 if self.settings.spiking else -1).astype(np.int32)

    @abstractmethod
    def distance(self, u: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
        """The difference u - threshold, in the form's own units, or those of the image; of a readout, u.

        x: the inputs (lanes, n_in) of the sums u, of which only divisive units want to know.
        """

    def above(self, distance: NDArray[Any]) -> NDArray[Any]:
        """By how much a distance is above where the unit's output changes; of two-sided units, beyond either edge."""
        beyond: NDArray[Any] = (np.abs(distance) if self.settings.two_sided else distance) - self._raised()
        return beyond

    @abstractmethod
    def _raised(self) -> NDArray[Any]:
        """By how much spikes raise each unit's threshold."""

    @abstractmethod
    def _just_below(self, distance: NDArray[Any]) -> NDArray[Any]:
        """The next smaller distances."""

    @property
    def norm_edge(self) -> float:
        """From how many deviations above the mean on each unit of a layer with a layer norm spikes."""
        return float(self._raised()[0]) / self.one

    def _beside_edges(self, distance: NDArray[Any], u: NDArray[Any]) -> NDArray[Any]:
        """Distances of units with a layer norm, each moved to the side of its edge on which its whole sum is."""
        n, wide = self.settings.n_out, u.astype(np.int64)
        totals, squares = wide.sum(axis=1, keepdims=True), (wide * wide).sum(axis=1)
        from_mean = n * wide - totals
        edge = self.norm_edge.as_integer_ratio()
        least = [[_least_whole(n, q, s, edge)] for q, s in zip(squares.tolist(), totals[:, 0].tolist(), strict=True)]
        sign = np.where(from_mean < 0, -1, 1).astype(distance.dtype) if self.settings.two_sided else 1
        size, raised = sign * distance, self._raised()
        above, below = np.maximum(size, raised), np.minimum(size, self._just_below(raised))
        moved: NDArray[Any] = sign * np.where(sign * from_mean >= np.array(least), above, below)
        return moved

    @abstractmethod
    def windowed(self, error: NDArray[Any], distance: NDArray[Any]) -> NDArray[Any]:
        """The units' own errors d (lanes, n_out): those inside the window."""

    def _signed(self, d: NDArray[Any], distance: NDArray[Any]) -> NDArray[Any]:
        """Errors of outputs as errors of distances: below its threshold a two-sided unit falls with its distance."""
        return np.where(distance < 0, -d, d) if self.settings.two_sided else d

    @abstractmethod
    def learn(self, distance: NDArray[Any], d: NDArray[Any]) -> NDArray[Any]:
        """Follow one image, (n_out,) each, and return by how much the synapses of an active input step."""

    @abstractmethod
    def _thresholds(self) -> NDArray[Any]:
        """What distances are measured from, unless it follows the image."""

    def from_rest(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Of one-sided units, what distances are measured from, and the distance from which on each fires."""
        self._require_fixed_thresholds()
        return self._thresholds(), self._raised()

    @abstractmethod
    def integer_thresholds(self) -> NDArray[np.int64]:
        """int64 (n_out,): the smallest whole sum from which each unit fires."""

    @abstractmethod
    def lower_thresholds(self) -> NDArray[np.int64]:
        """int64 (n_out,): of two-sided units, the largest whole sum down from which each fires too."""

    def _require_fixed_thresholds(self) -> None:
        """Raise ConversionError if the threshold follows the image."""
        if self.settings.relative:
            how = "layer_norm" if self.settings.layer_norm else "divisive"
            other = "divisive=False" + (", layer_norm=False" if self.settings.layer_norm else "")
            raise ConversionError(
                f"hidden units that spike relative to the spread of each image (activation="
                f"{self.settings.rule.activation!r}, {how}=True) have thresholds that follow it, and those of a "
                f"converted network are fixed, or its layer's own norm: use learner.predict, or learn with {other}"
            )

    @abstractmethod
    def set_thresholds(self, sums: NDArray[Any]) -> None:
        """Let unit k fire from the whole sum `sums[k]` on, by the binary weights as they are now."""


class FixedNeurons(Neurons):
    """On integers: balance, mean, deviation, trace int32; images int64."""

    one = 2**NEURON_BITS

    def set_rate(self, lr: float) -> None:
        super().set_rate(lr)
        self.rate = self.settings.rate_fixed(lr)

    def distance(self, u: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
        scaled = u.astype(np.int64) << self.settings.sum_bits
        s = self.settings
        if s.readout:
            return scaled
        if s.layer_norm:
            distance = scaled - scaled.sum(axis=1, keepdims=True) // s.n_out
            reciprocals = _reciprocals((distance * distance).sum(axis=1) // s.n_out, least=1)
        else:
            distance = scaled - self._thresholds()
            if not s.divisive:
                return distance
            reciprocals = self.reciprocals(x)
        relative: NDArray[Any] = distance * reciprocals >> SPREAD_BITS - NEURON_BITS
        return self._beside_edges(relative, u) if s.layer_norm else relative

    def reciprocals(self, x: NDArray[Any]) -> NDArray[np.int64]:
        """int64 (lanes, 1): 2**SPREAD_BITS over the spread of each image, which has 12 fraction bits."""
        bits = 2 * self.settings.sum_bits
        return _reciprocals((square << bits) // self.settings.n_in for square in _squares(x))

    def _raised(self) -> NDArray[np.int64]:
        kappa = self.settings.kappa_fixed if self.settings.spiking else 0
        raised: NDArray[np.int64] = kappa * self.deviation.astype(np.int64) >> KAPPA_BITS
        return raised

    def _just_below(self, distance: NDArray[Any]) -> NDArray[Any]:
        return distance - 1

    def windowed(self, error: NDArray[Any], distance: NDArray[Any]) -> NDArray[Any]:
        d = error.astype(np.int64)
        if self.settings.readout:
            return d
        near = WINDOW_DEN * np.abs(self.above(distance)) <= WINDOW_NUM * self.deviation.astype(np.int64)
        return np.where(near, self._signed(d, distance), 0)

    def learn(self, distance: NDArray[Any], d: NDArray[Any]) -> NDArray[Any]:
        s = self.settings
        d = d << NEURON_BITS
        if s.measures_scale:
            self.deviation += ((np.abs(distance) - self.deviation) >> SCALE_SHIFT).astype(np.int32)
        if s.homeostatic:
            self.mean += (distance >> SCALE_SHIFT).astype(np.int32)
        if s.centred:
            self.trace += ((d - self.trace) >> CENTRE_SHIFT).astype(np.int32)
            d = d - self.trace
        amounts: NDArray[Any] = np.clip(-self.rate * d >> s.amount_shift, -AMOUNT_LIMIT, AMOUNT_LIMIT)
        return amounts

    def _thresholds(self) -> NDArray[np.int64]:
        if self.settings.homeostatic:
            return self.mean.astype(np.int64)
        balanced: NDArray[np.int64] = self.mean + self.settings.mean_fixed * self.balance.astype(np.int64)
        return balanced

    def integer_thresholds(self) -> NDArray[np.int64]:
        self._require_fixed_thresholds()
        return -(-(self._thresholds() + self._raised()) >> self.settings.sum_bits)

    def lower_thresholds(self) -> NDArray[np.int64]:
        self._require_fixed_thresholds()
        return self._thresholds() - self._raised() >> self.settings.sum_bits

    def set_thresholds(self, sums: NDArray[Any]) -> None:
        self._require_fixed_thresholds()
        self.mean[:] = 0
        offset = (sums.astype(np.int64) << self.settings.sum_bits) - self._thresholds() - self._raised()
        self.mean[:] = offset


class FloatNeurons(Neurons):
    """In float32: mean, deviation, trace float32; balance int32; images int64.

    Raises DivergenceError for an error that is not a finite number.
    """

    one = 1.0

    def distance(self, u: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
        scaled = u * 2.0**-self.settings.level_bits
        if self.settings.readout:
            return scaled.astype(np.float32)
        if self.settings.layer_norm:
            distance = scaled - scaled.mean(axis=1, keepdims=True)
            spreads = np.sqrt(np.maximum((distance**2).mean(axis=1, keepdims=True), 4.0**-NEURON_BITS))
            return self._beside_edges((distance / spreads).astype(np.float32), u)
        distance = scaled - self._thresholds()
        return (distance / self._spreads(x) if self.settings.divisive else distance).astype(np.float32)

    def _raised(self) -> NDArray[np.float32]:
        raised: NDArray[np.float32] = np.float32(self.settings.rule.kappa) * self.deviation
        return raised if self.settings.spiking else np.zeros_like(raised)

    def _just_below(self, distance: NDArray[Any]) -> NDArray[Any]:
        below: NDArray[Any] = np.nextafter(distance, np.float32(-np.inf))
        return below

    def _spreads(self, x: NDArray[Any]) -> NDArray[np.float64]:
        squares = np.array(_squares(x), np.float64)[:, None] * 4.0**-self.settings.level_bits / self.settings.n_in
        spreads: NDArray[np.float64] = np.sqrt(np.maximum(squares, 1.0))
        return spreads

    def windowed(self, error: NDArray[Any], distance: NDArray[Any]) -> NDArray[Any]:
        s = self.settings
        if not np.isfinite(error).all():
            raise DivergenceError(
                f"the error of {'the readout' if s.readout else f'a hidden layer of {s.n_out} units'} is not a finite "
                f"number after {int(self.images[0])} images"
            )
        d = error.astype(np.float32)
        if s.readout:
            return d
        near = np.abs(self.above(distance)) <= WINDOW_NUM / WINDOW_DEN * self.deviation
        return np.where(near, self._signed(d, distance), np.float32(0))

    def learn(self, distance: NDArray[Any], d: NDArray[Any]) -> NDArray[Any]:
        s = self.settings
        if s.measures_scale:
            self.deviation += (np.abs(distance) - self.deviation) / np.float32(2**SCALE_SHIFT)
        if s.homeostatic:
            self.mean += distance / np.float32(2**SCALE_SHIFT)
        if s.centred:
            self.trace += (d - self.trace) / np.float32(2**CENTRE_SHIFT)
            d = d - self.trace
        return np.float32(-self.lr) * d

    def _thresholds(self) -> NDArray[np.float64]:
        if self.settings.homeostatic:
            return self.mean.astype(np.float64)
        balanced: NDArray[np.float64] = self.mean + self.settings.mean_input * self.balance.astype(np.float64)
        return balanced

    def integer_thresholds(self) -> NDArray[np.int64]:
        self._require_fixed_thresholds()
        near = np.ceil((self._thresholds() + self._raised()) * 2.0**self.settings.level_bits).astype(np.int64)
        # Distances are rounded to float32: what fires is asked of the neurons themselves.
        fires = [self.above(self.distance(sums, sums)) >= 0 for sums in (near - 1, near)]
        sums: NDArray[np.int64] = near + 1 - fires[0] - fires[1]
        return sums

    def lower_thresholds(self) -> NDArray[np.int64]:
        self._require_fixed_thresholds()
        near = np.floor((self._thresholds() - self._raised()) * 2.0**self.settings.level_bits).astype(np.int64)
        fires = [self.above(self.distance(sums, sums)) >= 0 for sums in (near, near + 1)]
        sums: NDArray[np.int64] = near - 1 + fires[0] + fires[1]
        return sums

    def set_thresholds(self, sums: NDArray[Any]) -> None:
        self._require_fixed_thresholds()
        self.mean[:] = 0
        # Half a level below: sums are whole, and float32 then has room to round.
        offset = (sums.astype(np.float64) - 0.5) * 2.0**-self.settings.level_bits - self._thresholds() - self._raised()
        self.mean[:] = offset


def _reciprocals(variances: Iterable[int], least: int = 1 << NEURON_BITS) -> NDArray[np.int64]:
    """int64 (lanes, 1): 2**SPREAD_BITS over the root of each variance, at least `least`; it has 12 fraction bits."""
    spreads = (max(math.isqrt(variance), least) for variance in variances)
    return np.array([[(1 << SPREAD_BITS) // spread] for spread in spreads], np.int64)


def _least_whole(n: int, squares: int, total: int, edge: tuple[int, int]) -> int:
    """The least whole n u_k - sum_j u_j that is `edge` deviations of the n sums or more; edge: a ratio of integers."""
    numerator, denominator = edge
    scale = LAYER_NORM_EPSILON.denominator
    over = numerator**2 * ((n * squares - total**2) * scale + n * n) - 1  # less one: the root is rounded up
    return math.isqrt(over // (denominator**2 * scale)) + 1 if over >= 0 else 0


def _squares(x: NDArray[Any]) -> list[int]:
    """n_in sum_j x_j**2 - (sum_j x_j)**2 of each image (lanes, n_in)."""
    wide = x.astype(np.int64)
    squares: list[int] = (x.shape[1] * (wide * wide).sum(axis=1) - wide.sum(axis=1) ** 2).tolist()
    return squares


def neurons_of(settings: LayerSettings, state: State) -> Neurons:
    """The neurons in the form that the precision asks for. They work in place on `state`."""
    return (FloatNeurons if settings.precision == "float" else FixedNeurons)(settings, state)
