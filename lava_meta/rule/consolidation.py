"""The metaplastic rule, declared once.

A synapse has a hidden weight h and a binary weight sign(h). An ordinary optimizer proposes a step u, to be
subtracted from h. A step that takes h away from zero strengthens a decision already made and is taken whole. A step
that takes h towards zero threatens it, and is scaled by a consolidation function f:

    gate = f(h)   if the step shrinks |h|:  sign(h) * u > 0,  with sign(0) = +1
           g(h)   elsewhere;  g = 1 in the paper's rule
    h   <- h - u * gate

f is 1 at h = 0 and falls with |h|: the further a weight has been driven, the better it is kept. The functions below
differ in how they fall. With f = 1 everywhere the rule is the ordinary, plain one.

With g = 1 noise drives every |h| outwards, until nothing is left that can be moved. A second consolidation function as
g lets growing steps fade too: then |h| has a steady state, where the noise that drives it out and in is in balance.

This file only declares: `metaplastic_update` is the reference implementation for the optimizers, the fused kernels and
the Lava Processes. Everything works alike on numpy arrays and torch tensors, and importing it does not load torch.

Source: Laborieux, Ernoult, Hirtzlin, Querlioz, "Synaptic metaplasticity in binarized neural networks", Nature
Communications 12:2549 (2021).
"""

from __future__ import annotations

import json
import numbers
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Array = TypeVar("Array", NDArray[Any], "torch.Tensor")


def sign(x: Array) -> Array:
    """Binary weight of a hidden weight: +1 if x >= 0, else -1. Zero, of either sign, gives +1.

    x: numpy array or torch tensor of any shape and any signed dtype; the result has the same kind, shape and dtype.
    """
    one = _library(x).ones_like(x)
    signs: Array = _library(x).where(x >= 0, one, -one)
    return signs


def metaplastic_update(hidden: Array, step: Array, f: Consolidation, grow: Consolidation | None = None) -> Array:
    """The hidden weights after one step: h - u*f(h) if sign(h)*u > 0, else h - u*grow(h).

    hidden: h, any shape. step: u, what an ordinary optimizer would subtract (learning rate included), of the same
    kind, shape and dtype. f: the consolidation function of shrinking steps; grow: that of growing ones, by default 1.
    Returns a new array and changes neither argument.

    Raises TypeError if hidden and step differ in kind or dtype, ValueError if they differ in shape.
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
    growing = step if grow is None else step * grow(hidden)
    updated: Array = hidden - xp.where(shrinks, step * f(hidden), growing)
    return updated


UNREGISTERED = "unregistered"  # the kind of a function that cannot be made again, in records of what was learned


class Consolidation(ABC):
    """A consolidation function f: hidden weight -> share of a shrinking step that is taken; as g, of a growing one.

    Every f is even, 1 at h = 0, never increases with |h|, and stays in [0, 1]. It sees only |h|: a new one is a
    frozen dataclass that has a `kind`, checks its parameters when it is made, and computes f from |h| in `_of`.
    `register_consolidation` makes it known to files. `docs/own_rule.md` says which forms compute it.
    """

    kind: ClassVar[str]

    @property
    def is_plain(self) -> bool:
        """True if f = 1 everywhere, so that no step needs gating."""
        return False

    def __call__(self, hidden: Array) -> Array:
        """f(h) for each element of a float array or tensor; same kind, shape and dtype, values in [0, 1].

        Raises TypeError for anything that is not a numpy array or torch tensor of floats.
        """
        xp = _library(hidden)
        if not _is_floating(hidden, xp):
            raise TypeError(f"hidden weights must be floating-point numbers, not {hidden.dtype}")
        # One flat axis, because numpy promotes an array without axes to float64 when it meets a Python float.
        gates: Array = self._of(xp.abs(hidden.reshape(-1)), xp).reshape(hidden.shape)
        return gates

    @abstractmethod
    def _of(self, distance: Any, xp: Any) -> Any:
        """Compute f at `distance` = |h|, a flat array of the library `xp` (numpy or torch)."""

    def described(self) -> dict[str, Any]:
        """What a record of a training says of the function: as `to_dict`, or its name if no file can hold it."""
        try:
            return self.to_dict()
        except (TypeError, ValueError):
            return {"kind": UNREGISTERED, "name": str(self)}

    def to_dict(self) -> dict[str, Any]:
        """The function as JSON: its kind and its parameters. `consolidation_from_dict` makes it again.

        Raises:
            ValueError: if the class is not registered, so that no file of it could be read back.
            TypeError: if a parameter is nothing that JSON holds.
        """
        name = type(self).__name__
        if CONSOLIDATIONS.get(self.kind) is not type(self):
            raise ValueError(
                f"{name} cannot be saved: it is not registered, and nothing could read it back. Put "
                f"@register_consolidation (of lava_meta.rule) on the class, with a kind of its own"
            )
        values = {name: getattr(self, name) for name in _parameters(type(self))}
        record = {"kind": self.kind} | {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        try:
            json.dumps(record, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name} cannot be saved: its parameters must be what JSON holds ({error})") from None
        return record


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
class Towards(Consolidation):
    """f(h) = floor + (1 - floor) * max(0, 1 - |h|/T)**power. Falls towards a floor, which keeps a weight able to move.

    For growing steps as for shrinking ones. With floor 0 and power 1 it is Linear.

    T: range of the hidden weight, in units of h, 1e-15 to 1e15. floor: the share that is left from |h| = T on, 0 to 1.
    power: 0.1 to 100; above 1 the gate closes earlier.
    """

    T: float
    floor: float = 0.0
    power: float = 1.0
    kind: ClassVar[str] = "towards"

    def __post_init__(self) -> None:
        object.__setattr__(self, "T", _number("T", self.T))
        for name, low, high in (("floor", 0.0, 1.0), ("power", 0.1, 100.0)):
            value = getattr(self, name)
            number = 0.0 if value == 0 else _number(name, value)
            if not low <= number <= high:
                raise ValueError(f"{name} must be from {low:g} to {high:g}, not {number:g}")
            object.__setattr__(self, name, number)

    @property
    def is_plain(self) -> bool:
        return self.floor == 1

    def _of(self, distance: Any, xp: Any) -> Any:
        left = (1.0 - xp.clip(distance / self.T, 0.0, 1.0)) ** self.power
        # From 1 down, so that it is exactly 1 at 0.
        return xp.clip(1.0 - (1.0 - self.floor) * (1.0 - left), 0.0, 1.0)


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


@dataclass(frozen=True)
class PlainFunction(Consolidation):
    """f(h) = function(|h|): a Python function as a consolidation function, for runs of which nothing is saved.

    function: takes |h|, one flat torch tensor (in optimizers) or numpy array (in on-line learning) of floats, and
    returns f for each element.
    """

    function: Callable[[Any], Any]
    kind: ClassVar[str] = "function"

    def _of(self, distance: Any, xp: Any) -> Any:
        return self.function(distance)

    def __str__(self) -> str:
        return getattr(self.function, "__name__", str(self.function))

    def to_dict(self) -> dict[str, Any]:
        """Raises TypeError: no file can hold a Python function."""
        raise TypeError(
            f"the consolidation function {self} is a plain Python function, and no file can hold it: make it a "
            "class with @register_consolidation (docs/own_rule.md), or save nothing"
        )


BUILT_IN: tuple[type[Consolidation], ...] = (Constant, Tanh2, Exponential, Linear, Quadratic, Towards, Table)
"""The functions that compiled forms may know. They know them by their exact type: a subclass computes otherwise."""

CONSOLIDATIONS: dict[str, type[Consolidation]] = {function.kind: function for function in BUILT_IN}
"""Every registered function by its kind: what files, the command line, the docs and the tests go through."""

Registered = TypeVar("Registered", bound=type[Consolidation])


def register_consolidation(function: Registered) -> Registered:
    """Make a consolidation function of one's own known to files, as a class decorator.

    Optimizer states, learners and run folders hold it as its `kind` and its fields, and are read back wherever the
    class has been registered before.

    Args:
        function: a frozen dataclass derived from `Consolidation`, with a `kind` of its own and `_of(distance, xp)`:
            f at the flat array |h| of the library xp, numpy or torch.

    Returns:
        The class itself.

    Raises:
        TypeError: if it is no such class.
        ValueError: if another class has its kind.
    """
    if not (isinstance(function, type) and issubclass(function, Consolidation)):
        raise TypeError(f"register_consolidation takes a class derived from Consolidation, not {function!r}")
    name, kind = function.__name__, vars(function).get("kind")
    if not (isinstance(kind, str) and kind):
        raise TypeError(f'{name} has no kind of its own: give it one, as kind = "{name.lower()}"')
    frozen = is_dataclass(function) and getattr(function, "__dataclass_params__").frozen  # noqa: B009 (untyped)
    if "__dataclass_params__" not in vars(function) or not frozen:
        raise TypeError(f"{name} must be a frozen dataclass: put @dataclass(frozen=True) below @register_consolidation")
    known = CONSOLIDATIONS.get(kind)
    if kind == PlainFunction.kind or (known is not None and not _same_place(known, function)):
        raise ValueError(f"the kind {kind!r} of {name} is taken: give the class another kind")
    CONSOLIDATIONS[kind] = function
    return function


def _parameters(function: type[Consolidation]) -> list[str]:
    """The names of its parameters: its fields, without a kind that was annotated as one."""
    return [field.name for field in fields(function) if field.name != "kind"]  # type: ignore[arg-type]


def _same_place(one: type, other: type) -> bool:
    """Whether one class is the other, defined again: a notebook's cell that was run twice."""
    return one not in BUILT_IN and (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)


def as_consolidation(f: Any, like: Array) -> Consolidation:
    """`f` as a consolidation function that keeps the promises of one; a plain Python function becomes `PlainFunction`.

    Args:
        f: a `Consolidation`, or a function of |h|.
        like: an array or tensor of the library with which it will be used.

    Raises:
        TypeError: if it is neither, or gives something else than an array of this library.
        ValueError: if it is not 1 at 0, ever rises with |h|, or leaves [0, 1].
    """
    if not isinstance(f, Consolidation):
        if not callable(f) or isinstance(f, type):
            raise TypeError(
                f"consolidation must be a Consolidation such as Linear(2.0), or a function of |h|, not {f!r}"
            )
        f = PlainFunction(f)
    function: Consolidation = f
    if type(function) not in BUILT_IN:
        _check_promises(function, like)
    return function


def _check_promises(f: Consolidation, like: Any) -> None:
    """Evaluate a function of one's own from 0 to 1e9 and raise what `as_consolidation` says."""
    distance = np.concatenate([[0.0], np.geomspace(1e-9, 1e9, 181)])  # in units of h; ten steps a decade
    xp, name = _library(like), str(f) if isinstance(f, PlainFunction) else repr(f)
    h: Any = distance if xp is np else xp.from_numpy(distance)
    try:
        with np.errstate(over="ignore", under="ignore"):
            values = f(h)
    except Exception as error:
        raise TypeError(
            f"the consolidation function {name} fails on a flat {type(h).__name__} of |h|: {type(error).__name__}: "
            f"{error}. The argument xp of _of is the library of the array, numpy or torch"
        ) from error
    if type(values) is not type(h) or values.shape != h.shape:
        raise TypeError(
            f"the consolidation function {name} must give one value of f for each |h|, in a {type(h).__name__}"
        )
    found = np.asarray(values, dtype=np.float64)
    rises = np.append(np.diff(found) > 1e-6, False)
    for wrong, what in (
        (~((found >= 0) & (found <= 1)), "f must lie in [0, 1]"),
        ((distance == 0) & (np.abs(found - 1) > 1e-6), "f must be 1 at 0"),
        (rises, "f must never rise with |h|"),
        (f.is_plain & (found < 1), "is_plain promises that f is 1 everywhere"),
    ):
        if wrong.any():
            place = int(np.argmax(wrong))
            after = f", {found[place + 1]:.6g} at {distance[place + 1]:.3g}" if wrong is rises else ""
            raise ValueError(
                f"the consolidation function {name} is {found[place]:.6g} at |h| = {distance[place]:.3g}{after}: {what}"
            )


def consolidation_from_dict(record: Mapping[str, Any]) -> Consolidation:
    """Make the function that `to_dict` described.

    Raises:
        ValueError: the kind is unknown, a parameter name is wrong, or the function itself refuses a value.
    """
    parameters = dict(record)
    kind = parameters.pop("kind", None)
    if kind not in CONSOLIDATIONS:
        raise ValueError(
            f"unknown consolidation {kind!r}: known are {', '.join(CONSOLIDATIONS)}. One of your own must be "
            "registered before it is read: import the module that has @register_consolidation on it"
        )
    function = CONSOLIDATIONS[kind]
    expected = _parameters(function)
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
    with torch.inference_mode(mode=False):
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
