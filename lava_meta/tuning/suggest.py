"""Which values to try next, by Optuna's Gaussian process.

The best `m` falls as `lr` rises (`lava_meta.training.proposal`), so that what is searched beside `lr` is `m * lr`. Both
are searched on a logarithmic scale around those of the first trial.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lava_meta.errors import require
from lava_meta.tuning.trial import Trial

SPAN = {"m": 6.0, "lr": 4.0}  # searched from 1/SPAN to SPAN times the first trial's


@dataclass(frozen=True)
class Searched:
    """What a search varies. Raises `ValueError` for a name that is not known.

    Args:
        search: "m", and if wanted "lr" and names of `choices`.
        seed: of what is tried.
        choices: values of settings that are not numbers.
    """

    search: Sequence[str] = ("m",)
    seed: int = 0
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = [*SPAN, *self.choices]
        unknown = [name for name in self.search if name not in known]
        if unknown:
            raise ValueError(f"search names {unknown[0]!r}; what can be searched is {', '.join(known)}")
        if "m" not in self.search:
            raise ValueError(f"search is {', '.join(self.search) or 'empty'}; it must have m")


def suggest(trials: Sequence[Trial], searched: Searched, count: int) -> list[dict[str, Any]]:
    """The values of the next `count` trials, which follow from the arguments alone.

    Args:
        trials: those that are complete, the first of which is what is searched around.
        searched: what is not searched stays as in the first trial.
        count: how many trials are to run at once.

    Raises:
        PackageMissingError: Optuna is not installed.
    """
    require("optuna", "Tuning")
    import optuna

    first, search, choices = trials[0].values, searched.search, searched.choices
    distributions: dict[str, Any] = {
        name: optuna.distributions.FloatDistribution(1 / SPAN[name], SPAN[name], log=True)
        if name in SPAN
        else optuna.distributions.CategoricalDistribution(choices[name])
        for name in search
    }
    begin: dict[str, Any] = {name: 1.0 if name in SPAN else first[name] for name in search}
    changes: list[dict[str, Any]] = [{}, {"m": 2.0}, {"m": 0.5}]
    changes += [{name: other} for name in search if name in choices for other in choices[name] if other != first[name]]
    starts = [begin | change for change in changes]
    with _quiet():
        sampler = optuna.samplers.GPSampler(seed=searched.seed, n_startup_trials=len(starts))
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials(
            optuna.trial.create_trial(
                params=_point(trial.values, first, search), distributions=distributions, value=trial.accuracy
            )
            for trial in trials
        )
        for start in starts[len(trials) :]:
            study.enqueue_trial(start)
        return [_values(study.ask(distributions).params, first) for _ in range(count)]


def _values(point: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """What a point of the search means."""
    lr = float(f"{first['lr'] * point.get('lr', 1.0):.3g}")
    m = float(f"{first['m'] * point['m'] * first['lr'] / lr:.3g}")
    return {**first, **point, "m": m, "lr": lr}


def _point(values: Mapping[str, Any], first: Mapping[str, Any], search: Sequence[str]) -> dict[str, Any]:
    """The point of the search that means `values`, within its range in spite of rounding."""
    ratios = {"m": values["m"] * values["lr"] / (first["m"] * first["lr"]), "lr": values["lr"] / first["lr"]}
    return {
        name: min(max(ratios[name], 1 / SPAN[name]), SPAN[name]) if name in SPAN else values[name] for name in search
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna's log says what the caller says better."""
    log = logging.getLogger("optuna")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
