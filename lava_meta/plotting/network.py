"""A picture of a network: of a `BinaryGraph` its layers with their sizes, and where their thresholds lie.

Of any other network it is drawn by `lava_meta.plotting.graph`.
"""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Polygon, Rectangle

from lava_meta.graph import AcyclicGraph, BinaryGraph, Graph
from lava_meta.graph.conv import ConvLayer
from lava_meta.graph.dense import DenseLayer
from lava_meta.graph.description import kind, short, spread
from lava_meta.io.files import write_atomically
from lava_meta.plotting.figure import Figure
from lava_meta.plotting.figures import STYLE
from lava_meta.plotting.graph import draw_graph
from lava_meta.plotting.palette import BLUE, VERMILION

_COLUMN = 1.5  # inches
_INPUT, _HIDDEN, _READOUT = "0.55", BLUE, VERMILION
_PLANES = 4  # of a map, at most


def picture(graph: Graph) -> Figure:
    """The network drawn, in the form that suits it: a chain as below, any other as `lava_meta.plotting.graph`."""
    return draw_graph(graph) if isinstance(graph, AcyclicGraph) else _chain(graph)


def _chain(graph: BinaryGraph) -> Figure:
    """Layers from the inputs to the classes, and under each hidden layer a histogram of its thresholds.

    The shades between layers show how many synapses lie there, on a logarithmic scale.
    """
    layers = graph.named_layers()
    columns = len(layers) + 1
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(4.0, _COLUMN * columns), 3.6))
        axis = figure.add_axes((0, 0.36, 1, 0.6))
        axis.set(xlim=(0, columns), ylim=(-0.95, 1.2))
        axis.axis("off")
        heights = _heights(graph)
        edges = [_draw(axis, 0, graph.input_shape, heights[0], _INPUT)]
        axis.text(0.5, 1.12, "input", ha="center", weight="bold")
        _note(axis, 0, [_shape(graph.input_shape), graph.domain.replace("integers ", "integers\n")])
        for place, ((name, layer), row) in enumerate(zip(layers, graph.summary(), strict=True), 1):
            colour = _READOUT if place == columns - 1 else _HIDDEN
            edges.append(_draw(axis, place, layer.output_shape, heights[place], colour))
            _join(axis, edges[-2], edges[-1], row["synapses"])
            axis.text(place + 0.5, 1.12, name, ha="center", weight="bold")
            words = kind(layer).replace(", ", "\n", 1)
            _note(
                axis,
                place,
                [_shape(layer.output_shape), words, f"{row['synapses']:,} synapses", short(row["bits"] / 8, "B")],
            )
            if spread(layer):
                below = figure.add_axes(((place + 0.12) / columns, 0.17, 0.76 / columns, 0.17))
                levels = graph.first_levels if place == 1 else None
                _thresholds(below, layer, max(map(abs, levels)) if levels else 1, colour)
        rows = graph.summary()
        synapses, stored = (sum(row[key] for row in rows) for key in ("synapses", "bits"))
        total = f"{synapses:,} binary synapses; {short(stored / 8, 'B')} with thresholds"
        figure.text(0.5, 0.02, total, ha="center", fontsize=6.5, color="0.3")
    return figure


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write `figure` in the format of the path's ending, whole or not at all. Raises `ValueError` for other endings."""
    ending = Path(path).suffix[1:].lower()
    if ending not in ("png", "pdf", "svg"):
        raise ValueError(f"a picture is a .png, .pdf or .svg file; got {os.fspath(path)!r}")
    # No date: equal networks give equal files.
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(ending)
    with write_atomically(path) as file, mpl.rc_context({**STYLE, "svg.hashsalt": "lava_meta"}):
        figure.savefig(file, format=ending, metadata=metadata)


def _heights(graph: BinaryGraph) -> list[float]:
    """0.3 .. 1, on a logarithmic scale of units; of maps the square root of their places."""
    shapes = [graph.input_shape, *(layer.output_shape for _, layer in graph.named_layers())]
    counts = np.log([max(2.0, np.prod(shape[-2:]) ** 0.5 if len(shape) == 3 else shape[0] ** 0.5) for shape in shapes])
    sizes: list[float] = (0.3 + 0.7 * counts / counts.max()).tolist()
    return sizes


def _draw(axis: Axes, place: int, shape: tuple[int, ...], height: float, colour: str) -> tuple[float, float, float]:
    """One layer around the middle of its column; returns its left and right edges and its height."""
    centre = place + 0.5
    if len(shape) != 3:
        width = 0.13
        box = FancyBboxPatch(
            (centre - width / 2, 0.45 - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.06"
        )
        box.set(facecolor=colour, edgecolor="none", alpha=0.9)
        axis.add_patch(box)
        return centre - width / 2, centre + width / 2, height
    planes = min(shape[0], _PLANES)
    width, step = 0.38 * height, 0.05
    left = centre - (width + step * (planes - 1)) / 2
    for plane in reversed(range(planes)):
        corner = (left + step * plane, 0.45 - height / 2 * 0.8 + 0.04 * plane)
        axis.add_patch(Rectangle(corner, width, height * 0.8, facecolor=colour, edgecolor="w", linewidth=0.8))
    return left, left + width + step * (planes - 1), height * 0.8


def _join(axis: Axes, before: tuple[float, ...], after: tuple[float, ...], synapses: int) -> None:
    shade = min(0.3, 0.03 + 0.035 * np.log10(synapses))
    x, y = (before[1] + 0.03, after[0] - 0.03), (before[2] / 2, after[2] / 2)
    corners = [(x[0], 0.45 + y[0]), (x[1], 0.45 + y[1]), (x[1], 0.45 - y[1]), (x[0], 0.45 - y[0])]
    axis.add_patch(Polygon(corners, facecolor="0.2", alpha=shade, edgecolor="none"))


def _note(axis: Axes, place: int, lines: list[str]) -> None:
    axis.text(place + 0.5, -0.14, "\n".join(lines), ha="center", va="top", fontsize=6.5, linespacing=1.35)


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(f"{extent:,}" for extent in shape)


def _thresholds(axis: Axes, layer: DenseLayer | ConvLayer, largest: int, colour: str) -> None:
    """A histogram; `largest` is the greatest input."""
    # Constant units have thresholds beyond every sum, which would press all others into one bar.
    terms = layer.most_terms if isinstance(layer, ConvLayer) else layer.n_in * (2 * layer.n_out if layer.centred else 1)
    values = layer.threshold[np.abs(layer.threshold) <= terms * largest].astype(np.float64)
    found = np.unique(values)
    if found.size < 2:
        same = [f"all thresholds {int(value)}" for value in found]
        words = " or ".join(same + ["constant units"] * (values.size < layer.threshold.size))
        axis.axis("off")
        axis.text(0.5, 0.5, words, ha="center", va="center", fontsize=6.5)
        return
    axis.hist(values, bins=31, color=colour)
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.tick_params(labelsize=6)
    axis.locator_params(axis="x", nbins=3, integer=True)
    axis.set_xlabel("thresholds", fontsize=6.5)
