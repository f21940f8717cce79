"""The whole of learning in fixed point, image after image, in one compiled loop: what `LocalEngine` does in Python.

It calls the functions of `CompiledLayer`, and is for layers of that type, with errors by softmax that are passed down.
numba's cache looks at this file only: who changes those functions removes the cached files of this folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from lava_meta.jit import njit
from lava_meta.online_learning.class_errors import ClassError
from lava_meta.online_learning.compiled import class_errors, neurons
from lava_meta.online_learning.compiled.class_errors import Classes, classes_of
from lava_meta.online_learning.compiled.fixed import CompiledLayer
from lava_meta.online_learning.compiled.neurons import UNITS, Units
from lava_meta.online_learning.compiled.signs import pass_down, sum_up
from lava_meta.online_learning.compiled.steps import SYNAPSES, Synapses, update
from lava_meta.online_learning.reference import Layer


class _Layer(NamedTuple):
    """A layer, and room for what it makes of a group of images (lanes, n_out), or (lanes, n_in) of errors."""

    synapses: Synapses
    units: Units
    frozen: bool
    backward_shift: int
    sums: NDArray[Any]
    distance: NDArray[Any]
    out: NDArray[Any]
    d: NDArray[Any]
    down: NDArray[Any]
    amount: NDArray[Any]  # (n_out,)


_int32, _int64 = types.int32[:, ::1], types.int64[:, ::1]
_LAYER = types.NamedTuple(
    [
        SYNAPSES,
        UNITS,
        types.boolean,
        types.int64,
        _int32,
        _int64,
        types.int16[:, ::1],
        _int64,
        _int32,
        types.int32[::1],
    ],
    _Layer,
)


@njit(types.void(_LAYER, types.int16[:, ::1], types.boolean), cache=True, nogil=True)
def _forward(layer: _Layer, x: Any, last: bool) -> None:  # noqa: FBT001  # numba takes no keyword-only arguments
    sum_up(layer.synapses.hidden, x, layer.sums)
    neurons.measure(layer.units, x, layer.sums, layer.distance)
    if not last:
        neurons.fire(layer.units, layer.distance, layer.out)


@njit(types.void(_LAYER, types.int16[:, ::1], _int32, types.boolean), cache=True, nogil=True)
def _backward(layer: _Layer, x: Any, error: Any, first: bool) -> None:  # noqa: FBT001
    neurons.windowed(layer.units, error, layer.distance, layer.d)
    if not first:
        for lane in range(x.shape[0]):
            pass_down(layer.synapses.hidden, layer.d[lane], layer.backward_shift, layer.down[lane])
    for lane in range(x.shape[0]):
        neurons.follow(layer.units, layer.distance[lane], layer.d[lane], layer.amount)
        if not layer.frozen:
            update(layer.synapses, x[lane], layer.amount)
        layer.synapses.images[0] += 1


@njit("int64(int32[::1])", cache=True, nogil=True)
def _class_of(sums: Any) -> Any:
    best = np.int64(0)
    for c in range(sums.shape[0]):
        if sums[c] > sums[best]:
            best = np.int64(c)
    return best


@njit(cache=True, nogil=True)  # for each depth when it is first met
def _learn(layers: Any, classes: Classes, x: Any, labels: Any, top: Any) -> Any:
    """How many images were classified right before they were learned. top (lanes, classes): room for their errors."""
    last, lanes, right = len(layers) - 1, top.shape[0], np.int64(0)
    for start in range(0, x.shape[0], lanes):
        images = x[start : start + lanes]
        for i in range(last + 1):
            _forward(layers[i], layers[i - 1].out if i else images, i == last)
        sums = layers[last].sums
        for lane in range(lanes):
            class_errors.softmax(classes, sums[lane], labels[start + lane], top[lane])
            right += _class_of(sums[lane]) == labels[start + lane]
        for lane in range(lanes):
            class_errors.follow(classes, labels[start + lane])
        for i in range(last, -1, -1):
            error = layers[i + 1].down if i < last else top
            _backward(layers[i], layers[i - 1].out if i else images, error, i == 0)
    return right


class CompiledNetwork:
    """Layers that learn groups of so many images. Their rule must not change."""

    def __init__(self, layers: Sequence[CompiledLayer], error: ClassError, lanes: int) -> None:
        self._layers = tuple(_with_room(layer, lanes) for layer in layers)
        self._classes = classes_of(error)
        self._top = np.empty((lanes, error.classes), np.int32)

    @classmethod
    def of(cls, layers: Sequence[Layer], error: ClassError, lanes: int) -> CompiledNetwork | None:
        """The loop over these layers; None if it is not for them."""
        known = [layer for layer in layers if type(layer) is CompiledLayer]
        return cls(known, error, lanes) if len(known) == len(layers) and error.kind == "softmax" else None

    def learn(self, x: NDArray[Any], labels: NDArray[np.int64]) -> int:
        """As `LocalEngine.learn`, of labels that are classes, a multiple of the lanes."""
        return int(_learn(self._layers, self._classes, np.ascontiguousarray(x, np.int16), labels, self._top))


def _with_room(layer: CompiledLayer, lanes: int) -> _Layer:
    s = layer.settings

    def room(units: int, kind: type) -> NDArray[Any]:
        return np.empty((lanes, units), kind)

    return _Layer(
        layer.synapses,
        layer.neurons.units,
        frozen=s.frozen,
        backward_shift=s.backward_shift,
        sums=room(s.n_out, np.int32),
        distance=room(s.n_out, np.int64),
        out=room(s.n_out, np.int16),
        d=room(s.n_out, np.int64),
        down=room(s.n_in, np.int32),
        amount=np.empty(s.n_out, np.int32),
    )
