"""The declared rule in the language of Lava's learning engine, if the engine can express it.

The engine adds products. Each has one dependency (x0: the input spiked; y0: the neuron spiked; u0: always), a scale
2**k with k from -7 to 8, and factors: the traces y1 and y2 that the neuron sends, the weight w, the tag t, sgn(.) of
them. There is no division, no exponential and no tanh, so a gate is a polynomial of the tag. The tag is the hidden
weight, the weight its sign times 128. With y1 = e, what a synapse with an active input is lowered by, and y2 = |e|:

    linear      f = 1 - |t|/T        dt = -e + e |t|/(2T) + |e| t/(2T)
    quadratic   f = 1 - (t/T)**2     dt = -e + e t**2/(2T**2) + |e| t|t|/(2T**2)
    plain       f = 1                dt = -e

The two terms of a gate add if the step shrinks |t|, and cancel if it does not. A gate in both directions has one term,
twice the first of its two, and needs no y2. T is a power of two, in units of
the tag; the unit is free: a hidden weight h has the tag t = scale * h. If inputs are spikes, 0 or 1, every product
depends on x0; if they are signs, sent as spikes for +1, e stands for (2 x0 - 1) e, which takes five products.

Which functions the expressions above are for stands once, in `lava_meta/rule/gates.py`.

In floating point nothing rounds and nothing clamps a tag: past T the gate turns negative. In fixed point

    traces have 7 bits, tags 8 and weights 8, each with a sign; a product is shifted right until the widths of its
    factors (sgn(t) is charged as much as t) and 4 bits of scale fit into 15; sums saturate at 15 bits and a sign,
    7 of them fraction; then tags are rounded at random, by one draw per time step for all synapses.

|t| is therefore written as t*w/128, which keeps the bits that t*sgn(t) would lose; a step of 1 in e moves a tag by
`step`, a power of two; and tags saturate at 256, where T should be. A shift to the right rounds down, whatever the
sign, which would gradually push all tags below zero: the trace y3 gives back what is lost in the mean. A weight
follows its tag in two steps, because sgn(0) = 0 and the declared sign of 0 is +1: when the neuron spikes (y0) it
becomes 64 (sgn(t) + sgn(t+1)), which is never 0, and in the next step 128 times its own sign.

Source: Lava 0.10.0, lava/magma/core/learning and magma/core/model/py/connection.py, whose arithmetic
`lava_meta.online_learning.learning_engine.synapses` follows bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lava_meta.errors import ConversionError
from lava_meta.rule.consolidation import (
    Consolidation,
    Constant,
    Exponential,
    Linear,
    Quadratic,
    Table,
    Tanh2,
    as_consolidation,
)
from lava_meta.rule.gates import is_polynomial

TARGETS = ("learning-engine",)
PRECISIONS = ("fixed", "float")
INPUTS = ("spikes", "signs")
SURROGATES = ("nearest", "linear", "quadratic", "refuse")

TAG_LIMIT = 257  # of a fixed-point tag: the engine clamps to -257 .. 255
TRACE_LIMIT = 127
WEIGHT = 128
ACCUMULATOR_BITS, SCALE_BITS = 15, 4
WIDTHS = {"y1": 7, "y2": 7, "y3": 7, "t": 9, "w": 9}
_LARGEST = {
    "y1": TRACE_LIMIT,
    "y2": TRACE_LIMIT,
    "y3": TRACE_LIMIT,
    "t": TAG_LIMIT,
    "w": WEIGHT,
}  # as long as weights are +-128
_EXPONENTS = (-7, 8)
_GONE = 0.01  # distances of gates are measured up to where the declared one has fallen to this
# T in tag units: the powers of two that the engine's scales allow; in fixed point, of which enough bits are left.
_T = {
    "float": {"linear": (1, 64), "quadratic": (1, 8)},
    "fixed": {"linear": (16, 256), "quadratic": (64, 256)},
}


@dataclass(frozen=True)
class Product:
    """`mantissa * 2**exponent * dependency * factors`, with factors such as "y1", "t", "w", "sgn(t)", "sgn(t+1)"."""

    dependency: str
    mantissa: int
    exponent: int
    factors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _EXPONENTS[0] <= self.exponent <= _EXPONENTS[1]:
            raise ConversionError(
                f"the product {self.text} needs the scale 2^{self.exponent}; the learning engine's go from "
                f"2^{_EXPONENTS[0]} to 2^{_EXPONENTS[1]}"
            )

    @property
    def text(self) -> str:
        scale = ("-" if self.mantissa < 0 else "") + (f"2^{self.exponent}*" if self.exponent else "")
        return scale + "*".join((self.dependency, *self.factors))

    @property
    def width(self) -> int:
        """Bits that the engine counts for the factors and the scale."""
        return SCALE_BITS + sum(WIDTHS[_variable(factor)] for factor in self.factors)

    @property
    def shift(self) -> int:
        """Bits that are lost at the right before the scale is applied."""
        return max(0, self.width - ACCUMULATOR_BITS)

    @property
    def largest(self) -> int:
        """The largest magnitude before that shift, for any tag and trace and for weights of +-128."""
        values = (1 if factor.startswith("sgn") else _LARGEST[factor] for factor in self.factors)
        return abs(self.mantissa) * math.prod(values)

    @property
    def overflows(self) -> bool:
        """Whether it can leave int32, before the shift or after the scale."""
        return max(self.largest, (self.largest >> self.shift) << (self.exponent + 7)) >= 2**31


@dataclass(frozen=True)
class EngineRule:
    """A rule as the learning engine takes it.

    declared: the consolidation function asked for, of h. consolidation: the one expressed, of h as well.
    scale: tag units of a unit of h. T: where the expressed gate reaches 0, in units of the tag (inf without a gate).
    step: tag units by which a trace y1 of 1 lowers a synapse. rounding: mean of the trace y3 if y1 is not 0 (0: none
    is needed). tags, weights: the products of dt and dw.
    mean_distance, max_distance: of the expressed from the declared gate, from h = 0 to `reach`, where the declared
    gate has fallen to 0.01 or its table ends; the expressed gate counts as 0 past T.

    Raises ConversionError if a product can leave 32 bits: the engine would go on with garbage.
    """

    declared: Consolidation
    consolidation: Consolidation
    precision: str
    inputs: str
    scale: float
    T: float
    step: float
    rounding: float
    tags: tuple[Product, ...]
    weights: tuple[Product, ...]
    reach: float
    mean_distance: float
    max_distance: float

    def __post_init__(self) -> None:
        for product in (*self.tags, *self.weights):
            if self.overflows and product.overflows:
                raise ConversionError(
                    f"the product {product.text} reaches {product.largest:,} before its scale, and may leave the "
                    "engine's 32 bits"
                )

    @property
    def exact(self) -> bool:
        """Whether the declared function is the expressed one."""
        return self.declared == self.consolidation

    @property
    def dt(self) -> str:
        return _text(self.tags)

    @property
    def dw(self) -> str:
        return _text(self.weights)

    @property
    def products(self) -> int:
        return len(self.tags) + len(self.weights)

    @property
    def overflows(self) -> bool:
        """Whether any product can leave int32. Such a rule is not made."""
        return self.precision == "fixed" and any(p.overflows for p in (*self.tags, *self.weights))

    def summary(self) -> str:
        """The strings and the numbers that go with them, as lines of text."""
        gate = f"{_named(self.declared)} as it is"
        if not self.exact:
            gate = f"{_named(self.declared)} as {_named(self.consolidation)}"
            gate += f": {self.mean_distance:.3f} apart in the mean, {self.max_distance:.3f} at most"
        ends = "no gate" if math.isinf(self.T) else f"the gate ends at {self.T:g}"
        lines = [
            f"gate      {gate}",
            f"dt      = {self.dt}",
            f"dw      = {self.dw}",
            f"tags      {self.scale:g} units for a hidden weight of 1; {ends}",
            f"traces    y1 = e, y2 = |e|: 1 lowers a synapse by {self.step:g} tag units",
            f"products  {len(self.tags)} for the tag, {len(self.weights)} for the weight",
        ]
        if self.rounding:
            lines.insert(
                -1, f"          y3 = {self.rounding:g} in the mean if e is not 0: what is lost by rounding down"
            )
        return "\n".join(lines)

    def stages(self) -> list[dict[str, str]]:
        """What each product loses and how large it grows, in fixed point; one row a product."""
        return [
            {
                "product": f"{target} {product.text}",
                "bits counted": str(product.width),
                "shifted right by": str(product.shift),
                "smallest step": f"{2.0**product.exponent:g}",
                "largest value": f"2^{math.log2(product.largest):.1f}",
                "fits int32": "no" if product.overflows else "yes",
            }
            for target, products in (("dt", self.tags), ("dw", self.weights))
            for product in products
        ]


def lower(
    rule: Consolidation | Callable[[Any], Any],
    target: str = "learning-engine",
    precision: str = "fixed",
    *,
    inputs: str = "spikes",
    scale: float | None = None,
    surrogate: str = "nearest",
    both: bool = False,
) -> EngineRule:
    """Lower a consolidation function of the hidden weight h to the strings of a target.

    precision: "fixed", the engine's integers, or "float". inputs: "spikes", 0 or 1, or "signs", of which +1 is sent as
    a spike. scale: tag units of a unit of h; by default the one with which the gate ends where tags do (256; in
    floating point 64, or 8 if quadratic). surrogate: what stands for a function that is no polynomial of |h|:
    "nearest" in the mean over h, "linear" or "quadratic", with the T that is nearest (with a given scale, among the T
    that are a power of two of tag units); "refuse" raises instead. both: growing steps go through the same gate.

    Raises ConversionError naming what cannot be lowered, ValueError for an unknown word, TypeError or
    ValueError for a rule that is no consolidation function.
    """
    rule = as_consolidation(rule, np.zeros(0))
    for name, value, known in (
        ("target", target, TARGETS),
        ("precision", precision, PRECISIONS),
        ("inputs", inputs, INPUTS),
        ("surrogate", surrogate, SURROGATES),
    ):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(known)}")
    if scale is not None and not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale is {scale}; it is a positive number of tag units for a hidden weight of 1")
    if rule.is_plain:
        return _engine_rule(rule, Constant(), precision, inputs, scale or (256.0 if precision == "fixed" else 1.0))
    if is_polynomial(rule):
        expressed: Any = rule
    else:
        if surrogate == "refuse":
            raise ConversionError(
                f"the learning engine cannot express {_named(rule)}: it adds products, without division, exponential, "
                f"tanh or table. The nearest that it can is {nearest_gate(rule, precision, scale, 'nearest')}"
            )
        expressed = nearest_gate(rule, precision, scale, surrogate)
    T = _tag_ranges(precision, expressed.kind)[-1] if scale is None else expressed.T * scale
    return _engine_rule(rule, expressed, precision, inputs, T / expressed.T, both=both)


def nearest_gate(
    rule: Consolidation, precision: str = "fixed", scale: float | None = None, family: str = "nearest"
) -> Linear | Quadratic:
    """The linear or quadratic gate of least mean distance from `rule`, over h from 0 to the `reach` of an EngineRule.

    With a scale, T is one of the powers of two of tag units that the engine has.
    """
    reach = _reach(rule)
    kinds: dict[str, type[Linear] | type[Quadratic]] = {"linear": Linear, "quadratic": Quadratic}
    candidates: list[Linear | Quadratic] = []
    for name, kind in kinds.items():
        if family in ("nearest", name):
            if scale is None:
                candidates += [kind(float(f"{T:.3g}")) for T in np.geomspace(reach / 50, 4 * reach, 600)]
            else:
                candidates += [kind(T / scale) for T in _tag_ranges(precision, name)]
    return min(candidates, key=lambda gate: _distance(rule, gate, reach)[0])


def _tag_ranges(precision: str, family: str) -> list[float]:
    least, largest = _T[precision][family]
    return [2.0**k for k in range(int(math.log2(least)), int(math.log2(largest)) + 1)]


def _engine_rule(
    declared: Consolidation, expressed: Consolidation, precision: str, inputs: str, scale: float, *, both: bool = False
) -> EngineRule:
    T = math.inf
    if is_polynomial(expressed):
        T = expressed.T * scale
        known = _tag_ranges(precision, expressed.kind)
        if not any(math.isclose(T, one, rel_tol=1e-9) for one in known):
            raise ConversionError(
                f"T of {_named(expressed)} is {T:g} units of the tag; the learning engine's scales are powers of two, "
                f"so in {precision} point T is one of {', '.join(f'{one:g}' for one in known)} of them: choose another "
                "scale, or leave it out"
            )
        T = 2.0 ** round(math.log2(T))
    step, products = (_fixed if precision == "fixed" else _floating)(expressed, T)
    if both:
        # What holds for shrinking steps holds for all: the term of |e| goes, and that of e counts twice. It comes
        # first, so that a growing step does not saturate on the way, which would turn it round; a shrinking one from
        # the very limit does, and is taken whole.
        products = [replace(products[1], exponent=products[1].exponent + 1), products[0]]
    if inputs == "signs":
        products = _of_signs(products)
    rounding = 0.0
    if precision == "fixed":
        rounding, given_back = _given_back(products)
        products += given_back
    return EngineRule(
        declared,
        expressed,
        precision,
        inputs,
        scale,
        T,
        step,
        rounding,
        tuple(products),
        _fixed_weights() if precision == "fixed" else _float_weights(),
        *_compared(declared, expressed),
    )


def _floating(gate: Consolidation, T: float) -> tuple[float, list[Product]]:
    step = Product("x0", -1, 0, ("y1",))
    if isinstance(gate, Constant):
        return 1.0, [step]
    k = round(math.log2(T))
    if type(gate) is Linear:
        return 1.0, [
            step,
            Product("x0", 1, -k - 1, ("y1", "t", "sgn(t)")),
            Product("x0", 1, -k - 1, ("y2", "t")),
        ]
    return 1.0, [
        step,
        Product("x0", 1, -2 * k - 1, ("y1", "t", "t")),
        Product("x0", 1, -2 * k - 1, ("y2", "t", "t", "sgn(t)")),
    ]


def _fixed(gate: Consolidation, T: float) -> tuple[float, list[Product]]:
    """The finest step whose gate the scales can hold. w = +-128 adds 7 bits of value to the 9 it is charged."""
    if isinstance(gate, Constant):
        return 2.0**-3, [Product("x0", -1, -3, ("y1",))]
    k = round(math.log2(T))
    if type(gate) is Linear:
        step = max(-7, k - 11)
        half = step - 1 - k  # step / (2T)
        return 2.0**step, [
            Product("x0", -1, step, ("y1",)),
            Product("x0", 1, half + 7, ("y1", "t", "w")),
            Product("x0", 1, half + 5, ("y2", "t")),
        ]
    step = max(-7, 2 * k - 20)
    half = step - 1 - 2 * k  # step / (2 T**2)
    return 2.0**step, [
        Product("x0", -1, step, ("y1",)),
        Product("x0", 1, half + 14, ("y1", "t", "t")),
        Product("x0", 1, half + 16, ("y2", "t", "t", "w")),
    ]


def _of_signs(products: list[Product]) -> list[Product]:
    """(2 x0 - 1) instead of x0 where e stands; |e| acts whatever the input."""
    found: list[Product] = []
    for product in products:
        if "y2" in product.factors:
            found.append(Product("u0", product.mantissa, product.exponent, product.factors))
        else:
            found.append(Product("u0", -product.mantissa, product.exponent, product.factors))
            found.append(Product("x0", product.mantissa, product.exponent + 1, product.factors))
    return found


def _given_back(products: list[Product]) -> tuple[float, list[Product]]:
    """The mean of y3, and its products: half of the last bit of each product that is shifted, as near as scales allow.

    The unit is 2^-7 of a tag. Beside u0, the products of x0 drop more if the input spiked.
    """
    lost = {
        dependency: sum(2.0 ** (p.exponent + 6) for p in products if p.shift and p.dependency == dependency)
        for dependency in ("u0", "x0")
    }
    base = lost["u0"] or lost["x0"]
    given_back = [Product("u0" if lost["u0"] else "x0", 1, -7, ("y3",))] if base else []
    if lost["u0"] and lost["x0"]:
        extra = round(math.log2(lost["x0"] / base))
        if extra >= 0:
            given_back.append(Product("x0", 1, extra - 7, ("y3",)))
    return base, given_back


def _float_weights() -> tuple[Product, ...]:
    return Product("u0", -1, 0, ("w",)), Product("u0", 1, 7, ("sgn(t)",))


def _fixed_weights() -> tuple[Product, ...]:
    """The order matters: the sum must not saturate on the way."""
    return (
        Product("u0", -1, 0, ("w",)),
        Product("u0", 1, 7, ("sgn(w)",)),
        Product("y0", -1, 7, ("sgn(w)",)),
        Product("y0", 1, 6, ("sgn(t)",)),
        Product("y0", 1, 6, ("sgn(t+1)",)),
    )


def _compared(declared: Consolidation, expressed: Consolidation) -> tuple[float, float, float]:
    reach = _reach(declared)
    return reach, *_distance(declared, expressed, reach)


def _distance(declared: Consolidation, expressed: Consolidation, reach: float) -> tuple[float, float]:
    """Mean and largest distance of two gates from 0 to `reach`."""
    if declared == expressed:
        return 0.0, 0.0
    h = np.linspace(0.0, reach, 2001)
    apart = np.abs(declared(h) - expressed(h))
    return float(apart.mean()), float(apart.max())


def _reach(rule: Consolidation) -> float:
    """The h at which the gate has fallen to 0.01, or where its table ends; 1 for a gate that never falls."""
    if type(rule) is Table:
        return rule.points[-1]
    if rule.is_plain:
        return 1.0
    if is_polynomial(rule):
        return rule.T
    if type(rule) is Tanh2 or type(rule) is Exponential:
        h = np.linspace(0.0, 10.0, 10001) / rule.m
        return float(h[np.argmax(rule(h) <= _GONE)])
    h = np.geomspace(1e-9, 1e9, 18001)  # a function of the user's own has no unit that we know
    fallen = rule(h) <= _GONE
    if not fallen.any():
        raise ConversionError(f"{_named(rule)} never falls to {_GONE}, so no gate that ends is near to it")
    return float(h[np.argmax(fallen)])


def _named(rule: Consolidation) -> str:
    return type(rule).__name__ if type(rule) is Table else str(rule)


def _variable(factor: str) -> str:
    return factor[4] if factor.startswith("sgn") else factor


def _text(products: tuple[Product, ...]) -> str:
    text = products[0].text
    for product in products[1:]:
        text += f" - {product.text[1:]}" if product.mantissa < 0 else f" + {product.text}"
    return text
