"""A report as text: what `print(report)` shows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from lava_meta import html
from lava_meta.loihi.cost.energy import PICOJOULES
from lava_meta.loihi.cost.record import Record, named

WIDTH = 118
_CORES_SHOWN = 24
_ENERGY_TITLE = "Energy by Loihi 1 coefficients (Davies et al. 2018): not Loihi 2, not measured"
_ENERGY = ("operation", "per image", "pJ each", "nJ")


def as_text(report: Record) -> str:
    """Plain text of `WIDTH` columns."""
    out = io.StringIO()
    console = Console(file=out, width=WIDTH, color_system=None, highlight=False)
    show(report, console)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def node_table(rows: Sequence[Any]) -> str:
    """Nodes of a network of any form, a row each; those without a stock form are marked."""
    out = io.StringIO()
    console = Console(file=out, width=WIDTH, color_system=None, highlight=False)
    shown = [{**named(row), "stock form": "yes" if row.stock_form == "yes" else "no"} for row in rows]
    columns = ("node", "kind", "units", "synapses", "weight bits", "state bits", "operations", "stock form")
    console.print(_table(columns, shown))
    return "\n".join(line.rstrip() for line in out.getvalue().strip("\n").splitlines())


def as_html(report: Record) -> str:
    """Layers and energy, as a notebook shows them; the text has all."""
    rows = [*map(named, report.layers), {**named(report.totals), "layer": "total"}]
    learning = report.totals.synaptic_updates is not None
    parts = [(title, columns, rows) for title, columns in _layer_tables(learning=learning)]
    parts.append((_ENERGY_TITLE, list(_ENERGY), _energy_rows(report)))
    head = f"<p>Resources on {report.chip.name}, counted on {report.images:,} images. Not verified on a chip.</p>"
    return head + "".join(
        html.table(columns, [[row.get(column, "") for column in columns] for row in rows], title)
        for title, columns, rows in parts
    )


def show(report: Record, console: Console) -> None:
    """Print `report` on `console`."""
    totals, chip = report.totals, report.chip
    console.print(f"Resources on {chip.name}, counted on {report.images:,} images. Not verified on a chip.\n")
    rows = [*map(named, report.layers), {**named(totals), "layer": "total"}]
    for title, columns in _layer_tables(learning=totals.synaptic_updates is not None):
        console.print(title)
        console.print(_table(columns, rows, last_apart=True))
    fit = f"{len(report.cores)} cores of {chip.cores}" if report.chips == 1 else f"{len(report.cores)} cores"
    need = "one chip" if report.chips == 1 else f"{report.chips} chips: more than one chip holds"
    console.print(
        f"needs {fit}, {need}; latency {totals.latency_in_steps} time steps; "
        f"{totals.neuron_updates:,} neuron updates per image\n"
    )
    _show_cores(report, console)
    console.print(_ENERGY_TITLE)
    console.print(_table(_ENERGY, _energy_rows(report), last_apart=True))
    metrics = {**report.neurobench, **report.neurobench["Synaptic Operations"]}
    del metrics["Synaptic Operations"]
    console.print("NeuroBench (Yik et al. 2025)")
    console.print(_table(("metric", "value"), [{"metric": k, "value": v} for k, v in metrics.items()]))
    console.print("Assumptions")
    for i, assumption in enumerate(report.assumptions, 1):
        console.print(f"{i}. {assumption.says} [{assumption.source}]", markup=False)


def _layer_tables(*, learning: bool) -> list[tuple[str, list[str]]]:
    """Title and columns of the tables of layers."""
    memory = ["layer", "neurons", "synapses", "synaptic bytes"]
    tables = [("Means per image", [*memory, "spikes in", "spikes sent", "synaptic operations", "cores"])]
    if learning:
        added = ["layer", "tag bytes", "trace bytes", "synaptic updates"]
        tables.append(("What learning adds (tags are part of the synaptic bytes above)", added))
    return tables


def _show_cores(report: Record, console: Console) -> None:
    rows = [
        {
            **named(row),
            "neurons used": f"{row.neurons_used:.1%}",
            "memory used": f"{row.synaptic_memory_used:.1%}",
        }
        for row in report.core_rows()
    ]
    shown = rows if len(rows) <= _CORES_SHOWN else rows[:_CORES_SHOWN]
    columns = ["core", "layer", "neurons", "neurons used", "synapses", "synaptic bytes", "memory used"]
    console.print("Use of each core")
    console.print(_table(columns, shown))
    if len(shown) < len(rows):
        console.print(f"and {len(rows) - len(shown)} more: report.json has them all\n")


def _energy_rows(report: Record) -> list[dict[str, Any]]:
    each, nanojoules = named(PICOJOULES), named(report.nanojoules)
    rows = [
        {"operation": name, "per image": count, "pJ each": f"{each[name]:g}", "nJ": nanojoules[name]}
        for name, count in named(report.counts).items()
    ]
    return [*rows, {"operation": "total", "per image": "", "pJ each": "", "nJ": report.nanojoules.total}]


def _table(columns: Sequence[str], rows: Sequence[dict[str, Any]], *, last_apart: bool = False) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for i, row in enumerate(rows):
        if last_apart and i == len(rows) - 1:
            table.add_section()
        table.add_row(*(html.number(row.get(column, "")) for column in columns))
    return table
