"""What a reader gets: tables of all measurements, and the paper's claims beside what came out, as Markdown and HTML."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lava_meta.experiments.common.claims import Claim
from lava_meta.experiments.common.experiment import Experiment, Results, S
from lava_meta.experiments.common.page import figure_section, page, table_section
from lava_meta.experiments.common.settings import Settings
from lava_meta.io import config
from lava_meta.io.files import write_checked_json
from lava_meta.training.metrics import write_csv


def write_tables(experiment: Experiment[S], settings: S, results: Results, out: Path) -> None:
    """results.json; results.csv, a line per arm and seed; summary.csv, per arm and metric; tidy.csv, per value."""
    write_checked_json(
        out / "results.json", {"arms": {label: [asdict(r) for r in runs] for label, runs in results.arms.items()}}
    )
    metrics = results.metrics()
    lines = [
        [label, seed, *(run.metrics.get(name, "") for name in metrics), run.seconds]
        for label, runs in results.arms.items()
        for seed, run in enumerate(runs)
    ]
    write_csv(out / "results.csv", ["arm", "seed", *metrics, "seconds"], lines)
    summary = [
        [label, name, results.mean(label, name), _or_empty(results.spread(label, name)), len(runs)]
        for label, runs in results.arms.items()
        for name in metrics
        if not math.isnan(results.mean(label, name))
    ]
    write_csv(out / "summary.csv", ["arm", "metric", "mean", "sd", "seeds"], summary)
    write_csv(out / "tidy.csv", *tidy(experiment, settings, results))


def tidy(experiment: Experiment[S], settings: S, results: Results) -> tuple[list[str], list[list[Any]]]:
    """Column names and rows of tidy.csv, a row per value.

    Beside arm and seed stand the settings in which arms differ. The metric "accuracy" is that on test `task` after
    experience `after`, a fraction, both from 1, and 0 before any training.
    """
    arms = {label: _columns(arm) for label, arm in experiment.arms(settings).items()}
    names = list(dict.fromkeys(name for arm in arms.values() for name in arm))
    differing = [name for name in names if len({arm.get(name) for arm in arms.values()}) > 1]
    rows: list[list[Any]] = []
    for label, runs in results.arms.items():
        own = [arms.get(label, {}).get(name, "") for name in differing]
        for seed, run in enumerate(runs):
            start = [experiment.name, label, seed, *own]
            values = run.data.get("matrix", {}).get("values", [])
            rows += [[*start, name, "", "", value] for name, value in run.metrics.items()]
            rows += [
                [*start, "accuracy", after, task + 1, value]
                for after, row in enumerate(values)
                for task, value in enumerate(row)
                if value is not None
            ]
    return ["experiment", "arm", "seed", *differing, "metric", "after", "task", "value"], rows


def report_html(
    experiment: Experiment[S], settings: S, scale: str, results: Results, figures: Mapping[str, Path]
) -> str:
    """report.html, with the figures of these names and PNG files."""
    claims = [[claim.said, claim.measured, claim.verdict.value] for claim in experiment.claims(settings, results)]
    columns, rows = _arm_rows(results, experiment.digits)
    metrics = results.metrics()
    runs = [
        [label, str(seed), *(_shown(run.metrics.get(name)) for name in metrics), f"{run.seconds:.0f}"]
        for label, of_arm in results.arms.items()
        for seed, run in enumerate(of_arm)
    ]
    return page(
        experiment.titled(settings),
        [experiment.source, _about(settings, scale, results)],
        [
            table_section("Claimed and measured", ["claimed", "measured", "verdict"], claims, "claims"),
            table_section("Every arm", ["arm", *columns[1:]], rows, "arms"),
            figure_section({name.replace("_", " "): file for name, file in figures.items()}),
            table_section("Every run", ["arm", "seed", *metrics, "s"], runs, "runs", folded=True),
            table_section("Settings", ["setting", "value"], [*map(list, _columns(settings).items())], "settings"),
        ],
    )


def report(experiment: Experiment[S], settings: S, scale: str, results: Results, figures: Sequence[str]) -> str:
    """report.md, with the figures of these names."""
    lines = [
        f"# {experiment.titled(settings)}",
        "",
        f"{experiment.source}",
        "",
        _about(settings, f"`{scale or 'own'}`", results),
        "",
        "## Claimed and measured",
        "",
        *claim_table(experiment.claims(settings, results)),
        "",
        "## Every arm",
        "",
        *markdown_table(*_arm_rows(results, experiment.digits)),
        "",
        *(line for name in figures for line in (f"![{name.replace('_', ' ')}](figures/{name}.png)", "")),
        "## Settings",
        "",
        *(f"    {line}" for line in config.lines(settings)),
    ]
    return "\n".join(lines) + "\n"


def _about(settings: Settings, scale: str, results: Results) -> str:
    """Scale, seeds, time and statistics, in a line."""
    seconds = sum(run.seconds for runs in results.arms.values() for run in runs)
    return (
        f"Scale {scale or 'own'}, {_seeds(settings.seeds)}, {seconds:.0f} s in all on {platform.machine()}. "
        f"{_statistics(settings.seeds)}; accuracies in percent."
    )


def _arm_rows(results: Results, digits: int) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of the table of arms."""
    metrics = results.metrics()
    rows = [
        [label, *(results.text(label, name, digits) for name in metrics), _seconds(results, label)]
        for label in results.arms
    ]
    return ["", *metrics, "s"], rows


def claim_table(claims: Sequence[Claim]) -> list[str]:
    """Claims as lines of a Markdown table."""
    rows = [[claim.said, claim.measured, claim.verdict.value] for claim in claims]
    return markdown_table(["claimed", "measured", "verdict"], rows)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(head), f"|{' --- |' * len(head)}", *map(line, rows)]


def _columns(settings: Settings) -> dict[str, str]:
    """Settings by their paths, as cells of a table."""
    return {
        name: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in config.leaves(settings).items()
    }


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _seconds(results: Results, label: str) -> str:
    return f"{sum(run.seconds for run in results.arms[label]) / len(results.arms[label]):.0f}"


def _seeds(count: int) -> str:
    return "seed 0" if count == 1 else f"seeds 0 to {count - 1}"


def _statistics(seeds: int) -> str:
    if seeds == 1:
        return "One seed has no spread, and nothing is judged from it: run three or more"
    return (
        "Mean ± standard deviation over the seeds. A claim holds if the 95 % interval (Student's t) of the difference, "
        "paired by seed, is on its side"
    )


def _or_empty(value: float) -> float | str:
    return "" if math.isnan(value) else value
