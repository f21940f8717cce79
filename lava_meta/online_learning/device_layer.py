"""A metaplastic layer whose hidden weights lie in a real memory: the reference of `Device`'s equations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.online_learning import draws
from lava_meta.online_learning.device import (
    DRIFT_BITS,
    DRIFT_EVERY,
    FACTOR_BITS,
    NOISE_BITS,
    Device,
)
from lava_meta.online_learning.reference import FixedLayer
from lava_meta.online_learning.settings import AMOUNT_LIMIT, GATE_ONE

# What the draws of a step, of relative and absolute noise and of drift differ by: added to the layer's seed.
STEP, RELATIVE, ABSOLUTE, DRIFT = 0x1B873593, 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F


class DeviceLayer(FixedLayer):
    """A `FixedLayer` that writes through `settings.device`; `hidden` holds stored units."""

    device: Device

    def refresh(self) -> None:
        super().refresh()
        assert self.settings.device is not None
        self.device = self.settings.device
        share = np.arange(self.settings.limit_stored + 1) / self.settings.limit_stored
        grow = np.rint(GATE_ONE * (1 - self.device.soft_bounds * share)).astype(np.int32)
        self._gates = np.concatenate([self._gates, grow[::-1]])  # f where a step shrinks |h|; and where it grows

    def _step_synapses(self, x: NDArray[Any], amount: NDArray[Any]) -> None:
        s, device = self.settings, self.device
        active = np.flatnonzero(x)
        h = self.hidden[active].astype(np.int64)
        step = np.where(x[active, None] > 0, self._with_asymmetry(amount), self._with_asymmetry(-amount))
        same_sign = (h >= 0) == (step >= 0)
        step = step * self._gates[np.where(same_sign, -1 - np.abs(h), np.abs(h))]
        write = self._whole_levels(step.astype(np.int64), active) * s.unit
        noise = np.zeros_like(write)
        if device.relative:
            noise += _shift(write * draws.bell(self._key(RELATIVE), active, s.n_out) * device.relative, NOISE_BITS)
        absolute = device.absolute(s.levels * s.unit)
        if absolute:
            noise += _shift(draws.bell(self._key(ABSOLUTE), active, s.n_out) * absolute, NOISE_BITS)
        new = h + write + np.where(write != 0, noise, 0)
        self._store(active, np.clip(new, -s.limit_stored, s.limit_stored))
        self._drift_if_due()

    def _with_asymmetry(self, step: NDArray[Any]) -> NDArray[Any]:
        """Steps before their gate, int32: up and down steps by their factors, within the width of a step."""
        factor = np.where(step > 0, self.device.up, self.device.down)
        scaled: NDArray[Any] = step.astype(np.int64) * factor >> FACTOR_BITS
        return scaled.clip(-AMOUNT_LIMIT, AMOUNT_LIMIT).astype(np.int32)

    def _whole_levels(self, step: NDArray[Any], active: NDArray[Any]) -> NDArray[Any]:
        """Steps in levels with `step_bits` fraction bits, rounded to whole levels as the device does it."""
        bits = self.settings.step_bits
        if self.device.rounding == "nearest":
            whole: NDArray[Any] = np.sign(step) * (np.abs(step) + (1 << (bits - 1)) >> bits)  # halves away from 0
            return whole
        if self.device.rounding == "step":
            step = step + (int(self._key(STEP)[0]) >> (32 - bits))
        else:
            step = step + draws.draws(self._key(0), active, self.settings.n_out, bits)
        return step >> bits

    def _drift_if_due(self) -> None:
        if self.device.loss and int(self.images[0] + 1) % DRIFT_EVERY == 0:
            self._drift()

    def _drift(self) -> None:
        """Take `loss` of every stored value, rounded at random."""
        h = self.hidden.astype(np.int64)
        rows = np.arange(len(h))
        loss = np.abs(h) * self.device.loss + draws.draws(self._key(DRIFT), rows, h.shape[1], DRIFT_BITS) >> DRIFT_BITS
        self._store(rows, h - np.sign(h) * loss)

    def _key(self, stream: int) -> NDArray[Any]:
        return draws.key(self.settings.seed + stream, int(self.images[0]))


def _shift(value: NDArray[Any], bits: int) -> NDArray[Any]:
    """`value` / 2**bits, rounded to nearest."""
    return value + (1 << (bits - 1)) >> bits
