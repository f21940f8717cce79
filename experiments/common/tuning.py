"""Tuning an experiment: its `m`, and if wanted its rate and the gate of growing steps, on held-out training images.

A trial is every arm of the rule with every seed, run as the experiment runs them, but tested on images that were held
out. The test images stay unseen until the experiment is run with the settings that were found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from lava_meta.experiments.common.experiment import Experiment, Measurement
from lava_meta.experiments.common.jobs import Execute, Job, jobs_of, read_measurement, serially
from lava_meta.experiments.common.settings import changed
from lava_meta.experiments.common.training import TrainingSettings
from lava_meta.training.proposal import for_all_images
from lava_meta.training.run_folder import m_in_folder
from lava_meta.tuning import Budget, Trial
from lava_meta.tuning.study import open_study
from lava_meta.tuning.suggest import Searched

BUDGET = Budget()
_METRIC = "ACC"
GROW = {"whole": "metaplastic", "gated": "lasting"}  # the rule with this gate of growing steps


def tune_experiment(
    experiment: Experiment[Any],
    settings: Any,
    out: Path,
    *,
    scale: str = "",
    budget: Budget = BUDGET,
    search: Sequence[str] = ("m",),
    seeds: int = 1,
    held_out: float = 0.2,
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    say: Callable[[str], None] = lambda line: None,
    execute: Execute = serially,
    at_once: int = 1,
) -> list[Trial]:
    """Search the experiment's settings, and leave those of the best trial as a file that `--config` takes.

    Args:
        experiment: one that trains networks with an m.
        settings: of the experiment.
        out: the folder of the search (`lava_meta.tuning.study`).
        scale: the name of the scale from which `settings` differ.
        budget: how many trials, and in how many seconds of training.
        search: "m", and if wanted "lr" and "grow": growing steps whole, or gated as by the rule "lasting".
        seeds: of a trial: 0 to seeds - 1. Its accuracy is their mean.
        held_out: the share of the training images on which trials are tested.
        seed: of what is tried.
        resume: go on with the search in the folder; its budget may be another.
        overwrite: begin again in a folder that holds a search.
        progress: whether trainings show theirs.
        say: gets a line per trial.
        execute: where runs are made.
        at_once: trials that it gets together.

    Raises:
        ValueError: an experiment that has no m to tune, or chooses it by itself.
        RunFolderError: the folder holds something else, or another process is at work in it.
        PackageMissingError: Optuna is not installed.
        KeyboardInterrupt: Ctrl-C, with a message; what was found is kept.
    """
    if not isinstance(settings, TrainingSettings) or _METRIC not in experiment.headline or hasattr(settings, "values"):
        raise ValueError(f"{experiment.name} has no m that could be tuned by its accuracy on held-out images")
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is {held_out!r}; it must be between 0 and 1")
    base = changed(settings, held_out=held_out, evaluate="task", seeds=seeds)

    def run(wanted: list[tuple[Path, dict[str, Any] | None]]) -> list[Trial]:
        jobs = [_jobs(experiment, base, values, folder, scale=scale, progress=progress) for folder, values in wanted]
        missing = [job for of_trial in jobs for job in of_trial if not job.result.exists()]
        with closing(execute(missing)) as made:
            for _ in made:
                pass
        return [_trial(of_trial, values, search) for of_trial, (_, values) in zip(jobs, wanted, strict=True)]

    def config(trial: Trial) -> dict[str, Any]:
        return {"experiment": experiment.name, "scale": scale, "settings": _found(settings, trial, held_out).to_dict()}

    about = {"experiment": experiment.name, "settings": base.to_dict()}
    searched = Searched(search, seed, {"grow": tuple(GROW)})
    with open_study(out, searched, about, resume=resume, overwrite=overwrite) as study:
        return study.go_on(run, config, budget, say, at_once)


def _jobs(
    experiment: Experiment[Any], base: TrainingSettings, values: dict[str, Any] | None, folder: Path, **options: Any
) -> list[Job[Any]]:
    """The runs of a trial: the arms of its rule alone, with every seed."""
    if values is None:
        settings = replace(base, rules=("proposed",), m=(0.0,))
    else:
        rule = GROW[values.get("grow", "whole")]
        settings = changed(base, rules=(rule,), m=(values["m"],), lr=values["lr"])
    arms = experiment.arms(settings)
    jobs = jobs_of(experiment, settings, folder, **options)
    return [job for job in jobs if arms[job.arm].rules == settings.rules]


def _trial(jobs: list[Job[Any]], values: dict[str, Any] | None, search: Sequence[str]) -> Trial:
    """What the runs gave together. The first trial's m is the one that was proposed."""
    if values is None:
        values = {"m": m_in_folder(jobs[0].folder), "lr": jobs[0].settings.training.lr}
        values |= {"grow": "whole"} if "grow" in search else {}
    runs = [read_measurement(job.result) for job in jobs]
    tasks = [
        _mean(runs, f"task {task}") for task in range(1, 1 + sum(name.startswith("task ") for name in runs[0].metrics))
    ]
    return Trial(values, _mean(runs, _METRIC), tuple(tasks), round(sum(run.seconds for run in runs), 2))


def _mean(runs: list[Measurement], metric: str) -> float:
    return round(fmean(run.metrics.get(metric, math.nan) for run in runs), 3)


def _found(settings: TrainingSettings, trial: Trial, held_out: float) -> TrainingSettings:
    """The settings of the experiment itself with what a trial had; a plain arm stays beside it."""
    m = for_all_images(trial.values["m"], held_out, settings.norm)
    own, rule = GROW["whole"], GROW[trial.values.get("grow", "whole")]
    rules = tuple(rule if name == own else name for name in settings.rules)
    ms = (0.0, m) if 0 in settings.m else (m,)
    return changed(settings, m=ms, rules=rules, lr=trial.values["lr"])
