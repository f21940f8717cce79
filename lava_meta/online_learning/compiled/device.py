"""Hidden weights in a real memory, compiled: the same integers as `online_learning.device_layer.DeviceLayer`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.jit import njit
from lava_meta.online_learning import draws
from lava_meta.online_learning.compiled.fixed import CompiledLayer
from lava_meta.online_learning.compiled.steps import mix
from lava_meta.online_learning.device import DRIFT_BITS, NOISE_BITS, ROUNDINGS
from lava_meta.online_learning.device_layer import ABSOLUTE, DRIFT, RELATIVE, STEP, DeviceLayer

_GOLDEN, _FIRST = np.uint32(draws.GOLDEN), np.uint32(draws.FIRST)
_S15, _S16, _BYTE, _SIGN = np.uint32(15), np.uint32(16), np.uint32(255), np.int32(31)
_SYNAPSE, _ONE_A_STEP, _NEAREST = (ROUNDINGS.index(name) for name in ("synapse", "step", "nearest"))


@njit("uint32(uint32, uint32)", cache=True, inline="always")
def _draw(row: Any, k: Any) -> Any:
    """The 32 bits of `draws.draws`."""
    v = np.uint32(row + np.uint32(k * _GOLDEN))
    v = np.uint32(np.uint32(v ^ (v >> _S16)) * _FIRST)
    return np.uint32(v ^ (v >> _S15))


@njit("int64(uint32, uint32)", cache=True)
def _bell(row: Any, k: Any) -> Any:
    """`draws.bell`."""
    v = mix(np.uint32(row + np.uint32(k * _GOLDEN)))
    total = (v & _BYTE) + ((v >> np.uint32(8)) & _BYTE) + ((v >> _S16) & _BYTE) + (v >> np.uint32(24))
    return np.int64(total) - np.int64(510)


@njit("uint32(int64, int64)", cache=True)
def _key(seed: int, image: int) -> Any:
    return mix(np.uint32(np.uint32(seed) ^ mix(np.uint32(image))))


@njit("void(int16[::1], int32[::1], int32[::1], int32[::1], uint32, int32, int32, int64)", cache=True, nogil=True)
def _whole_levels(row: Any, steps: Any, gates: Any, out: Any, base: Any, shared: Any, bits: Any, rounding: int) -> None:
    """out[k]: the gated step of one row's synapse, in whole levels."""
    units = row.shape[0]
    last = np.int32(gates.shape[0] - 1)
    shift = np.uint32(np.int32(32) - bits)
    half = np.int32(1) << (bits - np.int32(1))
    # Loops of one kind of work each, which LLVM makes vectors of; the look-up stays alone. h and the step differ in
    # sign where the step shrinks |h|: then the place in the table is |h|, else counted from the end.
    for k in range(units):
        h = np.int32(row[k])
        same = ~(np.int32(h ^ steps[k]) >> _SIGN)
        out[k] = np.int32(abs(h) ^ same) + np.int32(same & np.int32(last + 1))
    for k in range(units):
        out[k] = gates[np.uint32(out[k])]
    if rounding == _SYNAPSE:
        for k in range(units):
            step = np.int32(steps[k] * out[k])
            out[k] = np.int32(step + np.int32(_draw(base, np.uint32(k)) >> shift)) >> bits
    elif rounding == _ONE_A_STEP:
        for k in range(units):
            out[k] = np.int32(np.int32(steps[k] * out[k]) + shared) >> bits
    else:
        for k in range(units):
            step = np.int32(steps[k] * out[k])
            whole = np.int32(abs(step) + half) >> bits
            out[k] = whole if step >= 0 else -whole


@njit(
    "void(int16[:, ::1], int32[::1], int16[::1], int32[::1], int32[::1], int32[::1], int64, int64, int64, int64, "
    "int64, int64, int64, int64)",
    cache=True,
    nogil=True,
)
def _write(
    hidden: Any,
    balance: Any,
    x: Any,
    plus: Any,
    minus: Any,
    gates: Any,
    limit: int,
    unit: int,
    seed: int,
    image: int,
    bits: int,
    rounding: int,
    relative: int,
    absolute: int,
) -> None:
    """The step of every synapse whose input is active, and the sums of binary weights that follow.

    plus, minus: the steps before the gate where the input is +1 and -1. gates: 256 f for |h| = 0 .. limit, and the
    factors of growing steps for |h| = limit .. 0.
    """
    key, relative_key, absolute_key = _key(seed, image), _key(seed + RELATIVE, image), _key(seed + ABSOLUTE, image)
    shared = np.int32(_key(seed + STEP, image) >> np.uint32(32 - bits))
    half = np.int64(1) << (NOISE_BITS - 1)
    writes = np.empty(hidden.shape[1], np.int32)
    for j in range(x.shape[0]):
        if x[j] == 0:
            continue
        row = hidden[j]
        base = mix(np.uint32(key + np.uint32(j)))
        _whole_levels(row, plus if x[j] > 0 else minus, gates, writes, base, shared, np.int32(bits), rounding)
        relative_base = mix(np.uint32(relative_key + np.uint32(j)))
        absolute_base = mix(np.uint32(absolute_key + np.uint32(j)))
        for k in range(hidden.shape[1]):
            if writes[k] == 0:
                continue
            h, write = np.int64(row[k]), np.int64(writes[k]) * unit
            new = h + write
            if relative != 0:
                new += (write * _bell(relative_base, np.uint32(k)) * relative + half) >> NOISE_BITS
            if absolute != 0:
                new += (_bell(absolute_base, np.uint32(k)) * absolute + half) >> NOISE_BITS
            new = min(np.int64(limit), max(np.int64(-limit), new))
            balance[k] += np.int32(2 * (np.int64(new >= 0) - np.int64(h >= 0)))
            row[k] = np.int16(new)


@njit("void(int16[:, ::1], int32[::1], int64, int64, int64)", cache=True, nogil=True)
def _drift(hidden: Any, balance: Any, loss: int, seed: int, image: int) -> None:
    """Every stored value loses its share."""
    key = _key(seed + DRIFT, image)
    shift = np.uint32(32 - DRIFT_BITS)
    for j in range(hidden.shape[0]):
        row = hidden[j]
        base = mix(np.uint32(key + np.uint32(j)))
        for k in range(hidden.shape[1]):
            h = np.int64(row[k])
            lost = (abs(h) * loss + np.int64(_draw(base, np.uint32(k)) >> shift)) >> DRIFT_BITS
            new = h - lost if h > 0 else h + lost
            if h < 0 <= new:
                balance[k] += np.int32(2)
            row[k] = np.int16(new)


class CompiledDeviceLayer(DeviceLayer, CompiledLayer):
    """A `DeviceLayer` whose passes are compiled."""

    def _step_synapses(self, x: NDArray[Any], amount: NDArray[Any]) -> None:
        s, device = self.settings, self.device
        _write(
            self.hidden,
            self.balance,
            x,
            self._with_asymmetry(amount),
            self._with_asymmetry(-amount),
            self._gates,
            s.limit_stored,
            s.unit,
            s.seed,
            int(self.images[0]),
            s.step_bits,
            ROUNDINGS.index(device.rounding),
            device.relative,
            device.absolute(s.levels * s.unit),
        )
        self._drift_if_due()

    def _drift(self) -> None:
        _drift(self.hidden, self.balance, self.device.loss, self.settings.seed, int(self.images[0]))
