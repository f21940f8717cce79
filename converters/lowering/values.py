"""Values of a recorded run as functions of a node's integers, moved to other places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lava_meta.converters.functions.expressions import (
    Expr,
    Leaf,
    Source,
    evaluate,
    leaf_of,
)
from lava_meta.converters.functions.forms import Form
from lava_meta.converters.recording.steps import Ref
from lava_meta.graph.nodes import (
    Shape,
)

NO_POWER = -1000.0  # of which float64's power of e is 0


@dataclass(eq=False)
class Value:
    """What a step gave: a function of a node's integers, moved to other places."""

    expr: Expr
    shape: Shape  # of one image
    ref: Ref  # the first value of the run that is this one
    move: NDArray[Any] | None = None  # int64 of `shape`: places among the function's values, -1 for 0
    form: Form | None = None  # once it was asked for
    exact: Leaf | None = None  # the node that holds it, once it was made
    stream: Leaf | None = None  # the same in fixed point
    origin: Value | None = None  # of places that the run does not have: its value that was moved there


@dataclass(frozen=True, eq=False)
class Check:
    """A value of the run that a node holds."""

    step: int  # among the operations of the run
    output: int  # of the step
    leaf: Leaf
    shape: Shape
    levels: bool  # it is decided by thresholds: equal, or tied; else bounded
    function: Expr  # of the node's source
    move: NDArray[Any] | None  # int64 of `shape`: the places of the value's elements in the node, -1 for 0
    order: Order | None = None  # of places: of what


@dataclass(frozen=True, eq=False)
class Order:
    """Values that were put in order."""

    row: Value
    dim: int  # of the tensor of all images


class Cannot(Exception):
    """A step cannot be lowered; the place is added where it is caught."""


class Mixes(Cannot):
    """It mixes images, or moves them to another axis."""


@dataclass(frozen=True, eq=False)
class Total:
    """Of what a node is the sums, means or maxima."""

    terms: Expr
    sizes: Expr | None  # of which the terms are squares or sizes
    sums: NDArray[np.int64]  # by place of the terms: which of them it is in, -1 for none
    share: float  # `(share * total) ** power`, which no term, or no size, exceeds
    power: float


def only_signs(source: Source) -> bool:
    """Whether a node's integers are signs: -1 and +1, and no 0 between."""
    return source.step == 2 and bool((source.low == -1).all() and (source.high == 1).all())


def unit_of(leaf: Leaf) -> float:
    """What one is to a leaf of one gain."""
    return float(leaf.gain.reshape(-1)[0])


def unseen(ref: Ref) -> Ref:
    """A value of this shape that the model does not have."""
    return Ref(-1, ref.shape)


def gives_bits(expr: Expr) -> bool:
    """Whether a function gives true and false."""
    if isinstance(expr, Leaf):
        return False
    source = leaf_of(expr)[0].source
    least = np.broadcast_to(source.low, source.shape)[None]
    return evaluate(expr, leaf_of(expr)[0].values(least)).dtype == torch.bool


def source_of(value: Value) -> Source:
    """The node's integers that a value is a function of."""
    return own_leaf(value).source


def own_leaf(value: Value) -> Leaf:
    """What these integers are to the model."""
    return value.expr if isinstance(value.expr, Leaf) else leaf_of(value.expr)[0]


def compressed(array: NDArray[Any]) -> NDArray[Any]:
    """With extents 1 where all along them is equal."""
    for axis in range(array.ndim):
        first = array.take([0], axis=axis)
        if array.shape[axis] > 1 and (array == first).all():
            array = first
    return np.ascontiguousarray(array)


def even(leaf: Leaf) -> bool:
    """Whether all places of a channel have one gain, and one constant."""
    return leaf.gain.ndim == 3 and leaf.gain.shape[1:] == (1, 1) and leaf.constant.shape[1:] == (1, 1)


def dyadic(numbers: NDArray[Any]) -> bool:
    """Whether all are powers of two (or 0), with which float64 multiplies without rounding."""
    mantissa = np.abs(np.frexp(numbers)[0])
    return bool(np.isin(mantissa, (0.0, 0.5)).all())
