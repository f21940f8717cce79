"""Running an experiment: every arm with every seed, each in a folder of its own, and what is made of them.

    settings.json            the experiment, its scale and settings, library versions; `--config` takes it
    runs/ARM/seedN/          what that run keeps, config.yaml for `--config`, and result.json once it is complete
    results.json, .csv       every measurement; a line per arm and seed
    summary.csv              mean, spread and number of seeds, a line per arm and metric
    tidy.csv                 a line per value, with the settings in which arms differ
    report.md, figures/      for the reader; report.html is the same on one page, figures inside

A run that was stopped goes on with `resume`: complete runs are read back, those under way go on from their last
checkpoint. Seeds, arms and rules may be added on the way; anything else that differs is refused.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lava_meta.errors import FormatError, RunFolderError
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results, S
from lava_meta.experiments.common.jobs import Execute, Job, jobs_of, read_measurement, serially
from lava_meta.experiments.common.report import report, report_html, write_tables
from lava_meta.experiments.common.settings import Settings, changed
from lava_meta.io.files import read_checked_json, read_json, reading, write_json, write_text
from lava_meta.io.locks import held
from lava_meta.plotting import figures
from lava_meta.training.run_folder import differences

SETTINGS = "settings.json"
LOCK = ".lock"  # which the process that works in the folder holds
_MAY_GROW = ("seeds", "m", "rules")
_TABLES = ("results.json", "results.csv", "summary.csv", "tidy.csv")
_FILES = (SETTINGS, *_TABLES, "report.md", "report.html", "figures", "runs")


def run_experiment(
    experiment: Experiment[S],
    settings: S,
    out: Path,
    *,
    scale: str = "",
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    say: Callable[[str], None] = lambda line: None,
    execute: Execute = serially,
) -> Results:
    """Run what is missing in `out`, and write tables, figures and the report. `say` gets a line for each run.

    Runs are made one after the other in this process, or wherever `execute` makes them, as on a
    `lava_meta.experiments.common.scheduling.Cluster`, with the same results.

    Raises `RunFolderError` for a folder that holds something else or in which another process is at work, and whatever
    a measurement raises: a `DataError` for a data set that is missing, a `DivergenceError` with arm and seed named.
    """
    _refuse_others(out)
    with ExitStack() as stack:
        with _writing(out):
            out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(held(out / LOCK))
        _open(out, _description(experiment, settings, scale), settings, resume=resume, overwrite=overwrite)
        jobs = jobs_of(experiment, settings, out, scale=scale, progress=progress)
        found: dict[tuple[str, int], Measurement] = {}

        def keep(job: Job[S], how: str) -> None:
            found[job.arm, job.seed] = measurement = read_measurement(job.result)
            say(f"[{len(found)}/{len(jobs)}] {job}: {_shown(experiment, measurement)} ({how})")

        complete = [job for job in jobs if job.result.exists()]
        for job in complete:
            keep(job, "read back")
        with closing(execute([job for job in jobs if job not in complete])) as made:
            for job, how in made:
                keep(job, how)
        arms = dict.fromkeys(job.arm for job in jobs)
        results = Results({arm: [found[arm, seed] for seed in range(settings.seeds)] for arm in arms})
        _conclude(experiment, settings, scale, results, out)
    return results


def _description(experiment: Experiment[S], settings: S, scale: str) -> dict[str, Any]:
    """What settings.json says; `--config` reads it too."""
    return {
        "experiment": experiment.name,
        "scale": scale,
        "settings": settings.to_dict(),
        "libraries": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }


def _shown(experiment: Experiment[S], measurement: Measurement) -> str:
    """The metrics that a line on the screen shows."""
    known = [name for name in experiment.headline if name in measurement.metrics]
    return ", ".join(f"{name} {measurement.metrics[name]:.{experiment.digits}f}" for name in known)


def _conclude(experiment: Experiment[S], settings: S, scale: str, results: Results, out: Path) -> None:
    """Write tables, figures and the report."""
    write_tables(experiment, settings, results, out)
    drawn = experiment.figures(settings, results)
    for name, figure in drawn.items():
        figures.save(figure, out / "figures" / name)
    write_text(out / "report.md", report(experiment, settings, scale, results, list(drawn)))
    files = {name: out / "figures" / f"{name}.png" for name in drawn}
    write_text(out / "report.html", report_html(experiment, settings, scale, results, files))


def load_results(out: Path) -> tuple[dict[str, Any], Results]:
    """Description and measurements of an experiment's folder. Raises `FormatError` for a folder that is not one."""
    try:
        with reading(out):
            content = read_checked_json(out / "results.json")
            arms = {label: [Measurement(**run) for run in runs] for label, runs in content["arms"].items()}
            return read_json(out / SETTINGS), Results(arms)
    except (OSError, FormatError) as error:
        raise FormatError(f"{out} does not hold the results of a complete experiment: {error}") from error


def _refuse_others(out: Path) -> None:
    """Raise `RunFolderError` for a folder that holds anything but an experiment, before anything is written there."""
    with _writing(out):
        names = _names(out)
    if names:
        _saved(out, names)


def _names(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir() if path.name != LOCK) if out.exists() else []


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunFolderError(f"{out} cannot be written: {error}") from error


def _open(out: Path, description: dict[str, Any], settings: Settings, *, resume: bool, overwrite: bool) -> None:
    if resume and overwrite:
        raise ValueError("resume goes on with the experiment in the folder, overwrite removes it: choose one")
    with _writing(out):
        names = _names(out)
        if names:
            saved = _saved(out, names)
            if overwrite:
                _remove(out)
            elif resume:
                _compare(out, saved, description, settings)
            else:
                name = saved["experiment"]
                raise RunFolderError(
                    f"{out} holds the experiment {name!r}: resume it, overwrite it, or choose another folder"
                )
        write_json(out / SETTINGS, description)


def _remove(out: Path) -> None:
    """An experiment's own files, and no others."""
    for name in _FILES:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _saved(out: Path, names: list[str]) -> dict[str, Any]:
    try:
        saved = read_json(out / SETTINGS)
        return {"experiment": saved["experiment"], "settings": dict(saved["settings"])}
    except (OSError, FormatError, ValueError, KeyError, TypeError):
        raise RunFolderError(
            f"{out} holds {', '.join(names[:5])}, which is no experiment of ours: choose another folder"
        ) from None


def _compare(out: Path, saved: dict[str, Any], description: dict[str, Any], settings: Settings) -> None:
    """Raise `RunFolderError` if the folder's experiment is another one; seeds, arms and rules may have been added."""

    def fixed(name: str, values: dict[str, Any]) -> dict[str, Any]:
        return {
            "experiment": name,
            "settings": {key: value for key, value in values.items() if key not in _MAY_GROW},
        }

    if saved["experiment"] != description["experiment"]:
        there: dict[str, Any] = saved["settings"]
    else:
        try:  # older versions kept the settings of the training among the others, and not all of them
            there = changed(settings, **saved["settings"]).to_dict()
        except (TypeError, ValueError) as error:
            raise RunFolderError(
                f"{out / SETTINGS} has settings of another version, so it cannot be resumed: {error}. Choose another "
                "folder, or overwrite it"
            ) from error
    now = fixed(description["experiment"], json.loads(json.dumps(description["settings"])))
    different = list(differences(fixed(saved["experiment"], there), now))
    if different:
        raise RunFolderError(f"{out} holds another run, which this one cannot resume: {'; '.join(different)}")
