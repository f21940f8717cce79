"""The declared rule as strings for Lava's learning engine, where it can express it.

The engine adds products: each has one dependency (x0: the input spiked; u0: always), a scale 2**k with k from -7 to 8,
and factors from the traces y1, y2, the weight w, the tag t and sgn(.). There is no division and no tanh.
The tag is the hidden weight, in units in which a step of the rule is one; the weight is its sign:

    y1 = e, y2 = |e|     e: what a synapse with an active input shall be lowered by

    linear      f = 1 - |t|/T        dt = -x0 e + x0 e |t|/(2T) + x0 |e| t/(2T)
    quadratic   f = 1 - (t/T)**2     dt = -x0 e + x0 e t**2/(2T**2) + x0 |e| t|t|/(2T**2)
    plain       f = 1                dt = -x0 e
    every rule                       dw = 2**7 u0 sgn(t) - u0 w

The two middle terms add where the step shrinks |t|, and cancel where it does not. T is a power of two whose scale the
engine has. Nothing clamps a tag: beyond T the gate turns negative, and a weight that is there never comes back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lava_meta.errors import ConversionError
from lava_meta.rule import Consolidation, Constant, Linear, Quadratic

TRACE_DECAY = math.exp(-1 / 65535)  # the slowest that a post-synaptic trace can have, once an epoch
_LEAST_EXPONENT = -7


@dataclass(frozen=True)
class EngineRule:
    """A rule in the engine's language. `T`: where the gate reaches 0, in units of the tag (infinite without a gate)."""

    dt: str
    dw: str
    T: float
    consolidation: Consolidation


def engine_rule(consolidation: Consolidation) -> EngineRule:
    """Lower a consolidation function of the tag. Raises ConversionError, naming the nearest that can be expressed."""
    dw = "2^7*u0*sgn(t) - u0*w"
    if isinstance(consolidation, Constant):
        return EngineRule("-x0*y1", dw, math.inf, consolidation)
    if isinstance(consolidation, Linear):
        k = -(_exponent(consolidation.T, largest=-_LEAST_EXPONENT - 1) + 1)
        return EngineRule(f"-x0*y1 + 2^{k}*x0*y1*t*sgn(t) + 2^{k}*x0*y2*t", dw, consolidation.T, consolidation)
    if isinstance(consolidation, Quadratic):
        k = -(2 * _exponent(consolidation.T, largest=(-_LEAST_EXPONENT - 1) // 2) + 1)
        return EngineRule(f"-x0*y1 + 2^{k}*x0*y1*t*t + 2^{k}*x0*y2*t*t*sgn(t)", dw, consolidation.T, consolidation)
    raise ConversionError(
        f"the learning engine cannot express {consolidation}: it adds products, without division, exponential or tanh. "
        "The nearest that it can are Linear(T) and Quadratic(T): for Tanh2(m) Quadratic(1/m), for Exponential(m) "
        "Linear(1/m), with T a power of two"
    )


def engine_step(tag: np.ndarray, x: np.ndarray, step: np.ndarray, rule: EngineRule) -> np.ndarray:
    """The twin: tags float64 (classes, n_in) after one image x (n_in,) of 0 and 1 and steps `e` (classes,)."""
    e = (step * TRACE_DECAY)[:, None] * x[None, :]
    if rule.consolidation.is_plain:
        return tag - e
    distance = np.abs(tag) / rule.T
    share = distance if isinstance(rule.consolidation, Linear) else distance**2
    sgn = np.sign(tag)
    return tag - e + (e * share + np.abs(e) * share * sgn) / 2


def _exponent(T: float, largest: int) -> int:
    exponent = math.log2(T)
    if not exponent.is_integer() or not 0 <= exponent <= largest:
        raise ConversionError(
            f"T is {T:g}; the learning engine's scales are powers of two, so T is one of 1, 2, ..., {2**largest}: "
            "choose the nearest, and give steps in the same units"
        )
    return int(exponent)
