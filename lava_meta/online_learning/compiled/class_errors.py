"""The softmax error of one image, compiled: the same integers as those of `online_learning.class_errors.ClassError`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from lava_meta.jit import njit
from lava_meta.online_learning.class_errors import LOG_BITS, ONE, ClassError
from lava_meta.online_learning.settings import CLASS_BITS, ERROR_ONE


class Classes(NamedTuple):
    """What class neurons know: tables of exponentials and logarithms, how often their class came, and constants."""

    exponentials: NDArray[Any]
    logarithms: NDArray[Any]
    trace: NDArray[Any]  # empty if they do not follow that
    rate: int
    dead_zone: int


CLASSES = types.NamedTuple([*[types.int64[::1]] * 2, types.int32[::1], *[types.int64] * 2], Classes)


@njit(types.void(CLASSES, types.int32[::1], types.int64, types.int32[::1]), cache=True, nogil=True)
def softmax(classes: Classes, sums: Any, label: int, error: Any) -> None:
    """The error of each class, from the sums of the readout."""
    # Loops: numba's own `max` and assignment of whole arrays take seconds to compile.
    number, largest, total = sums.shape[0], np.int32(-(2**31)), np.int64(0)
    known = classes.trace.shape[0] > 0
    for c in range(number):
        error[c] = sums[c]
        if known:
            error[c] += np.int32(classes.logarithms[classes.trace[c] >> CLASS_BITS - LOG_BITS])
        largest = max(largest, error[c])
    last = np.int64(classes.exponentials.shape[0] - 1)
    for c in range(number):
        total += classes.exponentials[min(np.int64(largest) - error[c], last)]
    for c in range(number):
        power = classes.exponentials[min(np.int64(largest) - error[c], last)]
        whole = (power * ERROR_ONE + total // 2) // total
        if c == label:
            whole -= ERROR_ONE
        if abs(whole) < classes.dead_zone:
            whole = np.int64(0)
        error[c] = np.int32(min(np.int64(ONE), max(np.int64(-ONE), whole)))


@njit(types.void(CLASSES, types.int64), cache=True, nogil=True)
def follow(classes: Classes, label: int) -> None:
    """Let the trace follow a label."""
    for c in range(classes.trace.shape[0]):
        change = (np.int64(1) << CLASS_BITS if c == label else np.int64(0)) - np.int64(classes.trace[c])
        classes.trace[c] += np.int32(classes.rate * change >> CLASS_BITS)


def classes_of(error: ClassError) -> Classes:
    """The class neurons of an error by softmax in integers; they share the trace."""
    trace = np.zeros(0, np.int32) if error.trace is None or not error.class_rate else error.trace
    return Classes(error.exponentials, error.logarithms, trace, error.rate_fixed, int(error.dead_zone))
