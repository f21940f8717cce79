"""Runs side by side: the arms of experiments' folders, or the folders of single trainings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

from lava_meta.errors import FormatError
from lava_meta.experiments.common.experiment import Measurement, Results
from lava_meta.experiments.common.figures import horizontal_bars
from lava_meta.experiments.common.report import markdown_table
from lava_meta.experiments.common.runner import load_results
from lava_meta.io.files import read_json, write_text
from lava_meta.plotting import figures
from lava_meta.plotting.figure import Figure
from lava_meta.plotting.palette import BLUE
from lava_meta.training.metrics import AccuracyMatrix


def compare_folders(folders: Sequence[Path], out: Path) -> str:
    """Read the folders, write compare.md and a figure into `out`, and return the table.

    Metrics that folders share are drawn as bars, a panel each, with a dot per seed; equal arms of several folders stand
    side by side. Raises `FormatError` for a folder that holds neither an experiment nor a training, `ValueError` for
    fewer than two arms in all or folders without a common metric.
    """
    read = {_name(folder, folders): _results(folder) for folder in folders}
    arms = {f"{name}: {label}" if label else name: runs for name, r in read.items() for label, runs in r.arms.items()}
    results = Results(arms)
    shared = [
        metric for metric in results.metrics() if all(metric in r.metrics() for r in read.values()) and metric != "s"
    ]
    if len(arms) < 2:
        raise ValueError("nothing to compare: give folders with at least two arms in all")
    if not shared:
        raise ValueError(f"{', '.join(map(str, folders))} have no metric in common")
    rows = [[label, *(results.text(label, metric) for metric in shared), str(len(r))] for label, r in arms.items()]
    table = "\n".join(markdown_table(["", *shared, "seeds"], rows))
    figures.save(_draw(results, shared[:4]), out / "compare")
    write_text(out / "compare.md", f"{table}\n\n![compare](compare.png)\n")
    return f"{table}\n\ntable and figure are in {out}"


def _draw(results: Results, metrics: Sequence[str]) -> Figure:
    labels = list(results.arms)
    with mpl.rc_context(figures.STYLE):
        figure = Figure(figsize=(2.2 * len(metrics) + 1.8, 0.24 * len(labels) + 0.8), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(metrics), sharey=True))
        for axis, metric in zip(axes, metrics, strict=True):
            horizontal_bars(axis, results, metric, [BLUE] * len(labels))
            axis.set(xlabel=metric, yticks=range(len(labels)), yticklabels=labels)
        axes[0].invert_yaxis()
        if any(len(runs) > 1 for runs in results.arms.values()):
            figure.supxlabel("bar: ± 1 standard deviation over the seeds", fontsize=7)
    return figure


def _results(folder: Path) -> Results:
    if (folder / "results.json").exists():
        return load_results(folder)[1]
    try:
        content = read_json(folder / "metrics.json")
        matrix = AccuracyMatrix.from_dict(content["accuracy"])
    except (OSError, FormatError, LookupError, TypeError) as error:
        raise FormatError(
            f"{folder} holds neither results.json of a complete experiment nor metrics.json of a training: {error}"
        ) from error
    values = {"ACC": matrix.acc(), "forgetting": matrix.forgetting()}
    return Results({"": [Measurement({name: 100 * v for name, v in values.items() if not math.isnan(v)})]})


def _name(folder: Path, folders: Sequence[Path]) -> str:
    """The folder's own name, or its path where two have the same."""
    same = [other for other in folders if other.name == folder.name]
    return folder.name if len(same) == 1 else str(folder)
