"""What a reader gets: tables of all measurements, and one page with the paper's claims beside what came out."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lava_meta.experiments.common.claims import Claim
from lava_meta.experiments.common.experiment import Experiment, Results, S
from lava_meta.io import config
from lava_meta.io.files import write_checked_json
from lava_meta.training.metrics import write_csv


def write_tables(results: Results, out: Path) -> None:
    """results.json, results.csv (a line per arm and seed) and summary.csv (a line per arm and metric)."""
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


def report(experiment: Experiment[S], settings: S, scale: str, results: Results, figures: Sequence[str]) -> str:
    """report.md, with the figures of these names."""
    seconds = sum(run.seconds for runs in results.arms.values() for run in runs)
    lines = [
        f"# {experiment.titled(settings)}",
        "",
        f"{experiment.source}",
        "",
        f"Scale `{scale or 'own'}`, {_seeds(settings.seeds)}, {seconds:.0f} s in all on {platform.machine()}. "
        f"{_statistics(settings.seeds)}; accuracies in percent.",
        "",
        "## Claimed and measured",
        "",
        *claim_table(experiment.claims(settings, results)),
        "",
        "## Every arm",
        "",
        *_arm_table(results, experiment.digits),
        "",
        *(line for name in figures for line in (f"![{name.replace('_', ' ')}](figures/{name}.png)", "")),
        "## Settings",
        "",
        *(f"    {line}" for line in config.lines(settings)),
    ]
    return "\n".join(lines) + "\n"


def _arm_table(results: Results, digits: int) -> list[str]:
    metrics = results.metrics()
    rows = [
        [label, *(results.text(label, name, digits) for name in metrics), _seconds(results, label)]
        for label in results.arms
    ]
    return markdown_table(["", *metrics, "s"], rows)


def claim_table(claims: Sequence[Claim]) -> list[str]:
    """Claims as lines of a Markdown table."""
    rows = [[claim.said, claim.measured, claim.verdict.value] for claim in claims]
    return markdown_table(["claimed", "measured", "verdict"], rows)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(head), f"|{' --- |' * len(head)}", *map(line, rows)]


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
