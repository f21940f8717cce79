"""The on-line rule in one figure, for docs/online_rule.md.

    python -m lava_meta.experiments.online_figure docs/online.png

Left, what passes between the parts in one time step; middle, the gate; right, one synapse that learns a task, sign +1,
and then sees noise: steps of either sign, as often up as down. With the gate it stays, without it wanders.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from lava_meta.io.files import write_atomically
from lava_meta.online_learning import LayerSettings, OnlineRule
from lava_meta.online_learning.reference import FixedLayer, initial_state
from lava_meta.plotting.figure import Figure
from lava_meta.plotting.figures import STYLE
from lava_meta.plotting.palette import BLACK, BLUE, GREEN, VERMILION
from lava_meta.rule import Consolidation, Constant, Linear, Quadratic

_TASK, _NOISE, _LANES = 1500, 8000, 40  # images, images, synapses
_BOX = {"boxstyle": "round", "fc": "0.94", "ec": "0.4", "lw": 0.7}


def draw() -> Figure:
    """The figure."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 2.5), layout="constrained")
        flow, gate, synapse = figure.subplots(1, 3, width_ratios=(1.5, 0.8, 1.2))
        _draw_flow(flow)
        _draw_gate(gate)
        _draw_synapse(synapse)
    return figure


def _draw_flow(axis: Axes) -> None:
    boxes = {"source": (0.0, 1), "hidden layer": (1.15, 1), "readout": (2.3, 1), "errors": (3.3, 1)}
    for name, (x, y) in boxes.items():
        axis.text(x, y, name, ha="center", va="center", bbox=_BOX)
    up = {"color": BLUE, "arrowstyle": "-|>", "lw": 1.2}
    down = {"color": VERMILION, "arrowstyle": "-|>", "lw": 1.2}
    for begin, end, word in ((0.35, 0.62, "x: 0, 1"), (1.68, 1.96, "a: ±1"), (2.65, 2.98, "u")):
        axis.annotate("", (end, 1.07), (begin, 1.07), arrowprops=up)
        axis.text((begin + end) / 2, 1.2, word, color=BLUE, ha="center", fontsize=7)
    for begin, end, word in ((2.98, 2.65, "e"), (1.96, 1.68, "$w^T e$")):
        axis.annotate("", (end, 0.93), (begin, 0.93), arrowprops=down)
        axis.text((begin + end) / 2, 0.72, word, color=VERMILION, ha="center", fontsize=7)
    axis.annotate("", (3.3, 0.85), (0, 0.85), arrowprops={**up, "color": "0.5", "connectionstyle": "bar,fraction=0.22"})
    axis.text(1.65, 0.2, "label", color="0.4", ha="center", fontsize=7)
    lines = (
        "$w=\\mathrm{sign}(h)$,   $a_k=+1$ where $u_k \\geq t_k$,   $t_k=c\\,\\sum_j w_{kj}$",
        "$d_k=$ error where $|u_k-t_k|\\leq\\frac{5}{8}s_k$, less its running mean",
        "$h_{kj} \\leftarrow h_{kj}-\\eta\\,d_k x_j\\cdot f(|h_{kj}|)$ where this shrinks $|h|$, else $\\cdot\\,1$",
    )
    for i, line in enumerate(lines):
        axis.text(1.65, 2.35 - 0.32 * i, line, ha="center", va="center", fontsize=7.5)
    axis.set(xlim=(-0.45, 3.75), ylim=(0, 2.6))
    axis.axis("off")


def _draw_gate(axis: Axes) -> None:
    h = np.linspace(-1, 1, 401)
    for consolidation, colour, style in ((Linear(1.0), BLUE, "-"), (Quadratic(1.0), GREEN, "--")):
        axis.plot(h, consolidation(h), style, color=colour, label=consolidation.kind)
    axis.set(xlabel="hidden weight h / limit", ylabel="share of a shrinking step", ylim=(0, 1.08), title="gate f")
    axis.legend(loc="lower center", fontsize=6)


def _draw_synapse(axis: Axes) -> None:
    images = np.arange(_TASK + _NOISE + 1)
    gates: dict[str, tuple[Consolidation, str]] = {"with the gate": (Linear(1.0), BLUE), "without": (Constant(), BLACK)}
    for label, (consolidation, colour) in gates.items():
        paths = _paths(consolidation)
        axis.plot(images, paths[:, ::8], color=colour, lw=0.4, alpha=0.5)
        flipped = f"{label}: {100 * (paths[-1] < 0).mean():.0f} % flipped"
        axis.plot(images, paths.mean(axis=1), color=colour, label=flipped)
    axis.axhline(0, color="0.3", lw=0.6)
    axis.axvspan(0, _TASK, color="0.5", alpha=0.12, lw=0)
    axis.set(xlabel="images", ylabel="h (levels)", title="8-bit synapses: a task, then noise", xlim=(0, len(images)))
    axis.legend(loc="lower left", fontsize=6)


def _paths(consolidation: Consolidation) -> np.ndarray:
    """Levels (images + 1, synapses): errors of one sign for a task, then of both, by the integer rule itself."""
    rule = OnlineRule(lr=0.02, consolidation=consolidation, readout_limit=1.0)
    settings = LayerSettings(1, _LANES, readout=True, rule=rule, seed=1)
    state = initial_state(settings, np.random.default_rng(0))
    layer = FixedLayer(settings, state)
    generator = np.random.default_rng(1)
    paths = [state["hidden"][0].copy()]
    for image in range(_TASK + _NOISE):
        error = generator.normal(-6 if image < _TASK else 0, 60, _LANES)
        layer.forward(np.ones((1, 1), np.int8))
        layer.backward(np.clip(np.rint(error), -127, 127)[None, :].astype(np.int32), pass_down=False)
        paths.append(state["hidden"][0].copy())
    return np.array(paths)


def main() -> None:
    """Write the figure to the path that was given."""
    with write_atomically(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/online.png")) as file:
        draw().savefig(file, format="png", dpi=115)


if __name__ == "__main__":
    main()
