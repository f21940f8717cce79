"""The synapses of a `LearningDense`, without Lava: its integers bit for bit, its floats operation by operation.

One call of `step` is the learning phase of one time step:

    x0   inputs that spiked        y0   neurons that spiked        u0 = 1
    y    traces as the neurons sent them, times exp(-1/65535): the slowest decay that the engine has

    fixed   decayed traces are rounded at random; those of a neuron that spikes are clamped to 0 .. 127, so that a
            negative one is lost; tags (7 fraction bits) and weights (7) are widened to 16 bits, every
            product is multiplied out in 32 bits, shifted right by `Product.shift`, left by its scale, and clamped, as
            is every sum; the new values are rounded at random to whole numbers and clamped: tags to -257 .. 255,
            weights to -256 .. 255
    float   the same products in float64, neither rounded nor clamped

Weights and tags step at once, from the values before: a weight follows the tag of the step before.

Lava draws one number per time step for the rounding of all weights and tags of a layer, from a generator of its own
that is always seeded with 2, whatever the seed of the learning rule; and two for that of traces, of which the last is
used, seeded with the rule's seed + 2. So every run of a layer uses the same draws, and two layers use the same ones.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.rule.lowering import ACCUMULATOR_BITS, TRACE_LIMIT, WIDTHS, EngineRule, Product

TRACE_DECAY = math.exp(-1 / 65535)
_ROUNDING_SEED = 2  # Lava's own
_LOW, _HIGH = -(2**ACCUMULATOR_BITS) - 1, 2**ACCUMULATOR_BITS - 1
_FRACTION = 7
TAG_RANGE, WEIGHT_RANGE = (-257, 255), (-256, 255)


class EngineSynapses:
    """Weights and tags (units, inputs) of one layer: int64 in fixed point, float64 else.

    seed: of the learning rule in Lava. compiled: `learn` steps the tags of fixed point by `compiled.learning_engine`.
    """

    def __init__(self, rule: EngineRule, tags: NDArray[Any], seed: int = 0, *, compiled: bool = False) -> None:
        self.rule, self.compiled = rule, compiled
        self.fixed = rule.precision == "fixed"
        self.tags = tags.astype(np.int64 if self.fixed else np.float64)
        self.weights = np.where(tags >= 0, 128, -128).astype(self.tags.dtype)
        self._rounding, self._decay = np.random.default_rng(_ROUNDING_SEED), np.random.default_rng(seed + 2)
        self._rounding.random()  # drawn when the model is made
        self._decay.random()

    def step(self, x0: NDArray[Any], y0: NDArray[Any], traces: dict[str, NDArray[Any]]) -> None:
        """x0 bool (inputs,), y0 bool (units,), traces y1, y2, y3 (units,)."""
        draw = self._rounding.random()
        self._decay.random()
        decay = self._decay.random() if self.fixed else None
        arguments = self._arguments(x0, y0, {name: _decayed(y, y0, decay) for name, y in traces.items()})
        weights, tags = self._sum(self.rule.weights, "w", arguments), self._sum(self.rule.tags, "t", arguments)
        if self.fixed:
            weights = np.clip(_rounded(weights, draw), *WEIGHT_RANGE)
            tags = np.clip(_rounded(tags, draw), *TAG_RANGE)
        self.weights, self.tags = weights, tags

    def wide_tags(self, x0: NDArray[Any], y0: NDArray[Any], traces: dict[str, NDArray[Any]]) -> NDArray[Any]:
        """The tags that `step` would round, in fixed point with 7 fraction bits, of traces that have decayed."""
        return self._sum(self.rule.tags, "t", self._arguments(x0, y0, traces))

    def _arguments(self, x0: NDArray[Any], y0: NDArray[Any], traces: dict[str, NDArray[Any]]) -> dict[str, Any]:
        values = {name: y[:, None] for name, y in traces.items()}
        return {"x0": x0[None, :], "y0": y0[:, None], "u0": 1, "w": self.weights, "t": self.tags} | values

    def learn(self, x0: NDArray[Any], traces: dict[str, NDArray[Any]], steps: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """All `steps` time steps of an image, of which the last has these traces and the first made the neurons spike.

        The tags become what `steps` calls of `step` make of them, but only the synapses that can change are computed;
        `weights` are left as they are. Returns the units and the inputs between which synapses may have changed.
        """
        self._rounding.random(steps - 1)
        self._decay.random(2 * steps - 1)
        draw, decay = self._rounding.random(), self._decay.random() if self.fixed else None
        silent = np.zeros(len(self.tags), bool)
        values = {name: _decayed(y, silent, decay) for name, y in traces.items()}
        units = np.flatnonzero(np.any(list(values.values()), axis=0))
        always = any(product.dependency == "u0" for product in self.rule.tags)
        inputs = np.arange(len(x0)) if always else np.flatnonzero(x0)
        if self.compiled and self.fixed:
            from lava_meta.online_learning.compiled.learning_engine import WIDTH, step_tags, table

            rows = np.array([values["y1"], values["y2"], values["y3"]], np.int64)
            step_tags(self.tags, units, inputs, x0, rows, table(self.rule.tags), WIDTH, draw)
            return units, inputs
        chosen = np.ix_(units, inputs)
        arguments = {"x0": x0[None, inputs], "y0": silent[units, None], "u0": 1} | {
            name: value[units, None] for name, value in values.items()
        }
        before = self.tags[chosen]
        weights = np.where(before >= 0, 128, -128).astype(before.dtype)
        tags = self._sum(self.rule.tags, "t", arguments | {"w": weights, "t": before})
        self.tags[chosen] = np.clip(_rounded(tags, draw), *TAG_RANGE) if self.fixed else tags
        return units, inputs

    def sums(self, x0: NDArray[Any]) -> NDArray[Any]:
        """int64 (units,): of the signs of the tags, over the inputs that spiked."""
        sums: NDArray[Any] = np.where(self.tags[:, x0] >= 0, 1, -1).sum(axis=1)
        return sums

    def _sum(self, products: tuple[Product, ...], variable: str, arguments: dict[str, Any]) -> NDArray[Any]:
        before: NDArray[Any] = arguments[variable]
        if not self.fixed:
            change = _float_value(products[0], arguments)
            for product in products[1:]:
                change = change + _float_value(product, arguments)
            after: NDArray[Any] = before + change
            return after
        result: NDArray[Any] = before << _FRACTION
        for product in products:
            result = np.clip(result + _fixed_value(product, arguments), _LOW, _HIGH)
        return result


def _fixed_value(product: Product, arguments: dict[str, Any]) -> NDArray[Any]:
    value = np.ones(arguments["t"].shape, np.int32) * np.int32(arguments[product.dependency])
    for factor in product.factors:
        bound = 1 << WIDTHS[factor[4] if factor.startswith("sgn") else factor]
        value *= _factor(factor, arguments).clip(-bound, bound - 1).astype(np.int32)
    value *= np.int32(product.mantissa)
    return (value >> product.shift << product.exponent + 7).clip(_LOW, _HIGH)


def _float_value(product: Product, arguments: dict[str, Any]) -> NDArray[Any]:
    value: NDArray[Any] = product.mantissa * 2.0**product.exponent * arguments[product.dependency]
    for factor in product.factors:
        value = value * _factor(factor, arguments)
    return value


def _factor(factor: str, arguments: dict[str, Any]) -> NDArray[Any]:
    signed = factor.startswith("sgn")
    value: NDArray[Any] = arguments[factor[4] if signed else factor]
    return np.sign(value + int(factor[5:-1] or 0)) if signed else value


def _decayed(trace: NDArray[Any], y0: NDArray[Any], draw: float | None) -> NDArray[Any]:
    value: NDArray[Any] = TRACE_DECAY * trace
    if draw is None:
        return value
    whole = np.floor(value)
    decayed: NDArray[Any] = (whole + (draw < value % 1)).astype(np.int64)
    return np.where(y0, np.clip(decayed, 0, TRACE_LIMIT), decayed)


def _rounded(values: NDArray[Any], draw: float) -> NDArray[Any]:
    part = values / 2**_FRACTION
    rounded: NDArray[Any] = (np.floor(part) + (draw < part % 1)).astype(np.int64)
    return rounded
