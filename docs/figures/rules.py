"""Draws rules.png of docs/rules.md: python docs/figures/rules.py"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from torch import nn

from lava_meta.nn import BinaryLinear
from lava_meta.optim import MetaplasticSGD
from lava_meta.plotting.figures import STYLE
from lava_meta.plotting.palette import BLACK, BLUE, GREEN, ORANGE, PALETTE, VERMILION
from lava_meta.rule import Consolidation, Constant, Exponential, Linear, Quadratic, Table, Tanh2
from lava_meta.training.methods import Beakers, Levels, Method

FUNCTIONS: dict[str, Consolidation] = {
    "Tanh2(2)": Tanh2(2.0),
    "Exponential(2)": Exponential(2.0),
    "Linear(0.9)": Linear(0.9),
    "Quadratic(0.65)": Quadratic(0.65),
    "Table, of a device": Table((0.0, 0.2, 0.5, 0.9, 1.3), (1.0, 0.9, 0.45, 0.2, 0.12)),
    "Constant()": Constant(),
}
RULES: dict[str, tuple[Consolidation, Method | None]] = {
    "plain": (Constant(), None),
    "Tanh2(0.8)": (Tanh2(0.8), None),
    "Tanh2(2)": (Tanh2(2.0), None),
    "Levels(4), Exponential(1)": (Exponential(1.0), Levels(4, limit=1.5)),
    "Beakers": (Constant(), Beakers(pipes=(0.04, 0.02, 0.01), areas=(1.0, 1.5, 2.0))),
}
STEPS, LR = 60, 0.02
# A function has one look in both panels: the plain rule is that of Constant(), and so on.
LOOKS = {
    "Tanh2(2)": (BLUE, "-"),
    "Exponential(2)": (PALETTE[7], "--"),
    "Linear(0.9)": (VERMILION, "-."),
    "Quadratic(0.65)": (GREEN, (0, (5, 1))),
    "Table, of a device": (ORANGE, (0, (3, 1, 1, 1, 1, 1))),
    "Constant()": (BLACK, ":"),
    "plain": (BLACK, ":"),
    "Tanh2(0.8)": ("#8FD1FF", "-"),
    "Levels(4), Exponential(1)": (PALETTE[7], "--"),
    "Beakers": (PALETTE[8], "-."),
}


def main() -> None:
    """Left: the functions. Right: one synapse pushed one way for 60 steps, then for 120 the other way."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 2.6), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=[1, 1.2])
        h = torch.linspace(0, 1.8, 181)
        for name, f in FUNCTIONS.items():
            left.plot(h, f(h), color=LOOKS[name][0], linestyle=LOOKS[name][1], label=name)
        left.set(
            xlabel="size of the hidden weight, abs(h)",
            ylabel="share f(h) of a shrinking step",
            xlim=(0, 1.8),
            ylim=(0, 1.05),
        )
        left.legend(loc="upper right", bbox_to_anchor=(1.0, 0.95))
        for name, (f, method) in RULES.items():
            right.plot(pushed(f, method), color=LOOKS[name][0], linestyle=LOOKS[name][1], label=name)
        right.axhline(0, color="0.5", linewidth=0.7, linestyle=":")
        right.axvline(STEPS, color="0.5", linewidth=0.7, linestyle=":")
        right.set(xlabel="step: pushed up, then down", ylabel="hidden weight h", xlim=(0, 3 * STEPS))
        right.legend(loc="lower left")
        figure.savefig(Path(__file__).with_suffix(".png"), dpi=160)


def pushed(f: Consolidation, method: Method | None) -> list[float]:
    """The hidden weight of a single synapse over the steps."""
    torch.manual_seed(0)
    model = nn.Sequential(BinaryLinear(1, 1))
    weight = next(model.parameters())
    with torch.no_grad():
        weight.fill_(0.0)
    optimizer = MetaplasticSGD([weight], lr=LR, consolidation=f)
    hooks = method.start(model) if method is not None else None
    path = [weight.item()]
    for step in range(3 * STEPS):
        weight.grad = torch.full_like(weight, -1.0 if step < STEPS else 1.0)
        optimizer.step()
        if hooks is not None:
            hooks.stepped()
        path.append(weight.item())
    return path


if __name__ == "__main__":
    main()
