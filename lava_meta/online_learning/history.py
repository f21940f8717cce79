"""What is kept of a run of learning, and probes to look into it on the way.

A probe is any function of the learner. It is called between groups of images, on a learner that stands still.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lava_meta.data import Images
from lava_meta.graph import BinaryGraph
from lava_meta.online_learning.neurons import State
from lava_meta.training.metrics import AccuracyMatrix

Probe = Callable[[Any], Any]  # of a `Learner`


class Observed(Protocol):
    """What the probes here read of a learner."""

    @property
    def states(self) -> Sequence[State]: ...

    @property
    def limits(self) -> Sequence[float]: ...

    def graph(self) -> BinaryGraph: ...

    def accuracy(self, images: Images) -> float: ...


@dataclass
class History:
    """Filled by `Learner.fit`."""

    accuracy: AccuracyMatrix | None = None  # after each experience on each test; None if the stream has no tests
    online: list[float] = field(default_factory=list)  # per part: share classified right before it was learned
    images: int = 0  # learned in this call, and in those that it goes on with
    seconds: float = 0.0  # spent learning, evaluation and probes left out
    probe_seconds: float = 0.0  # spent in probes
    probes: list[dict[str, Any]] = field(default_factory=list)  # {"images": learned so far, probe name: value, ...}


@dataclass
class Run:
    """One call of `fit`, and where it stands."""

    images: int | None  # of each part, at most
    every: int | None  # images between two looks
    probes: tuple[Probe, ...]
    history: History = field(default_factory=History)
    rows: list[list[float]] = field(default_factory=list)  # the tests, before learning and after each experience
    parts: int = 0  # experiences learned
    right: int = 0  # images of the one under way that were classified right before they were learned
    looked: int = 0  # images learned when the probes were called last

    def __post_init__(self) -> None:
        for name in ("images", "every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it is at least 1, or None for all")

    def count(self, images: int, right: int, seconds: float) -> None:
        """So many more are learned."""
        self.history.images += images
        self.history.seconds += seconds
        self.right += right

    def ends_part(self, images: int, tests: list[float]) -> None:
        """The experience under way, of so many images, is learned and tested."""
        self.history.online.append(self.right / images)
        self.rows.append(tests)
        self.parts, self.right = self.parts + 1, 0

    def to_dict(self) -> dict[str, Any]:
        """Where it stands."""
        names = ("rows", "parts", "right", "looked")
        return {"history": asdict(self.history)} | {name: getattr(self, name) for name in names}

    def load(self, values: dict[str, Any]) -> None:
        """Stand where `to_dict` said."""
        self.history = History(**values.pop("history"))
        for name, value in values.items():
            setattr(self, name, value)

    def look(self, learner: Any) -> None:
        """Ask the probes, unless they were asked since the last image was learned."""
        if self.history.images == self.looked:
            return
        self.looked = self.history.images
        if self.probes:
            began = time.perf_counter()
            values = {probe.__name__: probe(learner) for probe in self.probes}
            self.history.probes.append({"images": self.history.images, "part": learner.parts_learned, **values})
            self.history.probe_seconds += time.perf_counter() - began


def positional_probes(probes: Sequence[Probe]) -> Sequence[Probe]:
    """Probes given to `fit` by position, where the classes of arrays stand now. Warns."""
    warnings.warn(
        "fit(stream, probes) is fit(stream, probes=probes) now; by position they go away in 0.3",
        DeprecationWarning,
        stacklevel=3,
    )
    return probes


def hidden_histogram(bins: int = 16) -> Probe:
    """Counts (layers, bins) of |h| over each layer's range: the last bin holds what is saturated."""

    def hidden_histogram(learner: Observed) -> list[list[int]]:
        return [
            np.histogram(np.abs(state["hidden"]), bins, (0, limit))[0].tolist()
            for state, limit in zip(learner.states, learner.limits, strict=True)
        ]

    return hidden_histogram


def saturation(learner: Observed) -> list[float]:
    """Share of each layer's hidden weights at their limit."""
    return [
        float((np.abs(state["hidden"]) >= limit).mean())
        for state, limit in zip(learner.states, learner.limits, strict=True)
    ]


def flip_rate() -> Probe:
    """Share of each layer's binary weights that changed since this probe was last called (nan the first time)."""
    last: list[NDArray[Any]] = []

    def flip_rate(learner: Observed) -> list[float]:
        now = [state["hidden"] >= 0 for state in learner.states]
        rates = [float((a != b).mean()) for a, b in zip(last, now, strict=True)] if last else [float("nan")] * len(now)
        last[:] = now
        return rates

    return flip_rate


def threshold_drift() -> Probe:
    """Mean absolute change of each hidden layer's thresholds since the last call, in sums (nan the first time)."""
    last: list[NDArray[Any]] = []

    def threshold_drift(learner: Observed) -> list[float]:
        graph = learner.graph()
        if not isinstance(graph, BinaryGraph):
            raise TypeError(f"threshold_drift looks at binary networks, not at that of {learner!r}")
        now = [layer.threshold for layer in graph.layers]
        drift = [float(np.abs(a - b).mean()) for a, b in zip(last, now, strict=True)] if last else [np.nan] * len(now)
        last[:] = now
        return drift

    return threshold_drift


def accuracy_on(images: Images, name: str | None = None) -> Probe:
    """Accuracy on `images`, a fraction."""

    def probe(learner: Observed) -> float:
        return learner.accuracy(images)

    probe.__name__ = name or f"accuracy on {images.name}"
    return probe
