"""The metaplastic rule, declared once.

A synapse has a hidden weight h and a binary weight sign(h). An ordinary optimizer proposes a step u, to be
subtracted from h. A step that takes h away from zero strengthens a decision already made and is taken whole. A step
that takes h towards zero threatens it, and is scaled by a consolidation function f:

    gate = f(h)   where the step shrinks |h|:  sign(h) * u > 0,  with sign(0) = +1
           1      elsewhere
    h   <- h - u * gate

f is 1 at h = 0 and falls with |h|: the further a weight has been driven, the better it is kept. The functions below
differ in how they fall. With f = 1 everywhere the rule is the ordinary, plain one.

This file only declares: `metaplastic_update` is the oracle to which the optimizers, the fused kernels and the Lava
Processes are held. Everything works alike on numpy arrays and torch tensors, and importing it does not load torch.

Source: Laborieux, Ernoult, Hirtzlin, Querlioz, "Synaptic metaplasticity in binarized neural networks", Nature
Communications 12:2549 (2021).
"""

from __future__ import annotations

import numbers
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

Array = TypeVar("Array", np.ndarray, "torch.Tensor")


def sign(x: Array) -> Array:
    """Binary weight of a hidden weight: +1 where x >= 0, else -1. Zero, of either sign, gives +1.

    x: numpy array or torch tensor of any shape and any signed dtype; the result has the same kind, shape and dtype.
    """
    one = _library(x).ones_like(x)
    return _library(x).where(x >= 0, one, -one)


def metaplastic_update(hidden: Array, step: Array, f: Consolidation) -> Array:
    """The hidden weights after one step: h - u*f(h) where sign(h)*u > 0, else h - u.

    hidden: h, any shape. step: u, what an ordinary optimizer would subtract (learning rate included), of the same
    kind, shape and dtype. f: the consolidation function. Returns a new array and changes neither argument.

    Raises TypeError where hidden and step differ in kind or dtype, ValueError where they differ in shape.
    """
    xp = _library(hidden)
    if _library(step) is not xp or hidden.dtype != step.dtype:
        raise TypeError(
            f"hidden and step must be of one kind and dtype, not {type(hidden).__name__} of {hidden.dtype} "
            f"and {type(step).__name__} of {step.dtype}"
        )
    if hidden.shape != step.shape:
        raise ValueError(f"hidden and step must have one shape, not {tuple(hidden.shape)} and {tuple(step.shape)}")
    shrinks = sign(hidden) * step > 0
    return hidden - xp.where(shrinks, step * f(hidden), step)


class Consolidation(ABC):
    """A consolidation function f: hidden weight -> share of a shrinking step that is taken.

    Every f is even, 1 at h = 0, never increases with |h|, and stays in [0, 1]. It sees only |h|: a new one is a
    frozen dataclass that has a `kind`, checks its parameters when it is made, and computes f from |h| in `_of`.
    """

    kind: ClassVar[str]

    @property
    def is_plain(self) -> bool:
        """True where f = 1 everywhere, so that no step needs gating."""
        return False

    def __call__(self, hidden: Array) -> Array:
        """f(h) for each element of a float array or tensor; same kind, shape and dtype, values in [0, 1].

        Raises TypeError for anything that is not a numpy array or torch tensor of floats.
        """
        xp = _library(hidden)
        if not _is_floating(hidden, xp):
            raise TypeError(f"hidden weights must be floating-point numbers, not {hidden.dtype}")
        # One flat axis, because numpy promotes an array without axes to float64 when it meets a Python float.
        return self._of(xp.abs(hidden.reshape(-1)), xp).reshape(hidden.shape)

    @abstractmethod
    def _of(self, distance: Any, xp: Any) -> Any:
        """f at `distance` = |h|, a flat array of the library `xp` (numpy or torch)."""

    def to_dict(self) -> dict[str, Any]:
        """The function as JSON: its kind and its parameters. `consolidation_from_dict` makes it again."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {"kind": self.kind} | {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


@dataclass(frozen=True)
class Constant(Consolidation):
    """f(h) = 1: the plain rule, without metaplasticity. The baseline of every comparison."""

    kind: ClassVar[str] = "constant"

    @property
    def is_plain(self) -> bool:
        return True

    def _of(self, distance: Any, xp: Any) -> Any:
        return xp.ones_like(distance)


@dataclass(frozen=True)
class Tanh2(Consolidation):
    """f(h) = 1 - tanh(m*h)**2 = sech(m*h)**2. The paper's function; flat at 0, tail 4*exp(-2*m*|h|).

    m: metaplasticity, in 1/(units of h); 0, which is plain, or 1e-15 to 1e15. Half of a shrinking step is taken at
    |h| = 0.88/m, a hundredth at 3/m.

    Computed as 4*r*(1 - r) with r = e/(1 + e), e = exp(-2*m*|h|). The written form, 1 - tanh**2, cancels: in
    float32 no digit of it is right from m|h| of about 9 on, and soon it is 0. This one keeps a relative error of about
    2*m*|h| roundings, which is that of the product m*|h| itself, and cannot overflow or leave [0, 1].

    Source: Laborieux et al. 2021 (there f_meta).
    """

    m: float
    kind: ClassVar[str] = "tanh2"

    def __post_init__(self) -> None:
        object.__setattr__(self, "m", _number("m", self.m, zero=True))

    @property
    def is_plain(self) -> bool:
        return self.m == 0

    def _of(self, distance: Any, xp: Any) -> Any:
        e = xp.exp(distance * (-2.0 * self.m))
        r = e / (e + 1.0)
        return 4.0 * r * (1.0 - r)


@dataclass(frozen=True)
class Exponential(Consolidation):
    """f(h) = exp(-m*|h|). Starts to fall at once: small weights are protected too.

    m: decay of the gate, in 1/(units of h); 0, which is plain, or 1e-15 to 1e15. Half of a shrinking step is taken
    at |h| = 0.69/m, a hundredth at 4.6/m.

    Source: the probability of a change in probabilistic metaplasticity, Zohora and Kudithipudi 2024; here it scales
    the step instead.
    """

    m: float
    kind: ClassVar[str] = "exponential"

    def __post_init__(self) -> None:
        object.__setattr__(self, "m", _number("m", self.m, zero=True))

    @property
    def is_plain(self) -> bool:
        return self.m == 0

    def _of(self, distance: Any, xp: Any) -> Any:
        return xp.exp(distance * -self.m)


@dataclass(frozen=True)
class Linear(Consolidation):
    """f(h) = max(0, 1 - |h|/T). One product and one comparison: what integer hardware can do.

    T: range of the hidden weight, in units of h, 1e-15 to 1e15. From |h| = T on, a weight never shrinks again.
    """

    T: float
    kind: ClassVar[str] = "linear"

    def __post_init__(self) -> None:
        object.__setattr__(self, "T", _number("T", self.T))

    def _of(self, distance: Any, xp: Any) -> Any:
        return 1.0 - xp.clip(distance / self.T, 0.0, 1.0)


@dataclass(frozen=True)
class Quadratic(Consolidation):
    """f(h) = max(0, 1 - (h/T)**2). Flat at 0 as Tanh2 is, and like it near 0 for T = 1/m; ends at T as Linear does.

    T: range of the hidden weight, in units of h, 1e-15 to 1e15. From |h| = T on, a weight never shrinks again.
    """

    T: float
    kind: ClassVar[str] = "quadratic"

    def __post_init__(self) -> None:
        object.__setattr__(self, "T", _number("T", self.T))

    def _of(self, distance: Any, xp: Any) -> Any:
        r = xp.clip(distance / self.T, 0.0, 1.0)
        return (1.0 - r) * (1.0 + r)  # 1 - r*r would cancel where r is close to 1


@dataclass(frozen=True)
class Table(Consolidation):
    """f(h) by straight lines between measured values; beyond the last point, its value. For a device's own curve.

    points: |h| in units of h, at least two, from 0 on, each at least 1e-15 above the last (as float32).
    values: f at each point, from 1 at |h| = 0, never increasing, in [0, 1]. Divide a measurement by its value at 0,
    and smooth it first if noise makes it rise.
    """

    points: Sequence[float]
    values: Sequence[float]
    kind: ClassVar[str] = "table"

    def __post_init__(self) -> None:
        for name in ("points", "values"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        points, values = np.array(self.points, np.float32), np.array(self.values)
        if len(points) != len(values):
            raise ValueError(f"a table needs one value a point, not {len(points)} points and {len(values)} values")
        if len(points) < 2:
            raise ValueError(f"a table needs at least two points, not {len(points)}")
        if points[0] != 0 or not (np.diff(points) >= 1e-15).all():
            raise ValueError("the points of a table must start at 0 and increase by 1e-15 or more, as float32")
        if values[0] != 1 or values[-1] < 0 or not (np.diff(values) <= 0).all():
            raise ValueError("the values of a table must start at 1, never increase, and stay in [0, 1]")

    def _of(self, distance: Any, xp: Any) -> Any:
        def like_distance(row: Sequence[float]) -> Any:
            if xp is np:
                return np.array(row, dtype=distance.dtype)
            return _torch_row(tuple(row), distance.dtype, distance.device)

        x, y = np.array(self.points), np.array(self.values)
        slopes = like_distance((np.diff(y) / np.diff(x)).tolist())
        points, values = like_distance(self.points), like_distance(self.values)
        piece = xp.clip(xp.searchsorted(points, distance, side="right") - 1, 0, len(x) - 2)
        line = values[piece] + slopes[piece] * (distance - points[piece])
        # The value at a piece's end bounds it: rounding stays inside, and the last value goes on for ever.
        return xp.maximum(line, values[piece + 1])


CONSOLIDATIONS: dict[str, type[Consolidation]] = {
    function.kind: function for function in (Constant, Tanh2, Exponential, Linear, Quadratic, Table)
}
"""Every consolidation function by its kind: what files, the command line, the docs and the tests go through."""


def consolidation_from_dict(record: Mapping[str, Any]) -> Consolidation:
    """The function that `to_dict` described. Raises ValueError for an unknown kind or wrong parameter names, and what
    the function itself raises for wrong values."""
    parameters = dict(record)
    kind = parameters.pop("kind", None)
    if kind not in CONSOLIDATIONS:
        raise ValueError(f"unknown consolidation {kind!r}: known are {', '.join(CONSOLIDATIONS)}")
    function = CONSOLIDATIONS[kind]
    expected = [field.name for field in fields(function)]  # type: ignore[arg-type]
    if sorted(parameters) != sorted(expected):
        raise ValueError(f"consolidation {kind!r} has the parameters {expected}, not {sorted(parameters)}")
    return function(**parameters)


def _library(x: Any) -> Any:
    """The module whose functions work on x: numpy or torch. A torch tensor exists only once torch is loaded."""
    if isinstance(x, np.ndarray | np.generic):
        return np
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        return torch
    raise TypeError(f"expected a numpy array or a torch tensor, not {type(x).__name__}")


@cache
def _torch_row(values: tuple[float, ...], dtype: Any, device: Any) -> Any:
    """The values as a torch tensor. Kept: a copy to a GPU in every step would make the host wait for it."""
    torch = sys.modules["torch"]
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


def _is_floating(x: Any, xp: Any) -> bool:
    return bool(np.issubdtype(x.dtype, np.floating)) if xp is np else bool(x.is_floating_point())


def _number(name: str, value: Any, *, zero: bool = False) -> float:
    """`value` as a float that neither overflows nor vanishes in float32, nor does its product with a weight."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    number = float(value)
    if zero and number == 0:
        return 0.0
    if not 1e-15 <= number <= 1e15:
        raise ValueError(f"{name} must be {'0 or ' if zero else ''}from 1e-15 to 1e15, not {number}")
    return number


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    """`values` as a tuple of finite floats: immutable, and equal to any other of the same numbers."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a sequence of numbers, not {values!r}") from None
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"{name} must be one row of finite numbers, not {values!r}")
    return tuple(array.tolist())
