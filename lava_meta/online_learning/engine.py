"""Learning steps without Lava: the layers in order, forward and back, one group of images after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from lava_meta.online_learning.class_errors import ClassError
from lava_meta.online_learning.device_layer import DeviceLayer
from lava_meta.online_learning.layers import FixedLayer, FloatLayer, Layer
from lava_meta.online_learning.settings import LayerSettings

State = dict[str, np.ndarray]


class Engine(Protocol):
    """What a learner drives: an oracle, its compiled form, or a network in Lava."""

    def learn(self, x: np.ndarray, labels: np.ndarray) -> int:
        """Learn inputs int8 (n, n_in) with labels int64 (n,), n a multiple of the lanes. Returns how many were
        classified right before they were learned."""

    def close(self) -> None:
        """Free what is held. Repeatable."""


def make_layer(settings: LayerSettings, state: State, compiled: bool) -> Layer:
    """The layer in its form: floating point, clear integers, or compiled integers. It works in place on `state`."""
    if settings.precision == "float":
        return FloatLayer(settings, state)
    if not compiled:
        return FixedLayer(settings, state) if settings.device is None else DeviceLayer(settings, state)
    if settings.device is None:
        from lava_meta.kernels.online import CompiledLayer

        return CompiledLayer(settings, state)
    from lava_meta.kernels.device import CompiledDeviceLayer

    return CompiledDeviceLayer(settings, state)


class LocalEngine:
    """The oracle (`compiled=False`), or the same integers at speed. Works in place on `states`.

    `feedback`: for each hidden layer a matrix (classes, units) through which it sees the readout's error directly, or
    None to pass errors down through the binary weights.
    """

    def __init__(
        self,
        settings: Sequence[LayerSettings],
        states: Sequence[State],
        feedback: Sequence[np.ndarray | None],
        lanes: int = 1,
        compiled: bool = False,
    ) -> None:
        self.layers = [make_layer(s, state, compiled) for s, state in zip(settings, states, strict=True)]
        self.feedback = list(feedback)
        self.lanes = lanes
        last = settings[-1]
        self.error = ClassError(last.rule.error, last.n_out, last.n_in, last.precision, last.rule.dead_zone)

    def learn(self, x: np.ndarray, labels: np.ndarray) -> int:
        right = 0
        for start in range(0, len(x), self.lanes):
            right += self.step(x[start : start + self.lanes], labels[start : start + self.lanes])
        return right

    def step(self, x: np.ndarray, labels: np.ndarray) -> int:
        """Learn one group of images at once: all see the same weights, then their steps are taken in order."""
        for layer in self.layers:
            x = layer.forward(x)
        top = self.error(x, labels)
        down = self.layers[-1].backward(top, pass_down=len(self.layers) > 1 and self.feedback[-1] is None)
        for i in reversed(range(len(self.layers) - 1)):
            direct = self.feedback[i]
            error = down if direct is None else top @ direct
            down = self.layers[i].backward(error, pass_down=i > 0 and self.feedback[i - 1] is None)
        return int((x.argmax(axis=1) == labels).sum())

    def close(self) -> None:
        """Nothing is held."""
