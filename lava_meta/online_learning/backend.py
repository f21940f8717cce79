"""Learning steps without Lava: the layers in order, forward and back, one group of images after the other."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from lava_meta.errors import DivergenceError
from lava_meta.graph import BinaryGraph
from lava_meta.online_learning.class_errors import ClassError
from lava_meta.online_learning.device_layer import DeviceLayer
from lava_meta.online_learning.learning_engine.layer import make_engine_layer
from lava_meta.online_learning.reference import FixedLayer, FloatLayer, Layer
from lava_meta.online_learning.settings import LayerSettings
from lava_meta.rule.gates import closed_form

State = dict[str, NDArray[Any]]


class Engine(Protocol):
    """What a learner drives: an oracle, its compiled form, or a network in Lava."""

    def learn(self, x: NDArray[Any], labels: NDArray[Any]) -> int:
        """Learn inputs (n, n_in) with labels int64 (n,), n a multiple of the lanes.

        Returns how many were classified correctly before they were learned.
        """

    def close(self) -> None:
        """Free what is held. Repeatable."""


@dataclass(frozen=True, eq=False)
class Front:
    """The first `depth` layers of a converted network, frozen: they compute what the graph computes.

    Raises `ValueError` for a depth that the graph does not have.
    """

    graph: BinaryGraph
    depth: int

    def __post_init__(self) -> None:
        if not 1 <= operator.index(self.depth) <= len(self.graph.layers):
            raise ValueError(f"depth is {self.depth}; the network has {len(self.graph.layers)} hidden layers to freeze")

    @property
    def name(self) -> str:
        """Of the layer whose signs come out."""
        return f"hidden{self.depth}"

    def signs(self, compiled: bool) -> Callable[[NDArray[Any]], NDArray[Any]]:
        """The function from pixels (n, pixels) to signs int8 (n, units): the graph's oracle, or its compiled form."""
        if not compiled:
            return lambda pixels: self.graph.activations(pixels)[self.name]
        from lava_meta.graph.packed.network import PackedNetwork

        packed = PackedNetwork(self.graph)
        return lambda pixels: packed.activations(pixels.astype(packed.dtype), [self.name])[self.name]


def make_layer(settings: LayerSettings, state: State, compiled: bool) -> Layer:
    """The layer in its form: floating point or integers, clear or compiled; or the twin of Lava's learning engine.

    It works in place on `state`.
    """
    if settings.engine_steps:
        return make_engine_layer(settings, state, compiled)
    if settings.precision == "float":
        return _float_layer(settings, state, compiled)
    if not compiled:
        return FixedLayer(settings, state) if settings.device is None else DeviceLayer(settings, state)
    if settings.device is None:
        from lava_meta.online_learning.compiled.fixed import CompiledLayer

        return CompiledLayer(settings, state)
    from lava_meta.online_learning.compiled.device import CompiledDeviceLayer

    return CompiledDeviceLayer(settings, state)


def _float_layer(settings: LayerSettings, state: State, compiled: bool) -> FloatLayer:
    if compiled and closed_form(settings.rule.consolidation):
        from lava_meta.online_learning.compiled.floating import CompiledFloatLayer

        return CompiledFloatLayer(settings, state)
    return FloatLayer(settings, state)


class LocalEngine:
    """The oracle (`compiled=False`), or the same integers at speed. Works in place on `states`.

    `feedback`: for each hidden layer a matrix (classes, units) through which it sees the readout's error directly, or
    None to pass errors down through the binary weights. `front`: frozen layers of a converted network below the first.
    """

    def __init__(
        self,
        settings: Sequence[LayerSettings],
        states: Sequence[State],
        feedback: Sequence[NDArray[Any] | None],
        lanes: int = 1,
        compiled: bool = False,
        front: Front | None = None,
    ) -> None:
        self.layers = [make_layer(s, state, compiled) for s, state in zip(settings, states, strict=True)]
        self.feedback = list(feedback)
        self.lanes = lanes
        self._front = None if front is None else front.signs(compiled)
        last = settings[-1]
        self.error = ClassError(last.rule.error, last.n_out, last.n_in, last.precision, last.rule.dead_zone)

    def learn(self, x: NDArray[Any], labels: NDArray[Any]) -> int:
        right = 0
        for start in range(0, len(x), self.lanes):
            right += self.step(x[start : start + self.lanes], labels[start : start + self.lanes])
        return right

    def forward(self, x: NDArray[Any]) -> NDArray[Any]:
        """The readout's sums int32 (lanes, classes)."""
        if self._front is not None:
            x = self._front(x)
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def step(self, x: NDArray[Any], labels: NDArray[Any]) -> int:
        """Learn one group of images at once: all see the same weights, then their steps are taken in order.

        Raises DivergenceError, with step and layer, for errors in floating point that are no finite numbers.
        """
        sums = self.forward(x)
        top = self.error(sums, labels)
        depth = len(self.layers)
        number = depth
        try:
            down = self.layers[-1].backward(top, pass_down=depth > 1 and self.feedback[-1] is None)
            for number in reversed(range(1, depth)):
                direct = self.feedback[number - 1]
                error = down if direct is None else top @ direct
                pass_down = number > 1 and self.feedback[number - 2] is None
                down = self.layers[number - 1].backward(error, pass_down=pass_down)
        except DivergenceError as error:
            raise DivergenceError(f"layer {number} of {depth}: {error}") from None
        return int((sums.argmax(axis=1) == labels).sum())

    def close(self) -> None:
        """Nothing is held."""
