"""The picture of a report: how full each core is, and where the operations and the energy are."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np

from lava_meta.loihi.cost.record import Record, named
from lava_meta.plotting.figure import Figure
from lava_meta.plotting.figures import STYLE


def draw(report: Record) -> Figure:
    """Three panels: utilisation per core, operations per layer, energy by kind of operation."""
    layers = [row.layer for row in report.layers]
    colours = dict(zip(layers, mpl.colormaps["viridis"](np.linspace(0, 0.85, len(layers))), strict=True))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 2.9), layout="constrained")
        cores, work, energy = figure.subplots(1, 3, width_ratios=[1.5, 1, 1.2])
        rows = report.core_rows()
        place = np.arange(len(rows))
        memory = [100 * row.synaptic_memory_used for row in rows]
        neurons = [100 * row.neurons_used for row in rows]
        cores.bar(place, memory, width=0.85, color=[colours[row.layer] for row in rows])
        (dots,) = cores.plot(place, neurons, "D", color="k", markersize=max(1.5, min(4, 100 / len(rows))))
        cores.set(xlabel="core", ylabel="share of the core's limit (%)", ylim=(0, 105), title="Use of each core")
        cores.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
        figure.legend(
            handles=[*(mpl.patches.Patch(color=colour) for colour in colours.values()), dots],
            labels=[*(f"synaptic memory, {name}" for name in colours), "neurons"],
            loc="outside lower left",
            ncols=min(5, len(layers) + 1),
        )
        operations = [row.synaptic_operations / 1000 for row in report.layers]
        bars = work.barh(layers, operations, color=[colours[name] for name in layers])
        work.bar_label(bars, [_short(value) for value in operations], padding=2, fontsize=6)
        work.set(xlabel="thousand operations per image", title="Synaptic operations")
        work.margins(x=0.25)
        work.invert_yaxis()
        kinds = {name: value for name, value in named(report.nanojoules).items() if value}
        bars = energy.barh(list(kinds), list(kinds.values()), color="0.6")
        energy.bar_label(bars, [_short(value) for value in kinds.values()], padding=2, fontsize=6)
        energy.set(xlabel="nJ per image, by Loihi 1 coefficients", title="Energy", xscale="log")
        energy.set_xlim(min(kinds.values()) / 10, max(kinds.values()) * 30)
        energy.invert_yaxis()
    return figure


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
