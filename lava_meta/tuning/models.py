"""`tune`: the metaplasticity of one's own model and data, chosen on images held out of training."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lava_meta.data import Images
from lava_meta.data.given import scenario_of
from lava_meta.data.scenarios import Scenario
from lava_meta.training import TrainSettings, train
from lava_meta.training.proposal import for_all_images, norm_of
from lava_meta.training.run_folder import describe
from lava_meta.tuning.study import open_study
from lava_meta.tuning.suggest import Searched
from lava_meta.tuning.trial import Budget, Trial, best_of, table


@dataclass(frozen=True, eq=False)
class Tuned:
    """What a search found."""

    settings: TrainSettings  # the best, to train on all images
    trials: list[Trial] = field(repr=False)  # the first has the proposed m
    out: Path

    @property
    def best(self) -> Trial:
        """The trial with the highest accuracy on held-out images."""
        return best_of(self.trials)

    def __str__(self) -> str:
        return table(self.trials)


def tune(
    make: Callable[[], nn.Module],
    data: Any,
    out: str | os.PathLike[str],
    settings: TrainSettings | None = None,
    *,
    trials: int = 12,
    seconds: float | None = None,
    search: Sequence[str] = ("m",),
    held_out: float = 0.2,
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    say: Callable[[str], None] = print,
    **changes: Any,
) -> Tuned:
    """Search the `m`, and if wanted the `lr`, of `train(make(), data, settings)` with Optuna.

    Every trial learns the same share of the training images of each experience, and is tested on the rest of them; test
    images are never looked at. The first trial is of `settings.m`, or of the one that is proposed if that is None; the
    next are of twice and half of it, and then a Gaussian process chooses, from a sixth to six times it. The `m` of
    the result is smaller than the best trial's by what its fewer images mean (`lava_meta.training.proposal`).

    Args:
        make: gives a new model, always the same: seed it.
        data: as `train` takes them.
        out: the folder of the search (`lava_meta.tuning.study`).
        settings: of all trials, except for what is searched.
        trials: the budget.
        seconds: no trial begins if it would end later, should it take as long as the longest before it.
        search: "m", or "m" and "lr" (from a quarter to four times that of the settings).
        held_out: the share of the training images on which trials are tested.
        seed: of what is held out, and of what is tried.
        resume: go on with the search in the folder; its budget may be another.
        overwrite: begin again in a folder that holds a search.
        progress: whether trainings show theirs.
        say: gets a line per trial.
        changes: fields of `settings` by name.

    Raises:
        PackageMissingError: Optuna is not installed.
        RunFolderError: the folder holds something else, or another process is at work in it.
        ValueError: an argument is out of its range; settings with a `consolidation`, or without one m to begin with.
        KeyboardInterrupt: Ctrl-C, with a message; what was found is kept.
    """
    settings = replace(settings or TrainSettings(), **changes)
    if settings.consolidation is not None or isinstance(settings.m, tuple) or settings.m == 0:
        raise ValueError("tune searches one m around the first: give settings with none or one above 0, and no gate")
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is {held_out!r}; it must be between 0 and 1")
    budget, searched = Budget(trials, seconds), Searched(search, seed)
    scenario = on_held_out(scenario_of(data), held_out, seed)
    model = make()
    first = settings.for_scenario(scenario, model)

    def run(wanted: list[tuple[Path, dict[str, Any] | None]]) -> list[Trial]:
        return [_trial(folder, values or {"m": first.m, "lr": first.lr}) for folder, values in wanted]

    def _trial(folder: Path, values: dict[str, Any]) -> Trial:
        begin = time.monotonic()
        trained = replace(settings, **values, evaluate="task")
        last = train(make(), scenario, trained, folder, resume=True, progress=progress).matrix.values[-1]
        percent = tuple(round(100 * float(value), 3) for value in last)
        return Trial(values, round(sum(percent) / len(percent), 3), percent, round(time.monotonic() - begin, 2))

    def tuned(trial: Trial) -> TrainSettings:
        m = trial.values["m"]
        if not settings.relative:
            m = for_all_images(m, held_out, norm_of(model))
        return replace(settings, lr=trial.values["lr"], m=m)

    about = describe(first, scenario, model)
    about.pop("libraries")  # a search may go on with newer ones
    with open_study(Path(out), searched, about, resume=resume, overwrite=overwrite) as study:
        found = study.go_on(run, tuned, budget, say)
    return Tuned(tuned(best_of(found)), found, Path(out))


def on_held_out(scenario: Scenario, fraction: float, seed: int) -> Scenario:
    """The scenario with a share of each experience's images as its tests, which are not learned.

    Raises `ValueError` for a scenario with a test that no experience belongs to.
    """
    rest, held = scenario.hold_out(fraction, seed)
    tests = []
    for task in range(len(scenario.tests)):
        own = [held[index] for index, of in enumerate(scenario.task_of) if of == task]
        if not own:
            raise ValueError(f"{scenario.name}: no training images belong to test {task + 1}, so none can be held out")
        tests.append(_together(own))
    return replace(rest, name=f"{rest.name}, tested on these", tests=tuple(tests), recipe=None)


def _together(images: Sequence[Images]) -> Images:
    x, y = torch.cat([one.x for one in images]), torch.cat([one.y for one in images])
    return replace(images[0], x=x, y=y, name=f"{images[0].name}, held out")
