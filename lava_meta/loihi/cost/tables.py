"""A report as text: what `print(report)` shows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from lava_meta.loihi.cost.energy import PICOJOULES

if TYPE_CHECKING:
    from lava_meta.loihi.cost.report import Report

WIDTH = 118
_CORES_SHOWN = 24


def as_text(report: Report) -> str:
    """Plain text of `WIDTH` columns."""
    out = io.StringIO()
    console = Console(file=out, width=WIDTH, color_system=None, highlight=False)
    show(report, console)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def show(report: Report, console: Console) -> None:
    """Print `report` on `console`."""
    t, chip = report.totals, report.chip
    console.print(f"Resources on {chip.name}, counted on {report.images:,} images. Not verified on a chip.\n")
    columns = [
        "layer",
        "neurons",
        "synapses",
        "synaptic bytes",
        "spikes in",
        "spikes sent",
        "synaptic operations",
        "cores",
    ]
    rows = [*report.layers, {**t, "layer": "total"}]
    console.print("Means an image")
    console.print(_table(columns, rows, last_apart=True))
    learning = ["layer", "tag bytes", "trace bytes", "synaptic updates"]
    if "synaptic updates" in t:
        console.print("What learning adds (tags are part of the synaptic bytes above)")
        console.print(_table(learning, rows, last_apart=True))
    fit = f"{len(report.cores)} cores of {chip.cores}" if report.chips == 1 else f"{len(report.cores)} cores"
    need = "one chip" if report.chips == 1 else f"{report.chips} chips: more than one chip holds"
    console.print(
        f"needs {fit}, {need}; latency {t['latency in steps']} time steps; "
        f"{t['neuron updates']:,} neuron updates an image\n"
    )

    cores = [
        {**row, "neurons used": f"{row['neurons used']:.1%}", "memory used": f"{row['synaptic memory used']:.1%}"}
        for row in report.core_rows()
    ]
    shown = cores if len(cores) <= _CORES_SHOWN else cores[:_CORES_SHOWN]
    columns = ["core", "layer", "neurons", "neurons used", "synapses", "synaptic bytes", "memory used"]
    console.print("Use of each core")
    console.print(_table(columns, shown))
    if len(shown) < len(cores):
        console.print(f"and {len(cores) - len(shown)} more: report.json has them all\n")

    counts = [
        {
            "operation": name,
            "an image": count,
            "pJ each": f"{PICOJOULES[name]:g}",
            "nJ": report.nanojoules[name],
        }
        for name, count in report.counts.items()
    ]
    counts.append({"operation": "total", "an image": "", "pJ each": "", "nJ": sum(report.nanojoules.values())})
    console.print("Energy by Loihi 1 coefficients (Davies et al. 2018): not Loihi 2, not measured")
    console.print(_table(tuple(counts[0]), counts, last_apart=True))

    metrics = {**report.neurobench, **report.neurobench["Synaptic Operations"]}
    del metrics["Synaptic Operations"]
    console.print("NeuroBench (Yik et al. 2025)")
    console.print(_table(("metric", "value"), [{"metric": k, "value": v} for k, v in metrics.items()]))
    console.print("Assumptions")
    for i, assumption in enumerate(report.assumptions, 1):
        console.print(f"{i}. {assumption.says} [{assumption.source}]", markup=False)


def _table(columns: Sequence[str], rows: Sequence[dict[str, Any]], last_apart: bool = False) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for i, row in enumerate(rows):
        if last_apart and i == len(rows) - 1:
            table.add_section()
        table.add_row(*(_number(row.get(column, "")) for column in columns))
    return table


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:,.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
