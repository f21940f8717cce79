"""The units of a layer in fixed point, compiled: the same integers as `online_learning.neurons.FixedNeurons`.

The edge of a layer norm is decided without rounding, by squares: with D = n u - sum u,
V = n sum u**2 - (sum u)**2, and `raised` = 4096 kappa s,

    D >= kappa s sqrt(V + n**2 epsilon)   is   D >= 0 and 4096**2 D**2 - raised**2 V >= epsilon (n raised)**2

The difference on the left may need more than 64 bits. In floating point its error is below 2**61, so beyond that its
sign is known, and what is smaller is exact in integers that wrap around.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from lava_meta.jit import njit
from lava_meta.online_learning.neurons import LAYER_NORM_EPSILON, FixedNeurons
from lava_meta.online_learning.settings import (
    AMOUNT_LIMIT,
    CENTRE_SHIFT,
    KAPPA_BITS,
    NEURON_BITS,
    SCALE_SHIFT,
    SPREAD_BITS,
    WINDOW_DEN,
    WINDOW_NUM,
)

_EPSILON_BITS = LAYER_NORM_EPSILON.denominator.bit_length() - 1


class Units(NamedTuple):
    """State of a layer's neurons, and their constants as `LayerSettings` has them."""

    balance: NDArray[Any]
    mean: NDArray[Any]
    deviation: NDArray[Any]
    trace: NDArray[Any]
    rate: int
    readout: bool
    spiking: bool
    two_sided: bool
    layer_norm: bool
    divisive: bool
    measures_scale: bool
    homeostatic: bool
    centred: bool
    sum_bits: int
    mean_fixed: int
    kappa_fixed: int
    amount_shift: int


UNITS = types.NamedTuple(
    [*[types.int32[::1]] * 4, types.int64, *[types.boolean] * 8, *[types.int64] * 4],
    Units,
)
_FLOAT_ERROR = 2.0**61


@njit("int64(int64)", cache=True, nogil=True)
def _whole_root(square: int) -> Any:
    root = np.int64(math.sqrt(square))
    while root * root > square:
        root -= 1
    while (root + 1) * (root + 1) <= square:
        root += 1
    return root


@njit(types.int64(UNITS, types.int64), cache=True, nogil=True)
def _raised(units: Units, k: int) -> Any:
    return units.kappa_fixed * np.int64(units.deviation[k]) >> KAPPA_BITS if units.spiking else np.int64(0)


@njit(types.int64(UNITS, types.int64, types.int64), cache=True, nogil=True)
def _above(units: Units, k: int, distance: int) -> Any:
    return (abs(distance) if units.two_sided else distance) - _raised(units, k)


@njit(types.void(UNITS, types.int32[::1], types.int64[::1]), cache=True, nogil=True)
def _beside_edges(units: Units, u: Any, distance: Any) -> None:
    """Move distances of a layer norm to the side of their edge on which their whole sums are."""
    n = u.shape[0]
    total, squares = np.int64(0), np.int64(0)
    for k in range(n):
        total += u[k]
        squares += np.int64(u[k]) * np.int64(u[k])
    edge = _raised(units, 0)
    variance, real_variance = n * squares - total * total, n * float(squares) - float(total) * float(total)
    one = np.int64(1) << NEURON_BITS
    least = -(-(n * edge) * (n * edge) >> _EPSILON_BITS)
    for k in range(n):
        from_mean = n * np.int64(u[k]) - total
        negative = units.two_sided and from_mean < 0
        size, whole = distance[k], from_mean
        if negative:
            size, whole = -size, -whole
        scaled = one * whole
        over = float(scaled) * float(scaled) - float(edge) * float(edge) * real_variance
        if abs(over) < _FLOAT_ERROR:
            exact = scaled * scaled - edge * edge * variance
            fires = exact >= least
        else:
            fires = over > 0
        raised = _raised(units, k)
        size = max(size, raised) if whole >= 0 and fires else min(size, raised - 1)
        distance[k] = -size if negative else size


@njit(types.void(UNITS, types.int16[::1], types.int32[::1], types.int64[::1]), cache=True, nogil=True)
def _measure(units: Units, x: Any, u: Any, distance: Any) -> None:
    """The distances of one image's sums."""
    n, bits = u.shape[0], units.sum_bits
    least = np.int64(1) << NEURON_BITS
    if units.readout or units.layer_norm:
        total, variance = np.int64(0), np.int64(0)
        for k in range(n):
            distance[k] = np.int64(u[k]) << bits
            total += distance[k]
        if units.readout:
            return
        mean = total // n
        for k in range(n):
            distance[k] -= mean
            variance += distance[k] * distance[k]
        variance //= n
        least = np.int64(1)
    else:
        for k in range(n):
            threshold = np.int64(units.mean[k])
            if not units.homeostatic:
                threshold += units.mean_fixed * np.int64(units.balance[k])
            distance[k] = (np.int64(u[k]) << bits) - threshold
        if not units.divisive:
            return
        total, squares = np.int64(0), np.int64(0)
        for j in range(x.shape[0]):
            total += x[j]
            squares += np.int32(x[j]) * np.int32(x[j])
        variance = ((x.shape[0] * squares - total * total) << 2 * bits) // x.shape[0]
    reciprocal = (np.int64(1) << SPREAD_BITS) // max(_whole_root(variance), least)
    for k in range(n):
        distance[k] = distance[k] * reciprocal >> SPREAD_BITS - NEURON_BITS
    if units.layer_norm:
        _beside_edges(units, u, distance)


@njit(types.void(UNITS, types.int16[:, ::1], types.int32[:, ::1], types.int64[:, ::1]), cache=True, nogil=True)
def measure(units: Units, x: Any, u: Any, distance: Any) -> None:
    """Distances (lanes, n_out) of sums u (lanes, n_out) of the inputs x (lanes, n_in)."""
    for lane in range(x.shape[0]):
        _measure(units, x[lane], u[lane], distance[lane])


@njit(types.void(UNITS, types.int64[:, ::1], types.int16[:, ::1]), cache=True, nogil=True)
def fire(units: Units, distance: Any, out: Any) -> None:
    """Signs or spikes (lanes, n_out) of hidden units at these distances."""
    silent = np.int16(0 if units.spiking else -1)
    for lane in range(distance.shape[0]):
        for k in range(distance.shape[1]):
            out[lane, k] = np.int16(1) if _above(units, k, distance[lane, k]) >= 0 else silent


@njit(types.void(UNITS, types.int32[:, ::1], types.int64[:, ::1], types.int64[:, ::1]), cache=True, nogil=True)
def windowed(units: Units, error: Any, distance: Any, d: Any) -> None:
    """The units' own errors d (lanes, n_out): those inside the window."""
    for lane in range(d.shape[0]):
        for k in range(d.shape[1]):
            own, y = np.int64(error[lane, k]), distance[lane, k]
            if not units.readout:
                if WINDOW_DEN * abs(_above(units, k, y)) > WINDOW_NUM * np.int64(units.deviation[k]):
                    own = np.int64(0)
                elif units.two_sided and y < 0:
                    own = -own
            d[lane, k] = own


@njit(types.void(UNITS, types.int64[::1], types.int64[::1], types.int32[::1]), cache=True, nogil=True)
def follow(units: Units, distance: Any, d: Any, amount: Any) -> None:
    """Each unit's own scale, threshold and mean error, and the amount by which its synapses step."""
    deviation, mean, trace = units.deviation, units.mean, units.trace
    for k in range(d.shape[0]):
        if units.measures_scale:
            deviation[k] += np.int32((abs(distance[k]) - np.int64(deviation[k])) >> SCALE_SHIFT)
        if units.homeostatic:
            mean[k] += np.int32(distance[k] >> SCALE_SHIFT)
        scaled = d[k] << NEURON_BITS
        if units.centred:
            trace[k] += np.int32((scaled - trace[k]) >> CENTRE_SHIFT)
            scaled -= trace[k]
        step = (-units.rate * scaled) >> units.amount_shift
        amount[k] = np.int32(min(np.int64(AMOUNT_LIMIT), max(np.int64(-AMOUNT_LIMIT), step)))


class CompiledNeurons(FixedNeurons):
    """`FixedNeurons` whose passes over an image are compiled."""

    def set_rate(self, lr: float) -> None:
        super().set_rate(lr)
        state = (self.balance, self.mean, self.deviation, self.trace)
        self.units = Units(*state, self.rate, *(getattr(self.settings, name) for name in Units._fields[5:]))

    def distance(self, u: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
        distance = np.empty(u.shape, np.int64)
        measure(self.units, np.ascontiguousarray(x, np.int16), u, distance)
        return distance

    def fire(self, u: NDArray[Any], distance: NDArray[Any]) -> NDArray[Any]:
        if self.settings.readout:
            return u
        out = np.empty(distance.shape, np.int16)
        fire(self.units, distance, out)
        return out.astype(np.int32)

    def windowed(self, error: NDArray[Any], distance: NDArray[Any]) -> NDArray[Any]:
        d = np.empty(distance.shape, np.int64)
        windowed(self.units, np.ascontiguousarray(error, np.int32), distance, d)
        return d

    def learn(self, distance: NDArray[Any], d: NDArray[Any]) -> NDArray[Any]:
        amount = np.empty(self.settings.n_out, np.int32)
        follow(self.units, distance, d, amount)
        return amount
