"""What can be proven of an elementwise function from its operations: that it never falls, or rises, or is a line.

Each of these operations, rounded to the nearest float64, is monotone in the value that it takes, so the whole is, and
its bounds are its values at both ends. Then a few evaluations find every integer at which a sign changes. Of lines the
rounding is bounded operation by operation. Of other operations nothing is claimed: such functions are evaluated on all
their integers (`lava_meta.converters.functions.elementwise`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map_only

from lava_meta.converters.functions.expressions import Apply, Expr, Leaf, name_of
from lava_meta.converters.recording.calling import COARSE
from lava_meta.converters.recording.half import rounded_to
from lava_meta.converters.recording.operations import widened

EPS = 2.0**-52  # the distance of 1 to the next float64
NARROW = {torch.uint8, torch.int8, torch.int16, torch.int32}  # integers whose ends sums and products may pass
UNIT_ROUNDOFF = EPS / 2  # what one rounding changes, relative to its result

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Proof:
    """What is known of a function of each unit, over all its integers."""

    ends: Tensor  # (2, units): its values at the least and the greatest integer
    rises: Flags  # (units,): it nowhere falls
    falls: Flags  # it nowhere rises
    error: NDArray[Any] | None  # (units,) of a line: by how much rounding may move its values; None of others

    @property
    def size(self) -> NDArray[Any]:
        """The greatest size of a value, (units,)."""
        sizes: NDArray[Any] = self.ends.double().abs().amax(0).numpy()
        return sizes


@dataclass(frozen=True)
class BatchNorm:
    """An operation: the batch norm of a model in eval mode, by PyTorch's own kernel."""

    eps: float

    def __call__(self, values: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        parts = [part.expand(1, *values.shape[1:]).reshape(-1) for part in (mean, var, weight, bias)]
        flat = values.reshape(len(values), -1)
        normed: Tensor = torch.native_batch_norm(
            flat, parts[2], parts[3], parts[0], parts[1], training=False, momentum=0.0, eps=self.eps
        )[0]
        return normed.reshape(values.shape)


@dataclass(frozen=True)
class Cast:
    """An operation: another type."""

    dtype: torch.dtype

    def __call__(self, values: Tensor) -> Tensor:
        if self.dtype not in COARSE:
            return values.to(self.dtype)
        with _disable_current_modes():  # in which all floats are float64
            return rounded_to(values, self.dtype)


@dataclass(frozen=True, eq=False)
class OfIntegers:
    """An operation on the bits of integers, of whole numbers that nodes hold."""

    op: Any

    def __call__(self, *values: Any) -> Tensor:
        whole = (
            part.round().long() if isinstance(part, Tensor) and part.is_floating_point() else part for part in values
        )
        found: Tensor = self.op(*whole)
        return found


@dataclass(frozen=True, eq=False)
class Bucketize:
    """An operation: how many of rising bounds lie below a value; with `right`, those too that equal it."""

    bounds: Tensor
    right: bool

    def __call__(self, values: Tensor) -> Tensor:
        return torch.bucketize(values.contiguous(), self.bounds.to(values), right=self.right)


@dataclass(frozen=True, eq=False)
class Lookup:
    """An operation: what a table (n,) has at numbers 0 .. n - 1, or from its end at -1 .. -n."""

    table: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        places = values.long()
        if places.numel() and (int(places.min()) < -len(self.table) or int(places.max()) >= len(self.table)):
            raise ValueError(f"looks up {int(places.min())} to {int(places.max())} of a table of {len(self.table)}")
        return self.table[places]


def prove(expr: Expr, low: NDArray[Any], high: NDArray[Any]) -> Proof | None:
    """What is known of an expression over the integers low .. high of each unit; None if an operation is unknown.

    Constants of the expression have the shape (1, units) or are single numbers.
    """
    done: dict[int, Proof | None] = {}

    def visit(part: Any) -> Proof | None:
        if id(part) not in done:
            done[id(part)] = _of_leaf(part, low, high) if isinstance(part, Leaf) else _of_operation(part, visit)
        return done[id(part)]

    return visit(expr)


def _of_leaf(leaf: Leaf, low: NDArray[Any], high: NDArray[Any]) -> Proof:
    ends = leaf.values(np.stack([low, high]))
    gain = np.broadcast_to(leaf.gain, low.shape)
    before = np.abs(gain) * np.maximum(np.abs(low), np.abs(high)).astype(np.float64)
    return Proof(ends, gain >= 0, gain <= 0, EPS * (before + np.abs(leaf.constant)))


def _of_operation(expr: Apply, visit: Callable[[Any], Proof | None]) -> Proof | None:
    known = {id(part): visit(part) for part in expr.parts if isinstance(part, (Leaf, Apply))}
    if any(proof is None for proof in known.values()):
        return None
    args = [known.get(id(part), part) for part in expr.args]
    own = isinstance(expr.op, (BatchNorm, Cast, Bucketize, Lookup))
    rule = _RULES.get(type(expr.op).__name__ if own else name_of(expr.op))
    slopes = None if rule is None else rule(args, expr)
    if slopes is None:
        return None
    values = tree_map_only((Leaf, Apply), lambda part: known[id(part)].ends, (expr.args, expr.kwargs))  # type: ignore[union-attr]
    with torch.no_grad():
        ends = expr.op(*values[0], **values[1])
        if ends.dtype in NARROW and not torch.equal(ends.double(), _unbounded(expr.op, values)):
            return None  # it passes the ends of its type, and goes on from the other one
    proofs = [argument for argument in args if isinstance(argument, Proof)]
    ends = ends.expand(2, proofs[0].ends.shape[1])
    rises, falls = slopes.directions(proofs)
    error = None
    if slopes.lines is not None and all(proof.error is not None for proof in proofs):
        moved = sum(size * proof.error for size, proof in zip(slopes.lines, proofs, strict=True))
        error = moved + 4 * EPS * (ends.abs().amax(0).numpy() + slopes.inside)
    return Proof(ends, rises, falls, error)


def _unbounded(op: Any, values: Any) -> Tensor:
    """What an operation whose result is of integers gives, if these had no ends."""
    args, kwargs = widened(values)
    found: Tensor = args[0].double().trunc() if isinstance(op, Cast) else op(*args, **kwargs)
    return found


@dataclass(frozen=True)
class _Slopes:
    """How an operation depends on each value that it takes."""

    signs: list[NDArray[Any]]  # by value: at least 0 where it rises with it, at most 0 where it falls
    lines: list[NDArray[Any]] | None = None  # the sizes of the slopes, if it is a line in each
    inside: NDArray[Any] | float = 0.0  # of lines: the sizes of what is added within

    def directions(self, proofs: list[Proof]) -> tuple[Flags, Flags]:
        rises = np.ones(proofs[0].rises.shape, bool)
        falls = rises.copy()
        for sign, proof in zip(self.signs, proofs, strict=True):
            rises &= np.where(sign > 0, proof.rises, proof.falls) | (sign == 0)
            falls &= np.where(sign > 0, proof.falls, proof.rises) | (sign == 0)
        return rises, falls


_Rule = Callable[[list[Any], Apply], _Slopes | None]


def _flat(constant: Any) -> NDArray[Any]:
    """A constant (1, units) or a number, as (units,) or (1,)."""
    return np.asarray(constant, np.float64).reshape(-1)


def _kept(args: list[Any], expr: Apply) -> _Slopes | None:
    """It rises with the one value that it takes first, whatever the constants."""
    if not isinstance(args[0], Proof) or any(isinstance(other, Proof) for other in args[1:]):
        return None
    return _Slopes([np.ones(1)])


def _turned(args: list[Any], expr: Apply) -> _Slopes | None:
    return _Slopes([-np.ones(1)], [np.ones(1)]) if len(args) == 1 else None


def _bits_turned(args: list[Any], expr: Apply) -> _Slopes | None:
    return _Slopes([-np.ones(1)]) if args[0].ends.dtype == torch.bool else None


def _sum(first: float, second: float, *, scaled: int) -> _Rule:
    """A sum of two with these factors, of which alpha multiplies the one at `scaled`."""

    def rule(args: list[Any], expr: Apply) -> _Slopes | None:
        factors = [first, second]
        factors[scaled] *= float(expr.kwargs.get("alpha", args[2] if len(args) > 2 else 1))
        used = [np.array([f]) for f, argument in zip(factors, args, strict=False) if isinstance(argument, Proof)]
        return _Slopes(used, [np.abs(factor) for factor in used])

    return rule


def _product(args: list[Any], expr: Apply) -> _Slopes | None:
    values = [argument for argument in args if isinstance(argument, Proof)]
    if len(values) != 1 or values[0].ends.dtype == torch.bool:
        return None
    factor = _flat(next(argument for argument in args if not isinstance(argument, Proof)))
    return _Slopes([factor], [np.abs(factor)])


def _quotient(args: list[Any], expr: Apply) -> _Slopes | None:
    if not isinstance(args[0], Proof) or isinstance(args[1], Proof) or expr.kwargs:
        return None
    with np.errstate(divide="ignore"):
        factor = 1 / _flat(args[1])
    return _Slopes([factor], [np.abs(factor)])


def _comparison(sign: float) -> _Rule:
    def rule(args: list[Any], expr: Apply) -> _Slopes | None:
        first, second = (isinstance(argument, Proof) for argument in args)
        return None if first and second else _Slopes([np.array([sign if first else -sign])])

    return rule


def _choice(args: list[Any], expr: Apply) -> _Slopes | None:
    condition, a, b = args
    if isinstance(condition, Proof) and isinstance(a, Proof) != isinstance(b, Proof) and _is_clipped(expr):
        return _Slopes([np.zeros(1), np.ones(1)])
    if not isinstance(condition, Proof) or isinstance(a, Proof) or isinstance(b, Proof):
        return None
    return _Slopes([np.sign(_flat(a) - _flat(b))])


def _is_clipped(choice: Apply) -> bool:
    """Whether a choice is the lesser or the greater of the two that its condition compares."""
    condition, *chosen = choice.args
    if not isinstance(condition, Apply) or name_of(condition.op) not in ("lt", "le", "gt", "ge"):
        return False
    return any(all(map(_are_one, condition.args, pair)) for pair in (chosen, chosen[::-1]))


def _are_one(a: Any, b: Any) -> bool:
    if isinstance(a, (Leaf, Apply)) or isinstance(b, (Leaf, Apply)):
        return a is b
    return np.array_equal(_flat(a), _flat(b))


def _greatest(args: list[Any], expr: Apply) -> _Slopes | None:
    return _Slopes([np.ones(1) for argument in args if isinstance(argument, Proof)])


def _leaky(args: list[Any], expr: Apply) -> _Slopes | None:
    slope = args[1] if len(args) > 1 else 0.01
    return None if isinstance(slope, Proof) or (_flat(slope) < 0).any() else _kept(args, expr)


def _batch_norm(args: list[Any], expr: Apply) -> _Slopes | None:
    mean, var, weight, bias = map(_flat, args[1:])
    factor = weight / np.sqrt(var + expr.op.eps)  # type: ignore[attr-defined]
    inside = np.abs(factor) * (args[0].size + np.abs(mean)) + np.abs(bias)
    return _Slopes([factor], [np.abs(factor)], inside)


def _cast(args: list[Any], expr: Apply) -> _Slopes | None:
    """Of numbers to bits it does not rise."""
    return None if expr.op.dtype == torch.bool else _Slopes([np.ones(1)])  # type: ignore[attr-defined]


def _lookup(args: list[Any], expr: Apply) -> _Slopes | None:
    steps = np.diff(_flat(expr.op.table))  # type: ignore[attr-defined]
    if not (steps >= 0).all() and not (steps <= 0).all():
        return None
    return _Slopes([np.ones(1) if (steps >= 0).all() else -np.ones(1)])


_RISING = (
    *("relu", "sign", "sgn", "floor", "ceil", "round", "trunc", "sqrt", "hardtanh", "clamp", "clamp_min", "clamp_max"),
    *("relu6", "detach", "clone", "fake_quantize_per_tensor_affine"),
)
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(_RISING, _kept),
    "neg": _turned,
    "logical_not": _bits_turned,
    "bitwise_not": _bits_turned,
    "add": _sum(1.0, 1.0, scaled=1),
    "sub": _sum(1.0, -1.0, scaled=1),
    "rsub": _sum(-1.0, 1.0, scaled=0),
    "mul": _product,
    "div": _quotient,
    "ge": _comparison(1.0),
    "gt": _comparison(1.0),
    "le": _comparison(-1.0),
    "lt": _comparison(-1.0),
    "where": _choice,
    "maximum": _greatest,
    "minimum": _greatest,
    "leaky_relu": _leaky,
    "_prelu_kernel": _leaky,
    "BatchNorm": _batch_norm,
    "Bucketize": _kept,
    "Lookup": _lookup,
    "Cast": _cast,
}
