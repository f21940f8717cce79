"""Functions of integers: what they are is found by evaluating them, and is then equal to them everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lava_meta.converters.functions.elementwise import Function
from lava_meta.converters.functions.expressions import Apply, Leaf, Source, is_shared, parts_of, replaced
from lava_meta.converters.functions.forms import Affine, Levels, Pieces, evaluate_pieces
from lava_meta.converters.weights import decompose

RNG = np.random.default_rng(0)
NARROW, WIDE = 300, 2**45


def function(op: Any, reach: int, *constants: Any, gain: float = 2.0**-5, shift: float = 0.0) -> Function:
    source = Source("s", (3, 4, 4), np.full((1, 1, 1), -reach), np.full((1, 1, 1), reach))
    scale = gain * NARROW / reach
    leaf = Leaf(source, np.full((1, 1, 1), scale), np.full((1, 1, 1), shift))
    tensors = [torch.as_tensor(constant, dtype=torch.float64).reshape(1, -1, 1, 1) for constant in constants]
    return Function(Apply(op, (leaf, *tensors), {}))


def probes(made: Function) -> NDArray[Any]:
    """Integers (k, *shared): random ones, all small ones, and both ends."""
    low, high = int(made.low.min()), int(made.high.max())
    x = np.concatenate([RNG.integers(low, high + 1, 2000), np.arange(-50, 51), [low, high]])
    return np.broadcast_to(x.reshape(-1, 1, 1, 1), (len(x), *made.shared)).copy()


def leveled(form: Levels, x: NDArray[Any]) -> NDArray[Any]:
    reached = (x[:, None] >= form.limits[None]).sum(axis=1)
    codes = np.take_along_axis(np.broadcast_to(form.codes, (len(form.codes), *x.shape[1:])), reached, axis=0)
    values: NDArray[Any] = codes * form.unit + form.offset
    return values


STEPS: dict[str, Any] = {
    "sign": lambda x: torch.where(x >= 0, 1.0, -1.0),
    "a sign of three values": torch.sign,
    "a falling sign": lambda x: torch.where(0.7 - x >= 0, 1.0, -1.0),
    "an interval": lambda x: torch.where((x - 0.5).abs() < 2, 1.0, -1.0),
    "spikes": lambda x: (x > 1.25).double(),
    "straight through": lambda x: (torch.sign(x + 0.3) - x.clamp(-1, 1)).detach() + x.clamp(-1, 1),
    "few bits": lambda x: torch.round(x.clamp(0, 1) * 7) / 7,
    "powers of two": lambda x: torch.sign(x) * 2 ** torch.round(torch.log2(x.abs().clamp(0.125, 4))),
}


@pytest.mark.parametrize("reach", [NARROW, WIDE])
@pytest.mark.parametrize("name", STEPS)
def test_levels(name: str, reach: int) -> None:
    made = function(STEPS[name], reach)
    form = made.form()
    assert isinstance(form, Levels)
    x = probes(made)
    assert np.abs(leveled(form, x) - made(x)).max() < 1e-9
    # On both sides of every limit too.
    limits = form.limits[np.abs(form.limits) <= reach].reshape(-1)
    for moved in (-1, 0):
        x = np.clip(limits + moved, -reach, reach).reshape(-1, 1, 1, 1)
        assert np.abs(leveled(form, x) - made(x)).max() < 1e-9


def test_steps_that_no_bounds_show_to_rise_are_levels_if_all_integers_are_computed() -> None:
    """So that a step on which the model's rounding decides counts as a tie."""
    made = function(lambda x: torch.round((x - torch.nn.functional.leaky_relu(x, 0.25)).clamp(-1, 1) * 3) / 3, NARROW)
    form, x = made.form(), probes(made)
    assert isinstance(form, Levels)
    assert np.abs(leveled(form, x) - made(x)).max() < 1e-9


def floats(x: Tensor, bits: int, least: float, most: float) -> Tensor:
    """Rounded to floats of so many bits behind the point, by the power of two below each size."""
    held = x.clamp(-most, most)
    step = 2.0 ** (torch.floor(torch.log2(held.abs())).clamp_min(least) - bits)
    return torch.round(held / step) * step


@pytest.mark.parametrize(("bits", "least", "most"), [(2, -14, 57344.0), (3, -15, 3.3), (1, -21, 2.0)])
def test_floats_of_few_bits_are_levels_though_they_lie_far_apart(bits: int, least: float, most: float) -> None:
    made = function(lambda x, high: floats(x, bits, least, most) * high, WIDE, [1.0, 0.7, 1.3])
    form = made.form()
    assert isinstance(form, Levels)
    assert form.fine
    assert len(form.limits) > 60
    near = (2.0 ** np.linspace(0, 45, 400)).astype(np.int64)
    near = np.broadcast_to(np.append(near, -near).reshape(-1, 1, 1, 1), (800, *made.shared))
    x = np.concatenate([probes(made), near])
    np.testing.assert_allclose(leveled(form, x), made(x), rtol=0, atol=1e-12 * most)


def test_powers_of_two_are_levels_down_to_the_least_integer() -> None:
    """Samples show those far from 0 alone, which are multiples of one number."""
    made = function(lambda x: torch.sign(x) * 2 ** torch.round(torch.log2(x.abs())), WIDE)
    form = made.form()
    assert isinstance(form, Levels)
    x = np.broadcast_to((2.0 ** np.linspace(0, 45, 900)).astype(np.int64).reshape(-1, 1, 1, 1), (900, *made.shared))
    np.testing.assert_allclose(leveled(form, np.concatenate([x, -x])), made(np.concatenate([x, -x])), atol=1e-14)


def test_what_remains_of_rounding_is_rounded_more_finely() -> None:
    """Steps up and down whose sum rises, which no operation shows."""

    def twice(x: Tensor) -> Tensor:
        held = x.clamp(0, 3)
        return (coarse := torch.round(held)) + torch.round((held - coarse) * 17) / 17

    made = function(twice, WIDE)
    form = made.form()
    assert isinstance(form, Levels)
    x = probes(made)
    np.testing.assert_allclose(leveled(form, x), made(x), atol=1e-12)


def test_curves_are_no_floats_of_few_bits() -> None:
    """Far from 0 they change at few of the samples."""
    made = function(torch.tanh, WIDE, gain=2.0**6)
    assert isinstance(made.form(), Pieces)


@pytest.mark.parametrize("reach", [NARROW, WIDE])
def test_limits_of_each_channel(reach: int) -> None:
    gains, shifts = [2.0, -1.5, 0.0], [0.3, -0.4, 0.1]
    made = function(lambda x, g, b: torch.where(x * g + b >= 0, 1.0, -1.0), reach, gains, shifts)
    form = made.form()
    assert isinstance(form, Levels)
    assert form.codes.shape[1:] == (3, 1, 1)
    x = probes(made)
    assert (leveled(form, x) == made(x)).all()


def rounded(x: Any, count: float, low: float, high: float) -> Any:
    """`count` + 1 levels from `low` to `high`, none of which need be 0, by operations that are proven to rise."""
    scale = (high - low) / count
    for op, number in (
        (torch.sub, low),
        (torch.div, scale),
        (torch.clamp_min, 0),
        (torch.clamp_max, count),
        (torch.round, None),
        (torch.mul, scale),
        (torch.add, low),
    ):
        x = Apply(op, (x,) if number is None else (x, number), {})
    return x


OFFSET: dict[str, Any] = {
    "two values": lambda x: Apply(lambda x: torch.where((x - 0.3).abs() < 2, 0.71, -0.4), (x,), {}),
    "few bits": lambda x: rounded(x, 7, -1.37, 2.1),
    "8 bits": lambda x: rounded(x, 255, -1.37, 2.1),
    "falling": lambda x: Apply(torch.mul, (rounded(x, 30, -1.37, 2.1), -1), {}),
}


@pytest.mark.parametrize("reach", [20 * NARROW, WIDE])
@pytest.mark.parametrize("name", OFFSET)
def test_levels_from_an_offset(name: str, reach: int) -> None:
    made = Function(OFFSET[name](function(None, reach).expr.args[0]))
    form, x = made.form(), probes(made)
    assert isinstance(form, Levels)
    assert not form.fine
    assert (name == "two values") == (set(form.codes.reshape(-1).tolist()) == {-1, 1})
    limits = form.limits.reshape(-1, 1, 1, 1)
    for points in (x, limits, np.clip(limits - 1, -reach, reach)):
        assert np.abs(leveled(form, points) - made(points)).max() < 1e-14


def test_as_many_levels_as_fixed_point_has() -> None:
    made = Function(rounded(function(None, WIDE).expr.args[0], 2**14, -8, 8))
    form, x = made.form(), probes(made)
    assert isinstance(form, Levels)
    assert form.unit == 2.0**-10
    x = np.concatenate([x, form.limits, form.limits - 1])
    reached = np.searchsorted(form.limits.reshape(-1), x, side="right")
    assert (form.values.reshape(-1)[reached] == made(x)).all()


@pytest.mark.parametrize("reach", [20 * NARROW, WIDE])
def test_levels_of_each_channel_that_are_multiples_of_no_number(reach: int) -> None:
    """As of few-bit values behind a norm and a rectifier."""
    gains, shifts = (torch.tensor(part).double().reshape(1, 3, 1, 1) for part in ([1.3, -0.7, 0.0], [-0.41, 0.2, 0.33]))
    normed = Apply(torch.mul, (rounded(function(None, reach).expr.args[0], 255, -1.37, 2.1), gains), {})
    made = Function(Apply(torch.relu, (Apply(torch.add, (normed, shifts), {}),), {}))
    form, x = made.form(), probes(made)
    assert isinstance(form, Levels)
    assert form.fine
    limits = np.where(form.limits <= reach, form.limits, 0)
    for points in (x, limits, limits - 1):
        assert np.abs(leveled(form, points) - made(points)).max() < 1e-14


LINES: dict[str, Any] = {
    "relu": torch.relu,
    "hardtanh": lambda x: x.clamp(-1, 2),
    "leaky": lambda x: torch.where(x > 0.2, x, 0.1 * x),
    "a jump": lambda x: torch.where(x > 0.5, x + 1, x - 1),
    "a valley": lambda x: (x - 0.25).abs(),
}


@pytest.mark.parametrize("reach", [NARROW, WIDE])
@pytest.mark.parametrize("name", LINES)
def test_lines(name: str, reach: int) -> None:
    made = function(LINES[name], reach, gain=0.0317)
    form = made.form()
    assert isinstance(form, Pieces)
    assert len(form.start) <= 4
    x = probes(made)
    assert np.abs(evaluate_pieces(form, x) - made(x)).max() <= form.error + 1e-12


@pytest.mark.parametrize("op", [torch.tanh, torch.sigmoid, torch.nn.functional.silu, lambda x: 1 / (1 + x * x)])
def test_curves(op: Any) -> None:
    for reach, bound in ((NARROW, 0.0), (WIDE, 1e-7)):
        made = function(op, reach)
        form = made.form()
        assert isinstance(form, Pieces)
        x = probes(made)
        assert np.abs(evaluate_pieces(form, x) - made(x)).max() <= bound


def test_an_affine_function() -> None:
    made = function(lambda x, g: (x * g - 0.5) / 0.25, WIDE, [1.0, -2.0, 3.0])
    form = made.form()
    assert isinstance(form, Affine)
    x = probes(made)
    assert np.abs(form.slope * x + form.offset - made(x)).max() < 1e-10


def test_steps_between_neighbours_and_bends() -> None:
    """Units with fewer pieces are filled up: what stands there is no step."""
    never = np.iinfo(np.int64).max
    bent = Pieces(
        np.array([[-100, -100], [3, never]]), np.array([[0.25, 1.0], [1.0, 1.0]]), np.array([[-25, -100.0], [3, 0]]), 0
    )
    np.testing.assert_array_equal(bent.changes(-np.inf, np.inf)[0], [1 + 2.25, 1])  # a slope, and a jump of 2.25 at 3
    table = Pieces(np.arange(-2, 3)[:, None], np.zeros((5, 1)), np.array([[0.0], [0.5], [0.75], [4], [4.5]]), 0)
    np.testing.assert_array_equal(table.changes(-np.inf, np.inf)[0], [3.25])


def test_a_function_that_gives_nan() -> None:
    with pytest.raises(ValueError, match="gives NaN or infinity"):
        function(torch.log, NARROW).form()


def test_the_parts_that_a_function_can_be_cut_at() -> None:
    made = function(lambda x, g: x * g, WIDE, [1.0, 2.0, 3.0])
    inner, leaf = made.expr, made.leaf
    bent = Apply(torch.tanh, (inner,), {})
    gated = Apply(torch.mul, (inner, bent), {})
    outer = Apply(torch.add, (gated, 1.0), {})
    assert [id(part) for part in parts_of(outer)] == [id(leaf), id(inner), id(gated)]  # both ways pass these
    assert is_shared(leaf)
    assert not is_shared(gated)
    assert is_shared(replaced(gated, inner, leaf))


def test_weights() -> None:
    signs = RNG.choice([-1, 1], (4, 9)) * np.array([0.3, 0.1, 2.5, 1e-4])[:, None]
    made = decompose(signs, 1, 2**60)
    assert (np.abs(made.integers) == 1).all()
    assert np.allclose(made.integers * made.unit, signs, rtol=1e-15)
    few = RNG.integers(-7, 8, (4, 9)) * 0.0371
    made = decompose(few, 1, 2**60)
    assert np.abs(made.integers).max() <= 7
    real = RNG.normal(size=(4, 9)).astype(np.float32).astype(np.float64)
    made = decompose(real, 255, 2**60)
    assert made.error == 0
    assert (made.integers * made.unit == real).all()
    coarse = decompose(real, 2**40, 2**60)
    assert 0 < coarse.error <= 0.5
    assert np.abs(coarse.integers).sum(axis=1).max() * 2**40 < 2**61
    assert (decompose(np.zeros((2, 3)), 5, 2**60).integers == 0).all()


def test_steps_around_where_an_inner_line_is_0() -> None:
    """Powers of two: steps ever narrower around the zero of a norm, which is no zero of what the norm takes."""

    def power(x: Any, mean: Any, factor: Any) -> Any:
        return torch.pow(2.0, torch.round(torch.log2(((x - mean) * factor).abs() + 1e-3)))

    def expr(source: Leaf, mean: torch.Tensor, factor: torch.Tensor) -> Apply:
        centred = Apply(torch.sub, (source, mean), {})
        size = Apply(torch.abs, (Apply(torch.mul, (centred, factor), {}),), {})
        log = Apply(torch.log2, (Apply(torch.add, (size, 1e-3), {}),), {})
        return Apply(torch.pow, (2.0, Apply(torch.round, (log,), {})), {})

    source = Source("s", (3, 4, 4), np.full((1, 1, 1), -WIDE), np.full((1, 1, 1), WIDE))
    leaf = Leaf(source, np.full((1, 1, 1), 10.0 / WIDE), np.zeros((1, 1, 1)))
    mean, factor = (
        torch.tensor(row, dtype=torch.float64).reshape(1, -1, 1, 1) for row in ([0.3, -4.1, 7.7], [1.0, -2.0, 0.5])
    )
    made = Function(expr(leaf, mean, factor))
    form = made.form()
    assert isinstance(form, Levels)
    near = (mean.numpy().reshape(-1) / 10 * WIDE).astype(np.int64) + RNG.integers(-(2**34), 2**34, (20000, 1))
    x = np.broadcast_to(near[:, :, None, None], (len(near), *made.shared))
    np.testing.assert_array_equal(leveled(form, x), power(leaf.values(x), mean, factor).numpy())
