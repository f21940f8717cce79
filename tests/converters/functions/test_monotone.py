"""What is proven of functions from their operations holds on every integer, and gives what evaluating all would."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lava_meta.converters.functions.elementwise import Function
from lava_meta.converters.functions.expressions import Apply, Expr, Leaf, Source, cancelled, evaluate
from lava_meta.converters.functions.forms import Affine, Levels
from lava_meta.converters.functions.monotone import BatchNorm, Cast, prove

ATEN = torch.ops.aten
UNITS = 5
LOW, HIGH = -40, 45


def leaf(step: int = 1) -> Leaf:
    rng = np.random.default_rng(0)
    source = Source("s", (UNITS,), np.full(UNITS, LOW), np.full(UNITS, HIGH + (step == 2)), step=step)
    return Leaf(source, rng.normal(size=UNITS), rng.normal(size=UNITS))


def row(*numbers: float) -> torch.Tensor:
    return torch.tensor([numbers], dtype=torch.float64)


ONES, MIXED = row(*[1.0] * UNITS), row(1.0, -2.0, 0.0, 0.3, -0.7)


def norm(x: Expr) -> Expr:
    return Apply(BatchNorm(1e-5), (x, row(*range(UNITS)), ONES * 2, MIXED, -MIXED), {})


MONOTONE: dict[str, Any] = {
    "norm and sign": lambda x: Apply(ATEN.sign.default, (norm(x),), {}),
    "clipped": lambda x: Apply(ATEN.hardtanh.default, (norm(x),), {}),
    "spikes": lambda x: Apply(Cast(torch.float64), (Apply(ATEN.gt.Scalar, (x, 0.25), {}),), {}),
    "turned bits": lambda x: Apply(ATEN.logical_not.default, (Apply(ATEN.le.Scalar, (x, 3.0), {}),), {}),
    "choice": lambda x: Apply(ATEN.where.self, (Apply(ATEN.lt.Tensor, (MIXED, x), {}), -ONES, MIXED), {}),
    "rsub": lambda x: Apply(ATEN.rsub.Scalar, (x, 3.0, 2), {}),
    "sub with alpha": lambda x: Apply(ATEN.sub.Tensor, (x, MIXED), {"alpha": -2}),
    "constant less": lambda x: Apply(ATEN.sub.Tensor, (MIXED, x), {}),
    "quotient": lambda x: Apply(ATEN.div.Tensor, (x, MIXED + 0.05), {}),
    "few bits": lambda x: Apply(ATEN.round.default, (Apply(ATEN.clamp.default, (x, -3.0, 3.0), {}),), {}),
    "two rising": lambda x: Apply(ATEN.add.Tensor, (x, Apply(ATEN.relu.default, (x,), {})), {}),
    "prelu": lambda x: Apply(ATEN._prelu_kernel.default, (x, MIXED.abs()), {}),
    "lesser by a choice": lambda x: Apply(ATEN.where.self, (Apply(ATEN.lt.Tensor, (x, MIXED), {}), x, MIXED), {}),
    "greater by a choice": lambda x: Apply(ATEN.where.self, (Apply(ATEN.ge.Scalar, (x, 0.5), {}), x, row(0.5)), {}),
    "turned choice": lambda x: Apply(ATEN.where.self, (Apply(ATEN.gt.Tensor, (MIXED, x), {}), MIXED, x), {}),
    "least": lambda x: Apply(ATEN.minimum.default, (x, MIXED), {}),
}
UNKNOWN: dict[str, Any] = {
    "size": lambda x: Apply(ATEN.abs.default, (x,), {}),
    "square": lambda x: Apply(ATEN.mul.Tensor, (x, x), {}),
    "reciprocal": lambda x: Apply(ATEN.div.Tensor, (1.0, x), {}),
    "own function": lambda x: Apply(lambda y: y, (x,), {}),
    "bits of numbers": lambda x: Apply(Cast(torch.bool), (x,), {}),
    "falling prelu": lambda x: Apply(ATEN._prelu_kernel.default, (x, MIXED), {}),
    "two choices": lambda x: Apply(ATEN.where.self, (Apply(ATEN.gt.Scalar, (x, 0.0), {}), x, 1.0), {}),
    "choice of another": lambda x: Apply(
        ATEN.where.self, (Apply(ATEN.gt.Scalar, (Apply(ATEN.neg.default, (x,), {}), 0.0), {}), x, 0.0), {}
    ),
}


def every(expr: Expr, own: Leaf) -> np.ndarray:
    x = np.broadcast_to(np.arange(LOW, HIGH + 1)[:, None], (HIGH + 1 - LOW, UNITS))
    found = evaluate(expr, own.values(x)).double().numpy()
    return np.broadcast_to(found, x.shape)


@pytest.mark.parametrize("name", MONOTONE)
def test_what_is_proven_holds(name: str) -> None:
    own = leaf()
    expr = MONOTONE[name](own)
    proof = prove(expr, own.source.low, own.source.high)
    assert proof is not None
    values = every(expr, own)
    steps = np.diff(values, axis=0)
    assert (proof.rises | proof.falls).all()
    assert (steps[:, proof.rises] >= 0).all()
    assert (steps[:, proof.falls] <= 0).all()
    np.testing.assert_array_equal(proof.ends.double().numpy(), values[[0, -1]])
    if proof.error is not None:
        line = np.linspace(values[0], values[-1], len(values))
        assert (np.abs(values - line) <= 4 * proof.error + 1e-15).all()


@pytest.mark.parametrize("name", UNKNOWN)
def test_nothing_is_claimed_of_others(name: str) -> None:
    own = leaf()
    proof = prove(UNKNOWN[name](own), own.source.low, own.source.high)
    assert proof is None or not (proof.rises | proof.falls).all()


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("name", ["norm and sign", "choice", "few bits", "spikes"])
def test_bisection_finds_what_evaluating_all_finds(name: str, step: int) -> None:
    own = leaf(step)
    expr = MONOTONE[name](own)
    # The same behind a function of which nothing is known, so that all integers are computed.
    hidden = Apply(lambda y: y, (expr,), {})
    found, expected = Function(expr).form(), Function(hidden).form()
    assert isinstance(found, Levels)
    assert isinstance(expected, Levels)
    np.testing.assert_array_equal(found.limits, expected.limits)
    np.testing.assert_array_equal(found.codes * found.unit, expected.codes * expected.unit)


def test_a_line_needs_no_samples() -> None:
    own = leaf()
    form = Function(norm(own)).form()
    assert isinstance(form, Affine)
    x = np.arange(LOW, HIGH + 1)[:, None]
    assert (np.abs(form.slope * x + form.offset - every(norm(own), own)) <= form.error).all()
    assert form.error < 1e-12


def test_terms_that_cancel() -> None:
    own = leaf()
    sign = Apply(ATEN.sign.default, (own,), {})
    clip = Apply(ATEN.mul.Tensor, (own, own), {})
    whole = Apply(ATEN.add.Tensor, (Apply(ATEN.sub.Tensor, (sign, clip), {}), clip), {})
    shorter, gone = cancelled(whole)
    assert gone == [clip, clip]
    np.testing.assert_array_equal(every(shorter, own), every(sign, own))
    # Not if they do not: other terms, or scaled ones.
    assert cancelled(Apply(ATEN.add.Tensor, (Apply(ATEN.sub.Tensor, (sign, clip), {}), own), {}))[1] == []
    scaled = Apply(ATEN.add.Tensor, (Apply(ATEN.sub.Tensor, (sign, clip), {"alpha": 2}), clip), {})
    assert cancelled(scaled)[1] == []


def test_units_with_equal_numbers_are_computed_once() -> None:
    """As positions inside an image, where those at the border have other sums."""
    low = np.full((3, 8, 8), -9)
    low[:, 0], low[:, :, 0] = -6, -6
    own = Leaf(Source("s", (3, 8, 8), low, -low), np.ones((3, 1, 1)), np.broadcast_to(low * 0.5, (3, 8, 8)).copy())
    weight = torch.tensor([1.0, -1.0, 2.0], dtype=torch.float64).reshape(1, 3, 1, 1)
    made = Function(Apply(ATEN.sign.default, (Apply(ATEN.mul.Tensor, (own, weight), {}),), {}))
    assert made.low.shape == (6,)
    form = made.form()
    assert isinstance(form, Levels)
    assert form.limits.shape[1:] == (3, 8, 8)
    x = np.random.default_rng(0).integers(-6, 7, (40, 3, 8, 8))
    reached = (x[:, None] >= form.limits[None]).sum(axis=1)
    codes = np.take_along_axis(np.broadcast_to(form.codes, (len(form.codes), *x.shape[1:])), reached, axis=0)
    np.testing.assert_array_equal(codes * form.unit, made(x))
