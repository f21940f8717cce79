"""What the readout got wrong: one signed error per class, from its integer sums and the label.

z_c = v_c / sqrt(n), n the readout's inputs; y the label. Every kind exists in floating point and, with 1.0 = 128 and
errors clamped to +-127 (8 bits), in integers:

    softmax   e_c = exp(z_c) / sum_k exp(z_k) - [c = y];  0 where |e_c| is below the dead zone
              integers: exp from a table over the whole-number difference to the largest sum, 15 bits; one division
              a class, rounded to nearest
    margin    e = +1 for the strongest rival and -1 for the label, where its sum does not lead by sqrt(n)
    ternary   the sign of the softmax error where it is at least 1/4, else 0
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.online_learning.settings import ERROR_ONE, ERRORS, Precision

_EXP_BITS = 15
_ONE = ERROR_ONE - 1  # the largest error in 8 bits


class ClassError:
    """`error(sums, labels)`: int sums (lanes, classes) and labels (lanes,) -> errors (lanes, classes).

    int32 in fixed point (`precision` a number of bits), float32 else. Raises ValueError for an unknown kind, and, when
    called, for a label that is no class.
    """

    def __init__(self, kind: str, classes: int, inputs: int, precision: Precision = 8, dead_zone: float = 0.02) -> None:
        if kind not in ERRORS:
            raise ValueError(f"error is {kind!r}; choose one of {', '.join(ERRORS)}")
        if classes < 2:
            raise ValueError(f"an error needs at least two classes, not {classes}")
        self.kind, self.classes, self.fixed = kind, classes, precision != "float"
        self._dead_zone = round(dead_zone * ERROR_ONE) if self.fixed else dead_zone
        self._root = math.sqrt(inputs)
        self._margin = round(self._root)
        # Beyond this difference the 15-bit exponential is 0.
        differences = np.arange(math.ceil(self._root * (_EXP_BITS + 1) * math.log(2)) + 1)
        self._exp = np.rint(2**_EXP_BITS * np.exp(-differences / self._root)).astype(np.int64)

    def __call__(self, sums: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= self.classes:
            raise ValueError(
                f"labels run from {low} to {high}; with {self.classes} classes they lie in 0..{self.classes - 1}"
            )
        form = self._margin_error if self.kind == "margin" else self._softmax
        error = form(sums, labels, np.arange(len(sums)))
        if self.kind == "ternary":
            one, least = (_ONE, ERROR_ONE // 4) if self.fixed else (1, 0.25)
            error = one * np.sign(error) * (np.abs(error) >= least)
        return error.astype(np.int32 if self.fixed else np.float32)

    def _softmax(self, sums: NDArray[Any], labels: NDArray[Any], lanes: NDArray[Any]) -> NDArray[Any]:
        below = sums.max(axis=1, keepdims=True).astype(np.int64) - sums
        if self.fixed:
            exponentials = self._exp[np.minimum(below, len(self._exp) - 1)]
            total = exponentials.sum(axis=1, keepdims=True)
            whole: NDArray[Any] = (exponentials * ERROR_ONE + total // 2) // total
            whole[lanes, labels] -= ERROR_ONE
            whole[np.abs(whole) < self._dead_zone] = 0
            return whole.clip(-_ONE, _ONE)
        power = np.exp(-below / self._root)
        error: NDArray[Any] = power / power.sum(axis=1, keepdims=True)
        error[lanes, labels] -= 1.0
        error[np.abs(error) < self._dead_zone] = 0.0
        return error

    def _margin_error(self, sums: NDArray[Any], labels: NDArray[Any], lanes: NDArray[Any]) -> NDArray[Any]:
        rivals = sums.astype(np.int64)
        own = rivals[lanes, labels].copy()
        rivals[lanes, labels] = np.iinfo(np.int64).min // 2
        strongest = rivals.argmax(axis=1)
        error = np.zeros(sums.shape, np.int64)
        error[lanes, strongest] = np.where(own - rivals[lanes, strongest] < self._margin, _ONE if self.fixed else 1, 0)
        error[lanes, labels] = -error.max(axis=1)
        return error
