"""A learner whose images are spikes over time.

    learner = LearnerOverTime([784, 512, 10], OnlineRule.sparse(divisive=False), steps=8)
    learner.fit(tasks)
    learner.save("learner.safetensors")                  # `lava_meta.load` opens it
    net = lava_meta.convert(learner)                     # a `SpikingNetwork`: the same spikes and classes
    net.predict(learner.trains(images), time_first=False)

`spike_trains` says how images become spikes, `over_time` what units do with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.spiking_graph import SteppedGraph
from lava_meta.online_learning import files
from lava_meta.online_learning.backend import Engine
from lava_meta.online_learning.learner import Learner
from lava_meta.online_learning.over_time_network import EngineOverTime, NetworkOverTime
from lava_meta.online_learning.settings import OnlineRule
from lava_meta.online_learning.spike_trains import SpikeTrains

if TYPE_CHECKING:
    from lava_meta.loihi.cost.acyclic import GraphReport

OVER_TIME = "over_time"  # in the header of its file


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

    It learns, classifies, saves and is loaded as a `Learner` is.

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
        if options.pop("front", None) is not None:
            raise ValueError("a learner over time begins with its own layers: no front of frozen ones")
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

    def trains(self, images: Any) -> NDArray[np.uint8]:
        """What the network sees of raw images, step by step: spikes (n, steps, n_in)."""
        spikes: NDArray[np.uint8] = self.encode(images).reshape(-1, self.net.steps, self.n_in)
        return spikes

    def graph(self) -> SteppedGraph:  # type: ignore[override]  # of spikes over time
        """The spiking network that the hidden weights stand for now. It takes `trains`.

        Raises ConversionError for units whose thresholds follow the image, or that spike on either side of it.
        """
        return self.net.graph()

    def report(self, target: str, images: Any, **options: Any) -> GraphReport:  # type: ignore[override]  # with time
        """What the network that it is now costs on a chip ("loihi2") for raw `images`, without what learning takes.

        options, errors: those of `lava_meta.loihi.cost.stepped.stepped_report`.
        """
        from lava_meta.loihi.cost.stepped import stepped_report

        return stepped_report(self.graph(), self.trains(images).swapaxes(0, 1), target, **options)

    def _own_choices(self) -> dict[str, Any]:
        return {OVER_TIME: {"steps": self.net.steps, "coding": self.encoding.coding, "leak": self.net.leak}}

    @classmethod
    def _choices_in(cls, header: dict[str, Any], tensors: files.Tensors) -> dict[str, Any]:
        chosen = header[OVER_TIME]
        return {"steps": chosen["steps"], "coding": chosen["coding"], "leak": chosen["leak"]}

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
