"""What an experiment is: scales, arms, a measurement of one arm with one seed, figures, and the paper's claims.

An *arm* is one way of doing it (a metaplasticity, a baseline, a width); every arm is run with every seed. A file
beside this folder ends with `EXPERIMENT = Experiment(...)`, or `EXPERIMENTS` for several: the command line finds them.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from lava_meta.experiments.common.claims import Claim, Verdict, interval, judge
from lava_meta.experiments.common.settings import Settings
from lava_meta.plotting.figure import Figure

S = TypeVar("S", bound=Settings)
S_co = TypeVar("S_co", bound=Settings, covariant=True)


@dataclass(frozen=True)
class Run(Generic[S_co]):
    """One arm with one seed."""

    settings: S_co  # the arm's
    seed: int
    folder: Path  # of its own
    progress: bool = False  # to be shown


@dataclass(frozen=True)
class Measurement:
    """What one arm gave with one seed. `metrics` go to the tables, `data` (JSON-ready) to the figures."""

    metrics: Mapping[str, float]
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    seconds: float = math.nan  # wall time; of a resumed run, of its last stretch


@dataclass(frozen=True)
class Results:
    """Measurements by arm, one for each seed, in the order of the seeds."""

    arms: Mapping[str, Sequence[Measurement]]

    def values(self, arm: str, metric: str) -> np.ndarray:
        """The metric of each seed; NaN where it was not measured or the arm was not run."""
        return np.array([m.metrics.get(metric, math.nan) for m in self.arms.get(arm, ())] or [math.nan])

    def mean(self, arm: str, metric: str) -> float:
        """Mean over the seeds."""
        return float(self.values(arm, metric).mean())

    def spread(self, arm: str, metric: str) -> float:
        """Standard deviation over the seeds (n - 1); NaN for one seed."""
        values = self.values(arm, metric)
        return float(values.std(ddof=1)) if len(values) > 1 else math.nan

    def text(self, arm: str, metric: str, digits: int = 1) -> str:
        """Mean and spread as a reader sees them: "94.5 ± 0.6"; "0.01" where all seeds have the same."""
        mean, spread = self.mean(arm, metric), self.spread(arm, metric)
        if math.isnan(mean):
            return ""
        if spread == 0:
            return f"{mean:g}"
        return f"{mean:.{digits}f}" + ("" if math.isnan(spread) else f" ± {spread:.{digits}f}")

    def differences(self, arm: str, other: str, metric: str) -> np.ndarray:
        """One arm less another, seed by seed; NaN where either was not measured."""
        ours, theirs = self.values(arm, metric), self.values(other, metric)
        seeds = min(len(ours), len(theirs))
        return ours[:seeds] - theirs[:seeds]

    def above(self, arm: str, other: str, metric: str, by: float = 0.0) -> Verdict:
        """Whether one arm is above another by more than `by`, paired by seed (see `claims`)."""
        return judge(self.differences(arm, other, metric), by)

    def said(self, metric: str, *arms: str, digits: int = 1) -> str:
        """A metric of several arms in words: "ACC: m = 0 33.2, ewc not run"."""
        return f"{metric}: " + ", ".join(f"{arm} {self.text(arm, metric, digits) or 'not run'}" for arm in arms)

    def apart(self, metric: str, *arms: str, digits: int = 1) -> str:
        """As `said`, with what the last arm has above each of the others and its 95 % interval over the seeds."""
        last, found = arms[-1], self.said(metric, *arms, digits=digits)
        for other in arms[:-1]:
            differences = self.differences(last, other, metric)
            if len(differences) > 1 and not np.isnan(differences).any():
                low, high = (f"{end:+.{digits}f}" for end in interval(differences))
                found += f"; {last} less {other}: {differences.mean():+.{digits}f} ({low} to {high})"
        return found

    def metrics(self) -> list[str]:
        """Every metric's name, in order of appearance."""
        return list(dict.fromkeys(name for runs in self.arms.values() for run in runs for name in run.metrics))


@dataclass(frozen=True)
class Experiment(Generic[S]):
    """One experiment. `scales` has "small" (under two minutes on two cores), "medium" (under thirty), "paper"."""

    name: str
    title: str  # may name settings in braces; {data} becomes the data set's name
    source: str  # where it is published: figure, protocol
    scales: Mapping[str, S]
    arms: Callable[[S], Mapping[str, S]]  # label -> the settings of that arm alone
    measure: Callable[[Run[S]], Measurement]
    figures: Callable[[S, Results], Mapping[str, Figure]]
    claims: Callable[[S, Results], Sequence[Claim]]
    headline: tuple[str, ...] = ("ACC", "forgetting")  # metrics that a line on the screen shows
    digits: int = 1  # after the point, in tables

    def titled(self, settings: S) -> str:
        """The title, with the data and the sizes that these settings have."""
        values = settings.to_dict()
        return self.title.format(**{**values, "data": data_name(values.get("data", ""))})


_DATA_NAMES = {
    "digits": "digits (8x8)",
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
    "usps": "USPS",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "tinted": "tinted Fashion-MNIST",
}


def data_name(data: str) -> str:
    """A data set as titles name it; what is not known keeps its own name."""
    return _DATA_NAMES.get(data, data)


def names() -> list[str]:
    """The experiments that the command line knows."""
    return sorted(one.name for module in _modules() for one in _defined(module))


def find(name: str) -> Experiment[Any]:
    """The experiment of this name. Raises `ValueError` that lists the known ones."""
    wanted = name.replace("-", "_")
    modules = sorted(_modules(), key=lambda module: not wanted.startswith(module))  # the likely file first
    found = next((one for module in modules for one in _defined(module) if one.name == wanted), None)
    if found is None:
        raise ValueError(f"no experiment {name!r}; there are {', '.join(names())}")
    return found


def _modules() -> list[str]:
    import lava_meta.experiments as package

    return [info.name for info in pkgutil.iter_modules(package.__path__) if not info.ispkg]


def _defined(module: str) -> tuple[Experiment[Any], ...]:
    found = importlib.import_module(f"lava_meta.experiments.{module}")
    return getattr(found, "EXPERIMENTS", (found.EXPERIMENT,) if hasattr(found, "EXPERIMENT") else ())
