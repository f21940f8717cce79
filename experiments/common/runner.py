"""Running an experiment: every arm with every seed, each in a folder of its own, and what is made of them.

    settings.json            the experiment, its scale and settings, library versions; `--config` takes it
    runs/ARM/seedN/          what that run keeps, and result.json once it is complete
    results.json, .csv       every measurement; a line per arm and seed
    summary.csv              mean, spread and number of seeds, a line per arm and metric
    tidy.csv                 a line per value, with the settings in which arms differ
    report.md, figures/      for the reader; report.html is the same on one page, figures inside

A run that was stopped goes on with `resume`: complete runs are read back, the one under way goes on from its last
epoch. Seeds, arms and rules may be added on the way; anything else that differs is refused.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lava_meta.errors import DivergenceError, FormatError, RunFolderError
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results, Run, S
from lava_meta.experiments.common.report import report, report_html, write_tables
from lava_meta.experiments.common.settings import Settings, changed
from lava_meta.io.files import read_checked_json, read_json, reading, write_checked_json, write_json, write_text
from lava_meta.io.locks import HeldError, held
from lava_meta.optim.threads import torch_threads
from lava_meta.plotting import figures
from lava_meta.training.run_folder import CHECKPOINT, differences

SETTINGS = "settings.json"
LOCK = ".lock"  # of a run's folder, while a process is at it
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
) -> Results | None:
    """Run what is missing in `out`, and write tables, figures and the report. `say` gets a line for each run.

    Several processes may run one experiment in one folder, each with `resume`: no run is made twice. A process that
    finds all that is left under way elsewhere returns None, without a report.

    Raises `RunFolderError` for a folder that holds something else, and whatever a measurement raises: a
    `DataError` for a data set that is missing, a `DivergenceError` with arm and seed named.
    """
    _open(out, _description(experiment, settings, scale), settings, resume=resume, overwrite=overwrite)
    arms = experiment.arms(settings)
    cells = [(seed, label) for seed in range(settings.seeds) for label in arms]
    found: dict[tuple[int, str], Measurement] = {}
    # Seed by seed, so that a run stopped half way has whole comparisons.
    for seed, label in cells:
        run = Run(arms[label], seed, out / "runs" / slug(label) / f"seed{seed}", progress)
        measurement, how = _measured(experiment, run, label)
        if measurement is None:
            continue  # under way in another process
        found[seed, label] = measurement
        say(f"[{len(found)}/{len(cells)}] {label}, seed {seed}: {_shown(experiment, measurement)} ({how})")
    if len(found) < len(cells):
        say(f"{len(cells) - len(found)} runs are under way in other processes: resume once more for the report")
        return None
    results = Results({label: [found[seed, label] for seed in range(settings.seeds)] for label in arms})
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


def read_measurement(path: Path) -> Measurement:
    """What one run of an experiment gave. Raises `FormatError` for a file that is not whole, or was altered."""
    try:
        with reading(path):
            return Measurement(**read_checked_json(path))
    except FormatError as error:
        raise FormatError(f"{error}; remove it to run it again") from error


def slug(label: str) -> str:
    """A label as a folder's name."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", label).strip("_")


def _measured(experiment: Experiment[S], run: Run[S], label: str) -> tuple[Measurement | None, str]:
    """What a run gave and how it was had; None while another process is at it."""
    run.folder.mkdir(parents=True, exist_ok=True)
    file = run.folder / "result.json"
    with ExitStack() as stack:
        try:
            stack.enter_context(held(run.folder / LOCK))
        except HeldError:
            return None, ""
        if file.exists():
            return read_measurement(file), "read back"
        begin = time.monotonic()
        stack.enter_context(torch_threads(run.settings.threads))
        try:
            measurement = experiment.measure(run)
        except DivergenceError as error:
            raise DivergenceError(f"{label}, seed {run.seed}: {error}") from error
        measurement = replace(measurement, seconds=round(time.monotonic() - begin, 2))
        write_checked_json(file, asdict(measurement))
        # With its moments it takes three times the network; what is complete needs it no more.
        (run.folder / CHECKPOINT).unlink(missing_ok=True)
    return measurement, f"{measurement.seconds:.0f} s"


def _open(out: Path, description: dict[str, Any], settings: Settings, *, resume: bool, overwrite: bool) -> None:
    if resume and overwrite:
        raise ValueError("resume goes on with the experiment in the folder, overwrite removes it: choose one")
    try:
        held = sorted(path.name for path in out.iterdir()) if out.exists() else []
        if held:
            saved = _saved(out, held)
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
    except OSError as error:
        raise RunFolderError(f"{out} cannot be written: {error}") from error


def _remove(out: Path) -> None:
    """An experiment's own files, and no others."""
    for name in _FILES:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _saved(out: Path, held: list[str]) -> dict[str, Any]:
    try:
        saved = read_json(out / SETTINGS)
        return {"experiment": saved["experiment"], "settings": dict(saved["settings"])}
    except (OSError, FormatError, ValueError, KeyError, TypeError):
        raise RunFolderError(
            f"{out} holds {', '.join(held[:5])}, which is no experiment of ours: choose another folder"
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
