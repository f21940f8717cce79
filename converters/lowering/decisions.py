"""Tests of the images' values in a model's own code, which are allowed where bounds prove how they always go.

`if x.max() > 1:` behind a Hardtanh is never true: the branch that the recorded run took is the one that every image
takes. The values' bounds follow from the integers that the nodes can reach; what they leave open is refused.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lava_meta.converters.functions.elementwise import Function
from lava_meta.converters.functions.expressions import Expr, Fed, Leaf, leaf_of, replaced
from lava_meta.converters.recording.operations import Decision
from lava_meta.converters.recording.steps import Ref, Step
from lava_meta.errors import ConversionError

Range = tuple[float, float]

_GREATEST = sys.float_info.max


def _of_product(a: Range, b: Range) -> Range:
    ends = [0.0 if 0 in (x, y) else x * y for x in a for y in b]
    return min(ends), max(ends)


_SAME = {
    *("max", "min", "amax", "amin", "any", "all", "detach", "clone", "alias", "view", "reshape", "_unsafe_view"),
    *("flatten", "permute", "transpose", "t", "select", "slice", "squeeze", "unsqueeze", "expand", "index", "_to_copy"),
}
_ALWAYS = {"isnan": 0.0, "isinf": 0.0, "isfinite": 1.0}  # of values that have bounds
_COMPARED: dict[str, Callable[[Range, Range], Range]] = {
    "gt": lambda a, b: (float(a[0] > b[1]), float(a[1] > b[0])),
    "ge": lambda a, b: (float(a[0] >= b[1]), float(a[1] >= b[0])),
    "lt": lambda a, b: (float(a[1] < b[0]), float(a[0] < b[1])),
    "le": lambda a, b: (float(a[1] <= b[0]), float(a[0] <= b[1])),
    "eq": lambda a, b: (float(a[0] == a[1] == b[0] == b[1]), float(a[0] <= b[1] and b[0] <= a[1])),
    "ne": lambda a, b: (float(a[0] > b[1] or b[0] > a[1]), float(not a[0] == a[1] == b[0] == b[1])),
    "logical_and": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "bitwise_and": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "mul": _of_product,
    "logical_or": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    "bitwise_or": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
}
_OF_ONE: dict[str, Callable[[Range], Range]] = {
    "neg": lambda a: (-a[1], -a[0]),
    "abs": lambda a: (max(a[0], -a[1], 0.0), max(abs(a[0]), abs(a[1]))),
    "logical_not": lambda a: (1.0 - a[1], 1.0 - a[0]),
    "bitwise_not": lambda a: (1.0 - a[1], 1.0 - a[0]),
}


def check_decisions(
    decisions: list[Decision],
    made_by: dict[int, tuple[Step, int]],
    known: Callable[[Ref], Expr | Tensor | None],
    is_idle: Callable[[Decision], bool],
) -> None:
    """Prove that every test goes as it went in the recorded run.

    Args:
        decisions: of the run.
        made_by: by the number of a value, the step that made it.
        is_idle: whether nothing follows from how a test goes, asked where it is not proven.
        known: the function of a node's integers that a value is, or a constant; None if it is neither.

    Raises:
        ConversionError: naming file, line and bounds of a test that they do not decide.
    """
    for decision in decisions:
        low, high = _range(decision.value, made_by, known)
        if not low == high == float(decision.outcome) and not is_idle(decision):
            step = made_by[decision.value.number][0]
            taken = [_range(ref, made_by, known) for ref in step.refs]
            bounds = ", ".join(f"{a:g} to {b:g}" for a, b in taken)
            raise ConversionError(
                f"{decision.place} asks for values of the images, and their bounds ({bounds}) do not decide how the "
                "test goes: what follows depends on the image, and a network of integers has no branches. Use "
                "torch.where, or tests of shapes"
            )


def _range(ref: Any, made_by: dict[int, tuple[Step, int]], known: Callable[[Ref], Expr | Tensor | None]) -> Range:
    """Bounds of all elements of a value, for all images."""
    if not isinstance(ref, Ref):
        numbers = torch.as_tensor(ref, dtype=torch.float64)
        return float(numbers.min()), float(numbers.max())
    found = known(ref)
    if isinstance(found, Tensor):
        return _range(found, made_by, known)
    step, place = made_by.get(ref.number, (None, 0))
    if step is not None and step.name in ("eq", "ne") and step.args[0] == step.args[1]:  # as x == x asks for NaN
        low, high = _range(step.args[0], made_by, known)
        if math.isfinite(low) and math.isfinite(high):
            return (1.0, 1.0) if step.name == "eq" else (0.0, 0.0)
    low, high = (None if found is None else _of_function(found)) or (-math.inf, math.inf)
    if low < high and step is not None and step.name in {*_ALWAYS, *_SAME, *_COMPARED, *_OF_ONE}:
        two = step.name in _COMPARED
        own = _of_step(step, place, [_range(part, made_by, known) for part in step.args[: 2 if two else 1]])
        low, high = max(low, own[0]), min(high, own[1])
    if found is not None and not (math.isfinite(low) and math.isfinite(high)) and _is_finite(found):
        low, high = max(low, -_GREATEST), min(high, _GREATEST)
    return low, high


def _of_step(step: Step, place: int, values: list[Range]) -> Range:
    """Bounds of what a step gives, from those of what it takes."""
    if step.name in _ALWAYS and math.isfinite(values[0][0]) and math.isfinite(values[0][1]):
        return _ALWAYS[step.name], _ALWAYS[step.name]
    if step.name in _SAME and place == 0:
        return values[0]
    if step.name in _COMPARED:
        return _COMPARED[step.name](values[0], values[1])
    return _OF_ONE[step.name](values[0]) if step.name in _OF_ONE else (-math.inf, math.inf)


def _is_finite(found: Expr) -> bool:
    """Whether a function of integers is a number for all of them, as far as conversion itself looks."""
    try:
        Function(found).form()
    except ValueError:
        return False
    return True


def _of_function(expr: Expr) -> Range | None:
    """Bounds of a function of integers, if known; the model's own values may lie `slack` to either side."""
    leaf = leaf_of(expr)[0]
    ends: list[float] = []
    slack = 0.0 if isinstance(leaf, Fed) else leaf.slack.proven
    for moved in {-slack, 0.0, slack}:  # between, as equality may hold there alone
        own = Leaf(leaf.source, leaf.gain, leaf.constant + moved) if moved else leaf
        bounds = Function(own if expr is leaf else replaced(expr, leaf, own)).bounds()
        if bounds is None:
            return None
        ends += [*bounds]
    return min(ends), max(ends)
