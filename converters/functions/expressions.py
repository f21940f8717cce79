"""Expressions over a node's integers: what a model computes of each, operation by operation, elementwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map_only

from lava_meta.converters.recording.operations import Float64
from lava_meta.graph.nodes import Shape

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, eq=False)
class Source:
    """A node's integers."""

    node: str
    shape: Shape
    low: NDArray[Any]  # int64 of the rank of the shape, extents 1 where shared
    high: NDArray[Any]
    step: int = 1  # 2 where all that can be reached have one parity

    @property
    def largest(self) -> int:
        """The greatest size of an integer."""
        return max(abs(int(self.low.min())), abs(int(self.high.max())))


class Known:
    """What is known of nodes, whatever the images are; of images that are checked, more is."""

    def largest(self, source: Source) -> float:
        """The greatest size of a node's integers."""
        return source.largest

    def ends(self, source: Source) -> tuple[float, float]:
        """The least and the greatest of a node's integers."""
        return float(source.low.min()), float(source.high.max())

    def least(self, source: Source) -> float:
        """The least size of a node's integers that are not 0."""
        return 1.0

    def difference(self, node: str, slack: Slack) -> float:
        """By how much a stream that the self-check compares may differ from the model's."""
        return slack.proven


PROVEN = Known()


class Slack:
    """By how much the model's own value may differ from a leaf's, in its units: float64's rounding, and the nodes'.

    A function of what is known of the nodes in front; `proven` is what it is whatever the images are.
    """

    def __init__(self, of: Callable[[Known], float]) -> None:
        self._of = of
        self.proven = of(PROVEN)

    def __call__(self, known: Known) -> float:
        return self.proven if known is PROVEN else self._of(known)


def constant(slack: float) -> Slack:
    """The same whatever is known."""
    return Slack(lambda known: slack)


@dataclass(frozen=True, eq=False)
class Leaf:
    """`gain * x + constant`: what the integers of a source are to the model."""

    source: Source
    gain: NDArray[Any]  # float64 of the rank of the shape, extents 1 where shared
    constant: NDArray[Any]
    slack: Slack = field(default_factory=lambda: constant(0.0))

    _NUMBERS: ClassVar[dict[str, float]] = {"gain": 1.0, "constant": 0.0}  # by element, and what makes 0 of an x of 0

    @property
    def numbers(self) -> list[NDArray[Any]]:
        """All numbers that elements may differ in."""
        return [getattr(self, name) for name in self._NUMBERS]

    def of(self, source: Source, taken: Callable[[NDArray[Any], float], NDArray[Any]]) -> Self:
        """That of another source, whose numbers `taken` finds among these; with each, what makes 0 of an x of 0."""
        numbers: dict[str, Any] = {name: taken(getattr(self, name), zero) for name, zero in self._NUMBERS.items()}
        return replace(self, source=source, **numbers)

    def values(self, x: NDArray[Any]) -> Tensor:
        """Of integers (k, ...), float64."""
        return torch.from_numpy(np.ascontiguousarray(self.gain * x.astype(np.float64) + self.constant))


@dataclass(frozen=True, eq=False, kw_only=True)
class Fed(Leaf):
    """`(x / max_level - mean) / std`, rounded as a model's inputs are, so that levels which lie on a threshold tie."""

    max_level: int
    mean: NDArray[Any]  # float64, as `gain`
    std: NDArray[Any]

    _NUMBERS = Leaf._NUMBERS | {"mean": 0.0, "std": 1.0}

    def values(self, x: NDArray[Any]) -> Tensor:
        scaled = (x.astype(np.float64) / self.max_level - self.mean) / self.std
        return torch.from_numpy(np.ascontiguousarray(scaled))


@dataclass(frozen=True, eq=False)
class Apply:
    """An operation on such values and constants, float64 or bool; these have a first extent of 1 before the shape."""

    op: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def parts(self) -> list[Any]:
        """All arguments."""
        return tree_flatten((self.args, self.kwargs), is_leaf=lambda part: isinstance(part, (Leaf, Apply)))[0]


Expr = Leaf | Apply


def alike(a: Any, b: Any) -> bool:
    """Whether two expressions are the same function of the same integers, computed twice."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a.shape == b.shape and bool(torch.equal(a, b))
    if isinstance(a, Leaf):
        return a.source.node == b.source.node and all(map(np.array_equal, a.numbers, b.numbers))
    if isinstance(a, Apply):
        return a.op is b.op and len(a.parts) == len(b.parts) and all(map(alike, a.parts, b.parts))
    return bool(a == b)


def leaf_of(expr: Expr) -> tuple[Leaf, list[Tensor]]:
    """The one leaf of an expression, and its constants."""
    leaves: list[Leaf] = []
    constants: list[Tensor] = []
    seen: set[int] = set()

    def visit(node: Any) -> None:
        if id(node) in seen:
            return
        seen.add(id(node))
        if isinstance(node, Leaf):
            leaves.append(node)
        elif isinstance(node, Apply):
            for part in node.parts:
                visit(part)
        elif isinstance(node, Tensor):
            constants.append(node)

    visit(expr)
    return leaves[0], constants


def evaluate(expr: Expr, values: Tensor) -> Tensor:
    """The expression for what its leaf gives."""
    done: dict[int, Tensor] = {}

    def compute(part: Any) -> Any:
        if isinstance(part, Leaf):
            return values
        if id(part) not in done:
            args, kwargs = tree_map_only((Leaf, Apply), compute, (part.args, part.kwargs))
            done[id(part)] = part.op(*args, **kwargs)
        return done[id(part)]

    with torch.no_grad(), Float64():
        found: Tensor = compute(expr)
    return found


def mapped(expr: Expr, leaf: Expr, constant: Callable[[Tensor], Tensor]) -> Expr:
    """The expression with another in the place of its leaf, and its constants changed."""
    done: dict[int, Any] = {}

    def change(part: Any) -> Any:
        if isinstance(part, Leaf):
            return leaf
        if isinstance(part, Tensor):
            return constant(part)
        if id(part) not in done:
            args, kwargs = tree_map_only((Leaf, Apply, Tensor), change, (part.args, part.kwargs))
            done[id(part)] = Apply(part.op, args, kwargs)
        return done[id(part)]

    changed: Expr = change(expr)
    return changed


def replaced(expr: Expr, inner: Expr, other: Expr) -> Expr:
    """The expression with another for a part of it."""
    done: dict[int, Any] = {id(inner): other}

    def change(part: Any) -> Any:
        if id(part) not in done:
            args, kwargs = tree_map_only((Leaf, Apply), change, (part.args, part.kwargs))
            done[id(part)] = Apply(part.op, args, kwargs)
        return done[id(part)]

    changed: Expr = change(expr)
    return changed


def cancelled(expr: Expr) -> tuple[Expr, list[Expr]]:
    """The expression without terms that cancel, as the `c` of `(sign(x) - c).detach() + c`; and these terms.

    Estimators of gradients are written so. What remains is the same function, up to float64's rounding of the terms.
    """
    gone: list[Expr] = []
    done: dict[int, Any] = {}

    def change(part: Any) -> Any:
        if isinstance(part, Leaf):
            return part
        if id(part) not in done:
            done[id(part)] = _without(part, gone) or part
            if done[id(part)] is not part:
                done[id(part)] = change(done[id(part)])
            else:
                args, kwargs = tree_map_only((Leaf, Apply), change, (part.args, part.kwargs))
                done[id(part)] = Apply(part.op, args, kwargs)
        return done[id(part)]

    changed: Expr = change(expr)
    return (changed, gone) if gone else (expr, gone)


def _without(expr: Apply, gone: list[Expr]) -> Expr | None:
    """The one term that remains of a sum; None if more do, or nothing cancels."""
    terms = _terms(expr, 1)
    counts: dict[int, int] = {}
    for sign, part in terms:
        counts[id(part)] = counts.get(id(part), 0) + sign
    left: list[Expr] = [part for _, part in terms if counts[id(part)]]
    if len(left) != 1 or counts[id(left[0])] != 1 or len(terms) == 1:
        return None
    gone += [part for _, part in terms if not counts[id(part)]]
    return left[0]


def _terms(part: Any, sign: int) -> list[tuple[int, Any]]:
    """The terms of a sum of expressions, each with +1 or -1."""
    if isinstance(part, Apply) and not part.kwargs and len(part.args) == 2:
        name = name_of(part.op)
        if name in ("add", "sub") and all(isinstance(argument, (Leaf, Apply)) for argument in part.args):
            return _terms(part.args[0], sign) + _terms(part.args[1], sign if name == "add" else -sign)
        constants = [argument for argument in part.args if not isinstance(argument, (Leaf, Apply))]
        numbers = [float(number) for number in constants if _is_one(number)]
        if name == "mul" and len(numbers) == 1:  # by a weight of the estimator that is 1
            inner = next(argument for argument in part.args if isinstance(argument, (Leaf, Apply)))
            return _terms(inner, sign * int(numbers[0]))
    return [(sign, part)]


def _is_one(number: Any) -> bool:
    """Whether a constant is 1 or -1."""
    if isinstance(number, Tensor):
        return number.numel() == 1 and abs(float(number)) == 1
    return isinstance(number, (int, float)) and abs(number) == 1


def name_of(op: Any) -> str:
    """`add` for `torch.ops.aten.add.Tensor`, and for `torch.add`; "" for a function that has no such name."""
    schema = getattr(op, "_schema", None)
    if schema is not None:
        return str(schema.name).removeprefix("aten::")
    own = getattr(op, "__name__", "")
    return own if getattr(torch, own, None) is op else ""


def parts_of(expr: Expr) -> list[Expr]:
    """The leaf of an expression, and the parts that all ways to it pass, from the leaf outwards, without itself."""
    order: dict[int, Expr] = {}

    def visit(node: Expr) -> None:
        if id(node) not in order:
            for part in node.parts if isinstance(node, Apply) else ():
                if isinstance(part, (Leaf, Apply)):
                    visit(part)
            order[id(node)] = node

    def passes(node: Expr, at: Expr) -> bool:
        if node is at or isinstance(node, Leaf):
            return node is at
        return all(passes(part, at) for part in node.parts if isinstance(part, (Leaf, Apply)))

    visit(expr)
    return [node for node in order.values() if node is not expr and passes(expr, node)]


def is_shared(expr: Expr) -> bool:
    """Whether one function serves all units, whatever bounds they have."""
    leaf, constants = leaf_of(expr)
    return all(part.size == 1 for part in leaf.numbers) and all(part.numel() == 1 for part in constants)
