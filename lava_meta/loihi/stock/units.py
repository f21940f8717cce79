"""Threshold units: who sums reaches a threshold, as stock neurons."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.loihi.stock.limits import ACTIVATION, ACTIVATION_SHIFT, BIAS_EXPONENT, DECAY_SHIFT, MANTISSA
from lava_meta.loihi.stock.parts import MEMORYLESS, StockLayer

_STEP = 2 << ACTIVATION_SHIFT  # of a LIF neuron's potential, a unit of y
# A potential that has not fired leaves a 4096th of itself, which must stay below one step of y: at most _REST.
_REST = _STEP - 1
_LOWEST = -((_REST + 1) * 2**DECAY_SHIFT - 1)


def add_units(
    layer: StockLayer, theta: NDArray[Any], low: NDArray[Any], high: NDArray[Any], name: str = "neurons"
) -> str:
    """Neurons that fire if y >= theta, of the shape of theta, for y between `low` and `high` that arrives as 2y."""
    theta = np.clip(theta, low, high + 1)  # never or always: one step beyond what there is
    mantissa = 1 - theta
    lowest = _STEP * (low + mantissa)
    fits = (
        int(lowest.min()) - _REST >= _LOWEST
        and MANTISSA[0] <= int(mantissa.min())
        and int(mantissa.max()) <= MANTISSA[1]
        and 2 * int(np.maximum(np.abs(low), np.abs(high)).max()) <= ACTIVATION
    )
    if fits:
        return layer.add(
            name,
            "LIF",
            shape=theta.shape,
            **MEMORYLESS,
            vth=0,
            bias_mant=mantissa.astype(np.int32),
            bias_exp=BIAS_EXPONENT,
        )
    bias = 2 * mantissa
    layer.add_graded(name, theta.shape, 2 * low + np.minimum(bias, 0), 2 * high + np.maximum(bias, 0), relu=True)
    layer.add_constant(bias.reshape(-1), name)
    return name
