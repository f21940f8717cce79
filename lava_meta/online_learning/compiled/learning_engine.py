"""The learning engine's integers, compiled: the same tags as those of `online_learning.learning_engine.synapses`.

One thread, and compiled for fixed types when this module is imported, as the other kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.jit import njit
from lava_meta.rule.lowering import ACCUMULATOR_BITS, WIDTHS, Product

FACTORS = ("y1", "y2", "y3", "t", "w")
_LOW, _HIGH = np.int64(-(2**ACCUMULATOR_BITS) - 1), np.int64(2**ACCUMULATOR_BITS - 1)
WIDTH = np.array([WIDTHS[factor] for factor in FACTORS], np.int64)


def table(products: tuple[Product, ...]) -> NDArray[Any]:
    """int64 (products, 4 + 5): whether x0 gates it, mantissa, shift right, shift left; how often each factor stands."""
    rows = [
        [p.dependency == "x0", p.mantissa, p.shift, p.exponent + 7, *(p.factors.count(f) for f in FACTORS)]
        for p in products
    ]
    return np.array(rows, np.int64)


@njit(
    "void(int64[:, ::1], int64[::1], int64[::1], boolean[::1], int64[:, ::1], int64[:, ::1], int64[::1], float64)",
    cache=True,
    nogil=True,
)
def step_tags(
    tags: Any, units: Any, inputs: Any, x0: Any, traces: Any, products: Any, widths: Any, draw: float
) -> None:
    """Step the tags of these units and inputs, in place; traces (3, units) have decayed. Weights are +-128."""
    values = np.zeros(5, np.int64)
    for k in units:
        for i in range(3):
            values[i] = traces[i, k]
        for j in inputs:
            tag = tags[k, j]
            values[3] = tag
            values[4] = 128 if tag >= 0 else -128
            total = tag << 7
            for p in range(products.shape[0]):
                if products[p, 0] and not x0[j]:
                    continue
                value = products[p, 1]
                for f in range(5):
                    bound = np.int64(1) << widths[f]
                    factor = min(bound - 1, max(-bound, values[f]))
                    for _ in range(products[p, 4 + f]):
                        value *= factor
                value = (value >> products[p, 2]) << products[p, 3]
                total = min(_HIGH, max(_LOW, total + min(_HIGH, max(_LOW, value))))
            whole = total >> 7
            if draw < (total & 127) / 128:
                whole += 1
            tags[k, j] = min(np.int64(255), max(np.int64(-257), whole))
