"""The picture of a report on nodes: where the operations are, and whose integers a chip does not hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl

from lava_meta.loihi.stock.limits import STATE
from lava_meta.plotting.figure import Figure
from lava_meta.plotting.figures import STYLE
from lava_meta.plotting.palette import BLUE, VERMILION

_ROW = 0.16  # inches


def draw_nodes(rows: Sequence[Any]) -> Figure:
    """Operations per image and bits of the integers, a bar per node; nodes without a stock form in another colour."""
    names = [row.node for row in rows]
    colours = [BLUE if row.stock_form == "yes" else VERMILION for row in rows]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 1.1 + _ROW * len(rows)), layout="constrained")
        work, state = figure.subplots(1, 2, sharey=True)
        work.barh(names, [row.operations / 1000 for row in rows], color=colours)
        work.set(xlabel="thousand operations per image", title="Operations")
        work.margins(y=0.01)
        work.invert_yaxis()
        state.barh(names, [row.state_bits for row in rows], color=colours)
        state.axvline(STATE.bit_length() + 1, color="k", linewidth=0.8, linestyle=":")
        state.set(xlabel="bits of its integers (dotted: a neuron's state)", title="Integers")
        patches = [mpl.patches.Patch(color=colour) for colour in (BLUE, VERMILION)]
        figure.legend(patches, ["stock form", "no stock form"], loc="outside lower center", ncols=2)
    return figure
