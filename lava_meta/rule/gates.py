"""What compiled forms know of the consolidation functions: one table for all of them.

    form                                       knows                 any other function
    fused, CPU: optim.fused_cpu                closed forms, Table   the reference form: torch's operations
    fused, GPU: optim.fused_gpu                closed forms          shares that torch computes before
    CUDA graph: optim.can_be_captured          built-in functions    the optimizer's step is not captured
    on-line, float: compiled.floating          closed forms          the reference form: numpy
    on-line, integers: compiled.fixed, device  every function, as a table of 8-bit gates
    learning engine: rule.lowering             linear, quadratic     the nearest of these, or a refusal

The same forms know the same functions as gates of growing steps, `grow`, of which none is the constant 1. A device has
its own `soft_bounds` instead and refuses `grow` by name; the learning engine takes it where both gates are one linear
or quadratic function.

A function is known by its exact type. A subclass may compute something else, so it is any other function, as are those
of the user's own. `tests/rule/test_gates.py` holds each form to the equations for each function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeGuard

from lava_meta.rule.consolidation import Consolidation, Constant, Exponential, Linear, Quadratic, Tanh2, Towards


class ClosedForm(NamedTuple):
    """A function of |h| and two numbers, for which kernels have an expression."""

    name: str  # plain, tanh2, exponential, linear, quadratic, towards (of power 1) or towards2 (of power 2)
    number: float  # what it computes with: the factor of |h| in the exponential, or T; 0 for plain
    floor: float = 0.0  # of towards and towards2


_NUMBERS: dict[type[Consolidation], Callable[[Any], float]] = {
    Constant: lambda f: 0.0,
    Tanh2: lambda f: -2.0 * f.m,
    Exponential: lambda f: -f.m,
    Linear: lambda f: f.T,
    Quadratic: lambda f: f.T,
}
_POWERS = {1.0: "towards", 2.0: "towards2"}


def closed_form(f: Consolidation) -> ClosedForm | None:
    """The closed form of `f`; None for a table, other powers of `Towards`, a subclass, and the user's own functions."""
    if f.is_plain:
        return ClosedForm("plain", 0.0)
    if type(f) is Towards:
        name = _POWERS.get(f.power)
        return None if name is None else ClosedForm(name, f.T, f.floor)
    number = _NUMBERS.get(type(f))
    return None if number is None else ClosedForm(f.kind, number(f))


def is_polynomial(f: Consolidation) -> TypeGuard[Linear | Quadratic]:
    """Whether `f` is a polynomial of |h| up to its T, as Lava's learning engine can express: linear or quadratic."""
    return type(f) in (Linear, Quadratic)
