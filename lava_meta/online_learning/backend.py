"""Where a network learns: in the calling process, or wherever else a backend was provided for.

`lava_meta.providers` knows the backends by name: "kernels" and "reference" are here, "lava" is in `converters.online`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lava_meta import providers
from lava_meta.errors import DivergenceError
from lava_meta.graph import BinaryGraph
from lava_meta.online_learning.class_errors import ClassError
from lava_meta.online_learning.forms import make_layer
from lava_meta.online_learning.network import PlasticNetwork
from lava_meta.online_learning.options import LearnerOptions

if TYPE_CHECKING:
    from lava_meta.online_learning.compiled.network import CompiledNetwork

BACKEND = "backend"  # the kind of provider
SNAPSHOT = 1000  # images between two copies of what was learned
_SYNAPSES_A_CALL = 2**24  # of a compiled loop: some milliseconds, many times what a call costs


class Engine(Protocol):
    """A network that is ready to learn."""

    def learn(self, x: NDArray[Any], labels: NDArray[Any]) -> int:
        """Learn inputs (n, n_in) with labels int64 (n,), n a multiple of the lanes.

        Returns how many were classified correctly before they were learned.
        """

    def close(self) -> None:
        """Free what is held. Repeatable."""


class Backend(Protocol):
    """What starts engines, and classifies with what was learned."""

    def check(self) -> None:
        """Raise LavaMetaError if it cannot run here."""

    def start(self, network: PlasticNetwork, options: LearnerOptions) -> Engine:
        """An engine that learns in place in `network.states`."""

    def classes(self, graph: BinaryGraph, inputs: NDArray[Any], options: LearnerOptions) -> NDArray[np.int64]:
        """Classes int64 (n,) of encoded images."""


@dataclass(frozen=True)
class LocalBackend:
    """The calling process: the reference implementation, or the compiled kernels."""

    compiled: bool

    def check(self) -> None:
        """It runs everywhere."""

    def start(self, network: PlasticNetwork, options: LearnerOptions) -> Engine:
        """The layers in order."""
        return LocalEngine(network, options.lanes, compiled=self.compiled)

    def classes(self, graph: BinaryGraph, inputs: NDArray[Any], options: LearnerOptions) -> NDArray[np.int64]:
        """By the graph's compiled form."""
        from lava_meta.graph.packed.compiled import classify

        return classify(graph, inputs)


KERNELS, REFERENCE = LocalBackend(compiled=True), LocalBackend(compiled=False)


def known_backend(name: str, *, warn: bool = True) -> str:
    """The name of a backend that there is; "oracle", until 0.3, is "reference". Raises ValueError for any other."""
    if name == "oracle":
        if warn:
            warnings.warn(
                'the backend "oracle" is now "reference"; the old name goes away in 0.3', DeprecationWarning, 3
            )
        name = "reference"
    providers.check(BACKEND, name)
    return name


class LocalEngine:
    """The layers in order, forward and back, one group of `lanes` images after the other."""

    def __init__(self, network: PlasticNetwork, lanes: int = 1, *, compiled: bool = False) -> None:
        self.layers = [
            make_layer(settings, state, compiled=compiled)
            for settings, state in zip(network.settings, network.states, strict=True)
        ]
        self.feedback = network.feedback
        self.lanes = lanes
        self._front = None if network.front is None else network.front.signs(compiled=compiled)
        last = network.settings[-1]
        self.error = ClassError(
            last.rule.error,
            last.n_out,
            last.n_in,
            last.precision,
            last.rule.dead_zone,
            temperature=last.rule.temperature,
            class_rate=last.rule.class_rate,
            trace=network.states[-1]["trace"],
        )
        self._loop = _loop_of(self) if compiled else None

    def learn(self, x: NDArray[Any], labels: NDArray[Any]) -> int:
        if self._loop is not None and len(x) % self.lanes == 0:
            self.error.check(labels)
            return self._loop.learn(x, labels)
        right = 0
        for start in range(0, len(x), self.lanes):
            right += self.step(x[start : start + self.lanes], labels[start : start + self.lanes])
        return right

    @property
    def groups_a_call(self) -> int:
        """How many groups of images one call of `learn` takes at best, for who wants to look in between."""
        synapses = sum(layer.hidden.size for layer in self.layers)
        return max(1, _SYNAPSES_A_CALL // (synapses * self.lanes)) if self._loop is not None else 1

    def forward(self, x: NDArray[Any]) -> NDArray[Any]:
        """The readout's sums int32 (lanes, classes)."""
        if self._front is not None:
            x = self._front(x)
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def classes(self, x: NDArray[Any]) -> NDArray[np.int64]:
        """Classes int64 (n,) of inputs (n, n_in), without learning: those of the largest sums."""
        classes: NDArray[np.int64] = self.sums(x).argmax(axis=1)
        return classes

    def sums(self, x: NDArray[Any]) -> NDArray[Any]:
        """The readout's sums int32 (n, classes) of inputs (n, n_in), without learning."""
        found = [self.forward(x[start : start + SNAPSHOT]) for start in range(0, len(x), SNAPSHOT)]
        return np.concatenate(found) if found else np.zeros((0, self.error.classes), np.int32)

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


def _loop_of(engine: LocalEngine) -> CompiledNetwork | None:
    """All of learning as one compiled loop, if it is for this network."""
    from lava_meta.online_learning.compiled.network import CompiledNetwork

    if engine._front is not None or any(direct is not None for direct in engine.feedback):
        return None
    return CompiledNetwork.of(engine.layers, engine.error, engine.lanes)
