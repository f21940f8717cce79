"""A picture of an `AcyclicGraph`: a row per node, from the input down to the classes, with its branches and joins.

A node's value runs down in its own track until the last node that takes it. On the right stands what the node is, the
shape of its integers, its synapses and its memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from lava_meta.graph.acyclic import INPUT, READOUT, AcyclicGraph
from lava_meta.graph.description import node_words, short
from lava_meta.graph.nodes import Conv, Linear, Node
from lava_meta.plotting.figure import Figure
from lava_meta.plotting.figures import STYLE
from lava_meta.plotting.palette import BLUE, GREEN, ORANGE, VERMILION

_ROW, _TRACK, _TEXT = 0.2, 0.2, 5.6  # inches
_ENDS, _MOVES = "0.25", "0.7"
_WORDS = {
    BLUE: "binary weights",
    VERMILION: "wide weights",
    GREEN: "thresholds",
    ORANGE: "sums, joins, streams",
    _MOVES: "moves",
    _ENDS: "input, readout",
}
_COLUMNS = (0.0, 2.0, 3.55, 4.85, 5.5)  # inches: name, kind, shape, synapses, memory


def draw_graph(graph: AcyclicGraph) -> Figure:
    """The figure; its height follows the number of nodes."""
    sources: dict[str, tuple[str, ...]] = {
        INPUT: (),
        **{name: node.sources for name, node in graph.nodes.items()},
        READOUT: (graph.output,),
    }
    tracks = tracks_of(sources)
    rows = {name: row for row, name in enumerate(sources)}
    width, height = _TRACK * (max(tracks.values()) + 2) + _TEXT, _ROW * (len(rows) + 3.2)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        axis = figure.add_axes((0, 0, 1, 1))
        axis.set(xlim=(-0.15, width - 0.15), ylim=(height - 0.2, -2.2 * _ROW))
        axis.axis("off")
        for name, taken in sources.items():
            for source in dict.fromkeys(taken):
                _join(axis, (tracks[source], rows[source]), (tracks[name], rows[name]))
        left = _TRACK * (max(tracks.values()) + 1.2)
        _write(axis, left, -1.2, ("node", "", "integers", "synapses", "memory"), weight="bold")
        summary = {row["layer"]: row for row in graph.summary()}
        for name, row in rows.items():
            node = graph.nodes.get(name)
            colour = _colour(node)
            axis.plot(_TRACK * tracks[name], _ROW * row, _marker(node), color=colour, markersize=6, zorder=3)
            shape = graph.input_shape if node is None else graph.placed[name].output_shape
            kind, numbers = graph.domain, ("", "")
            if name != INPUT:
                shape = (graph.n_out,) if name == READOUT else shape
                kind = "scale, offset" if node is None else node_words(node)
                found = summary[name]
                numbers = (
                    f"{found['synapses']:,}" if found["synapses"] else "",
                    short(found["bits"] / 8, "B") if found["bits"] else "",
                )
            _write(axis, left, row, (_cut(name, 30), _cut(kind, 28), "×".join(map(str, shape)), *numbers))
        synapses, bits = (sum(row[key] for row in summary.values()) for key in ("synapses", "bits"))
        total = f"{synapses:,} synapses; {short(bits / 8, 'B')} with thresholds and curves"
        axis.text(left, _ROW * (len(rows) + 0.3), total, fontsize=6.5, color="0.3", va="center")
        used = {_colour(graph.nodes.get(name)) for name in rows}
        words = {colour: text for colour, text in _WORDS.items() if colour in used}
        handles = [Line2D([], [], marker="o", linestyle="", color=colour, markersize=4) for colour in words]
        axis.legend(handles, words.values(), loc="lower left", ncols=len(words), fontsize=6, frameon=False)
    return figure


def tracks_of(sources: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """The track of each value: that of a source that ends here, else the first that is free."""
    last = {source: name for name, taken in sources.items() for source in taken}
    found: dict[str, int] = {}
    busy: dict[int, str] = {}  # the value that runs in a track
    for name, taken in sources.items():
        ending = [found[source] for source in dict.fromkeys(taken) if last[source] == name]
        track = min(ending, default=next(i for i in range(len(busy) + 1) if i not in busy))
        for free in ending:
            del busy[free]
        found[name] = track
        if name in last:
            busy[track] = name
    return found


def _join(axis: Axes, start: tuple[int, int], end: tuple[int, int]) -> None:
    """A line down the track of its beginning, which bends over in the last row."""
    (x0, y0), (x1, y1) = ((_TRACK * track, _ROW * row) for track, row in (start, end))
    bend = y1 - _ROW
    points = [(x0, y0), (x0, bend), (x0, bend + 0.6 * _ROW), (x1, y1 - 0.6 * _ROW), (x1, y1)]
    codes = [Path.MOVETO, Path.LINETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    axis.add_patch(PathPatch(Path(points, codes), facecolor="none", edgecolor="0.45", linewidth=1.1, zorder=1))
    middle = (y1 - 0.42 * _ROW) if x0 == x1 else y1 - 0.3 * _ROW
    axis.plot(x1 if x0 == x1 else x1 + 0.02 * (x0 > x1) - 0.02 * (x0 < x1), middle, "v", color="0.45", markersize=2.5)


def _colour(node: Node | None) -> str:
    if node is None:
        return _ENDS
    if isinstance(node, (Linear, Conv)):
        return BLUE if node.weight.bits_each == 1 else VERMILION
    return {"threshold": GREEN, "gather": _MOVES}.get(node.kind, ORANGE)


def _marker(node: Node | None) -> str:
    """A square for what has weights, a plus for sums, a cross for products, a triangle for joins."""
    if isinstance(node, (Linear, Conv)):
        return "s"
    return {"add": "P", "multiply": "X", "concat": "^", "threshold": "D"}.get("" if node is None else node.kind, "o")


def _write(axis: Axes, left: float, row: float, words: tuple[str, ...], **style: Any) -> None:
    for offset, text, align in zip(_COLUMNS, words, ("left", "left", "left", "right", "right"), strict=True):
        axis.text(left + offset, _ROW * row, text, ha=align, va="center", fontsize=6.5, **style)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
