"""What the readout got wrong: one signed error per class, from its integer sums and the label.

z_c = v_c / T, T the temperature, by default sqrt(n), n the readout's inputs; y the label. Every kind exists in floating
point and, with 1.0 = 128 and errors clamped to +-127 (8 bits), in integers:

    softmax   e_c = exp(z_c) / sum_k exp(z_k) - [c = y];  0 where |e_c| is below the dead zone
              integers: exp from a table over the whole-number difference to the largest sum, 15 bits; one division
              a class, rounded to nearest
    margin    e = +1 for the strongest rival and -1 for the label, where its sum does not lead by T
    ternary   the sign of the softmax error where it is at least 1/4, else 0
    prototype  -1 for the label, else 0: the synapses of its class neuron follow the signs that its images have in the
              mean, whatever the sums are, and no other class's move. It tells hidden layers nothing

Class neurons that know how often their class came lately keep a trace of it, and the error is that of z + log q: a
class that does not come is not expected, so nobody learns that it is absent. At test z alone decides.

    q_c += class_rate (1[c = y] - q_c)       after the error; 16 fraction bits
    log q                                    integers: T log q, whole, from a table over the upper 12 bits of q
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.online_learning.settings import CLASS_BITS, ERROR_ONE, ERRORS, Precision

_EXP_BITS = 15
LOG_BITS = 12  # of q, that the table of logarithms sees
ONE = ERROR_ONE - 1  # the largest error in 8 bits


class ClassError:
    """`error(sums, labels)`: int sums (lanes, classes) and labels (lanes,) -> errors (lanes, classes).

    int32 in fixed point (`precision` a number of bits), float32 else. trace (classes,): q, which changes in place.
    Raises ValueError for an unknown kind, and, when called, for a label that is no class.
    """

    def __init__(
        self,
        kind: str,
        classes: int,
        inputs: int,
        precision: Precision = 8,
        dead_zone: float = 0.02,
        *,
        temperature: float | None = None,
        class_rate: float = 0.0,
        trace: NDArray[Any] | None = None,
    ) -> None:
        if kind not in ERRORS:
            raise ValueError(f"error is {kind!r}; choose one of {', '.join(ERRORS)}")
        if classes < 2:
            raise ValueError(f"an error needs at least two classes, not {classes}")
        self.kind, self.classes, self.fixed = kind, classes, precision != "float"
        self.dead_zone = round(dead_zone * ERROR_ONE) if self.fixed else dead_zone
        self._root = math.sqrt(inputs) if temperature is None else temperature
        self._margin = max(1, round(self._root))
        self.class_rate, self.trace = class_rate, trace
        self.rate_fixed = round(class_rate * (1 << CLASS_BITS))
        if class_rate and trace is None:
            raise ValueError(f"class_rate is {class_rate}, so the class neurons need a trace of their own")
        upper = np.maximum(np.arange(2**LOG_BITS + 1), 0.5) / 2**LOG_BITS
        self.logarithms = np.rint(self._root * np.log(upper)).astype(np.int64)
        # Beyond this difference the 15-bit exponential is 0.
        differences = np.arange(math.ceil(self._root * (_EXP_BITS + 1) * math.log(2)) + 1)
        self.exponentials = np.rint(2**_EXP_BITS * np.exp(-differences / self._root)).astype(np.int64)

    def check(self, labels: NDArray[Any]) -> None:
        """Raise ValueError for a label that is no class."""
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= self.classes:
            raise ValueError(
                f"labels run from {low} to {high}; with {self.classes} classes they lie in 0..{self.classes - 1}"
            )

    def __call__(self, sums: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
        self.check(labels)
        forms = {"margin": self._margin_error, "prototype": self._prototype_error}
        error = forms.get(self.kind, self._softmax)(self._expected(sums), labels, np.arange(len(sums)))
        self._follow(labels)
        if self.kind == "ternary":
            one, least = (ONE, ERROR_ONE // 4) if self.fixed else (1, 0.25)
            error = one * np.sign(error) * (np.abs(error) >= least)
        return error.astype(np.int32 if self.fixed else np.float32)

    def _expected(self, sums: NDArray[Any]) -> NDArray[Any]:
        """Sums plus T log q."""
        if not self.class_rate:
            return sums.astype(np.int64)
        assert self.trace is not None
        if self.fixed:
            expected: NDArray[Any] = sums + self.logarithms[self.trace >> CLASS_BITS - LOG_BITS]
            return expected
        least = 0.5 ** (LOG_BITS + 1)  # as in the table
        real: NDArray[Any] = sums + self._root * np.log(np.maximum(self.trace.astype(np.float64), least))
        return real

    def _follow(self, labels: NDArray[Any]) -> None:
        """Let q follow the labels, one after the other."""
        if not self.class_rate:
            return
        assert self.trace is not None
        one = 1 << CLASS_BITS if self.fixed else 1
        for label in labels:
            change = one * (np.arange(self.classes) == label) - self.trace
            if self.fixed:
                self.trace += (self.rate_fixed * change.astype(np.int64) >> CLASS_BITS).astype(np.int32)
            else:
                self.trace += np.float32(self.class_rate) * change

    def _softmax(self, sums: NDArray[Any], labels: NDArray[Any], lanes: NDArray[Any]) -> NDArray[Any]:
        below = sums.max(axis=1, keepdims=True) - sums
        if self.fixed:
            exponentials = self.exponentials[np.minimum(below, len(self.exponentials) - 1)]
            total = exponentials.sum(axis=1, keepdims=True)
            whole: NDArray[Any] = (exponentials * ERROR_ONE + total // 2) // total
            whole[lanes, labels] -= ERROR_ONE
            whole[np.abs(whole) < self.dead_zone] = 0
            return whole.clip(-ONE, ONE)
        power = np.exp(-below / self._root)
        error: NDArray[Any] = power / power.sum(axis=1, keepdims=True)
        error[lanes, labels] -= 1.0
        error[np.abs(error) < self.dead_zone] = 0.0
        return error

    def _prototype_error(self, sums: NDArray[Any], labels: NDArray[Any], lanes: NDArray[Any]) -> NDArray[Any]:
        error = np.zeros(sums.shape, np.int64)
        error[lanes, labels] = -ONE if self.fixed else -1
        return error

    def _margin_error(self, sums: NDArray[Any], labels: NDArray[Any], lanes: NDArray[Any]) -> NDArray[Any]:
        rivals = sums.copy()
        own = rivals[lanes, labels].copy()
        rivals[lanes, labels] = np.iinfo(np.int64).min // 2
        strongest = rivals.argmax(axis=1)
        error = np.zeros(sums.shape, np.int64)
        error[lanes, strongest] = np.where(own - rivals[lanes, strongest] < self._margin, ONE if self.fixed else 1, 0)
        error[lanes, labels] = -error.max(axis=1)
        return error
