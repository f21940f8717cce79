"""A learner whose images are spikes over time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.errors import ConversionError
from lava_meta.graph import BinaryGraph
from lava_meta.online_learning.backend import Engine
from lava_meta.online_learning.learner import Learner
from lava_meta.online_learning.over_time_network import EngineOverTime, NetworkOverTime
from lava_meta.online_learning.settings import OnlineRule
from lava_meta.online_learning.spike_trains import SpikeTrains


class LearnerOverTime(Learner):
    """A `Learner` whose hidden units integrate and fire for some time steps an image (`over_time`).

    Args:
        sizes: inputs, units of hidden layers, classes.
        rule: an `OnlineRule` whose units spike, by default `OnlineRule.sparse()`.
        steps: time steps an image, a power of two up to 128.
        coding: `rate`, spikes drawn with the brightness of the pixels, or `constant` (`spike_trains`).
        leak: the share of a potential that stays from step to step, 0 to 1.
        backend: as of `Learner`.
        options: fields of `LearnerOptions`, by name; form and device have no other values than their defaults.

    It learns and classifies as a `Learner` does; it has no file, and does not convert.

    Raises:
        ValueError, TypeError: arguments that do not fit.
    """

    net: NetworkOverTime
    encoding: SpikeTrains

    def __init__(
        self,
        sizes: Sequence[int],
        rule: OnlineRule | None = None,
        *,
        steps: int = 4,
        coding: str = "rate",
        leak: float = 0.5,
        backend: str = "lava",
        **options: Any,
    ) -> None:
        super().__init__(sizes, OnlineRule.sparse() if rule is None else rule, backend=backend, **options)
        if self.inputs != "spikes":
            raise ValueError(f"inputs is {self.inputs!r}; over time they are spikes")
        chosen = self.options
        self.encoding = SpikeTrains(self.n_in, chosen.max_level, chosen.input_mean, steps, coding, chosen.seed)
        self.net = NetworkOverTime.integrating(self.sizes, chosen, self.encoding, steps, leak)

    def predict(self, images: Any, **options: Any) -> NDArray[np.int64]:  # type: ignore[override]  # classes alone
        """Classes int64 (n,) of raw images, by the layers that learn, outside Lava."""
        if options:
            raise TypeError(f"a learner over time predicts classes alone, without {', '.join(options)}")
        return self._own_classes(self.encode(images), compiled=self.backend != "reference")

    def _own_classes(self, x: NDArray[Any], *, compiled: bool) -> NDArray[np.int64]:
        return EngineOverTime(self.net, compiled=compiled).classes(x)

    def accuracy(self, images: Any) -> float:
        """Share of `images` classified right, by the compiled kernels."""
        self._check_images(images)
        return float((self._own_classes(self.encode(images.x), compiled=True) == images.y.numpy()).mean())

    def graph(self) -> BinaryGraph:
        """There is none: raises ConversionError."""
        raise ConversionError("units that integrate over time learn and classify, but have no binary network: predict")

    def save(self, path: str | os.PathLike[str]) -> None:
        """There is no file: raises ConversionError."""
        self._write(path, {})

    def _write(self, path: str | os.PathLike[str], more: dict[str, Any]) -> None:
        raise ConversionError("a learner over time has no file: keep its net.states")

    def _started(self) -> Engine:
        if self._engine is None:
            local = self.backend in ("kernels", "reference")
            self._engine = (
                EngineOverTime(self.net, self.lanes, compiled=self.backend == "kernels")
                if local
                else self._backend().start(self.net, self.options)
            )
        assert self._engine is not None
        return self._engine

    def __repr__(self) -> str:
        return f"LearnerOverTime({'-'.join(map(str, self.sizes))}, steps={self.net.steps}, backend={self.backend!r})"
