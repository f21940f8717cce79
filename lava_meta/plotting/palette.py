"""Colours and marks of figures: what a reader must distinguish differs in both, for colour-blind readers too.

A rule has one colour and one mark in every figure; the values of `m` of one figure are shades of one blue, which a
colour-blind reader sees as lighter and darker. Ordered things (tasks, widths, layers) are steps of one scale from dark
to light.

Source: the first colours are those of Okabe and Ito, Color Universal Design, 2008, without yellow, which white paper
swallows; the others were chosen to stay apart from them (tests/test_palette.py measures it).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import cycle, islice
from typing import Any

import matplotlib as mpl
import numpy as np

BLUE, BLACK, VERMILION, GREEN, ORANGE, PURPLE = "#0072B2", "#000000", "#D55E00", "#009E73", "#E69F00", "#CC79A7"
PALETTE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, BLACK, "#772200", "#5A00A0", "#99DD88", "#7766FF", "#225555")
MARKERS = ("s", "^", "v", "D", "P", "o", "X", "<", "*", ">", "p")  # of the colours, in their order
METAPLASTIC, PLAIN = "metaplastic", "plain"

# The colour of a rule, by its place in PALETTE.
_PLACE = {
    METAPLASTIC: 0,
    "random": 1,
    "si": 2,
    "ewc": 3,
    "replay": 4,
    PLAIN: 5,
    "together": 6,
    "probabilistic": 7,
    "beakers": 8,
    "real": 9,
    "real, plain": 10,
}
_SHADES = ((0.56, 0.82, 1.0), mpl.colors.to_rgb(BLUE), (0.0, 0.10, 0.30))  # from a small m to a large one
_SHADE_MARKERS = "sdh8pH"
_TASK_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")


def arm_styles(labels: Iterable[str]) -> dict[str, dict[str, Any]]:
    """`color` and `marker` of each arm of a figure, as matplotlib takes them; no two arms share either.

    An arm that names a rule ("ewc", "m = 8", "plain (m = 0)", "beakers, m = 4") has the rule's own; several of the
    metaplastic rule are shades in the order of their `m`; whatever else is there takes what is left, in order.
    With more arms than colours (11) their marks distinguish them.
    """
    labels = list(dict.fromkeys(labels))
    rules = {label: _rule(label) for label in labels}
    gated = sorted((label for label in labels if rules[label] == METAPLASTIC), key=_m)
    styles = _shades(gated)
    free = list(range(len(PALETTE)))
    for rule in set(rules.values()) - {None}:
        free.remove(_PLACE[rule])  # type: ignore[index]
    taken = set()
    more = cycle(free or range(len(PALETTE)))
    for label in labels:
        rule = rules[label]
        if rule == METAPLASTIC:
            continue
        own = rule is not None and rule not in taken
        place = _PLACE[rule] if own else next(more)  # type: ignore[index]
        taken.add(rule)
        styles[label] = {"color": PALETTE[place], "marker": MARKERS[place]}
    for i, label in enumerate(labels[len(PALETTE) :]):  # colours come again: the marks differ
        if label not in gated:
            styles[label]["marker"] = f"${i + 1}$"
    return {label: styles[label] for label in labels}


def task_styles(count: int) -> list[dict[str, Any]]:
    """`color` and `marker` of tasks 1 to `count`: a scale from dark to light, and a mark each."""
    return [
        {"color": colour, "marker": marker}
        for colour, marker in zip(steps(count), islice(cycle(_TASK_MARKERS), count), strict=True)
    ]


def steps(count: int) -> list[tuple[float, ...]]:
    """Colours of `count` ordered things, from dark to light."""
    return [tuple(colour) for colour in mpl.colormaps["viridis"](np.linspace(0.0, 0.88, count))]


def _rule(label: str) -> str | None:
    """The rule that a label names; None for a label of its own."""
    if label in _PLACE:
        return label
    if (found := re.fullmatch(r"m = ([\d.e+-]+)", label)) is not None:
        return METAPLASTIC if float(found[1]) > 0 else PLAIN
    found = re.fullmatch(r"([a-z]+)(?:, m = [\d.e+-]+| \(m = [\d.e+-]+\))", label)
    return found[1] if found is not None and found[1] in _PLACE else None


def _m(label: str) -> float:
    found = re.search(r"m = ([\d.e+-]+)", label)
    return float(found[1]) if found else 0.0


def _shades(labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    if len(labels) < 2:
        return {label: {"color": PALETTE[0], "marker": MARKERS[0]} for label in labels}
    places = np.linspace(0, 2, len(labels))
    shades = [_shade(place) for place in places]
    marks = islice(cycle(_SHADE_MARKERS), len(labels))
    return {label: {"color": shade, "marker": mark} for label, shade, mark in zip(labels, shades, marks, strict=True)}


def _shade(place: float) -> str:
    """0 is the lightest of the shades, 2 the darkest."""
    red, green, blue = (float(np.interp(place, (0, 1, 2), channel)) for channel in zip(*_SHADES, strict=True))
    return mpl.colors.to_hex((red, green, blue))
