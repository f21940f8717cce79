"""The rule as declared: every consolidation function on both libraries, and the pure update."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from decimal import Decimal, localcontext
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from own_function import Soft

from lava_meta.rule import (
    BUILT_IN,
    CONSOLIDATIONS,
    Consolidation,
    Constant,
    Exponential,
    Linear,
    PlainFunction,
    Quadratic,
    Table,
    Tanh2,
    Towards,
    as_consolidation,
    consolidation_from_dict,
    metaplastic_update,
    register_consolidation,
    sign,
)

FUNCTIONS = [
    Constant(),
    Tanh2(0.0),
    Tanh2(1.35),
    Tanh2(13),
    Exponential(0.0),
    Exponential(2.0),
    Linear(2.0),
    Linear(127),
    Quadratic(0.3),
    Towards(2.0),
    Towards(0.3, floor=0.1, power=2.0),
    Towards(1.0, floor=0.02, power=1.5),
    Table([0.0, 0.1, 1.0, 3.0], [1.0, 0.7, 0.7, 0.05]),
]
every_function = pytest.mark.parametrize("f", FUNCTIONS, ids=repr)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def equation(f: Consolidation, h: float) -> float:
    """f(h) in 60 decimal digits, from the equations of docs/rules.md; the reference for the values."""
    with localcontext() as context:
        context.prec = 60
        a = abs(Decimal(h))
        if isinstance(f, Tanh2):
            x = Decimal(f.m) * a
            return float((2 / (x.exp() + (-x).exp())) ** 2)
        if isinstance(f, Exponential):
            return float((-Decimal(f.m) * a).exp())
        if isinstance(f, Linear):
            return float(max(Decimal(0), 1 - a / Decimal(f.T)))
        if isinstance(f, Quadratic):
            return float(max(Decimal(0), 1 - (a / Decimal(f.T)) ** 2))
        if isinstance(f, Towards):
            left = max(Decimal(0), 1 - a / Decimal(f.T)) ** Decimal(f.power)
            return float(Decimal(f.floor) + (1 - Decimal(f.floor)) * left)
        if isinstance(f, Table):
            return float(np.interp(float(a), f.points, f.values))
        return 1.0


def ladder(dtype: Any) -> np.ndarray:
    """Both signs, from the smallest to the largest hidden weights that make sense, and 0."""
    positive = np.concatenate([np.geomspace(1e-6, 200, 400), np.linspace(0.001, 4, 401)])
    return np.concatenate([-positive[::-1], [0.0], positive]).astype(dtype)


def test_every_kind_is_tested() -> None:
    assert {type(f) for f in FUNCTIONS} == {*BUILT_IN}
    assert {function.kind: function for function in BUILT_IN}.items() <= CONSOLIDATIONS.items()


# --- sign ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float16, np.float32, np.float64])
def test_sign_is_plus_one_at_zero_and_keeps_the_dtype(dtype: Any) -> None:
    x = np.array([[-3, -1, 0], [-0.0, 1, 5]], dtype=dtype)
    expected = np.array([[-1, -1, 1], [1, 1, 1]], dtype=dtype)
    for result in (sign(x), sign(torch.from_numpy(x)).numpy()):
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, expected)


# --- the functions ------------------------------------------------------------------------------------------------


@every_function
@every_dtype
def test_values_follow_the_equation(f: Consolidation, dtype: Any) -> None:
    """Relative error: a few roundings, and those of m*|h|, which an exponential multiplies. Where the gate is cut at
    T or interpolated, a few roundings of 1."""
    h = ladder(dtype)
    exact = np.array([equation(f, x) for x in h.tolist()])
    eps, tiny = np.finfo(dtype).eps, np.finfo(dtype).tiny
    if isinstance(f, Tanh2 | Exponential):
        bound = exact * eps * (4 + 2 * f.m * np.abs(h.astype(np.float64))) + tiny
    else:
        bound = np.full(h.shape, 2 * eps)
    assert (np.abs(f(h).astype(np.float64) - exact) <= bound).all()


@every_function
@every_dtype
def test_shape_of_every_function(f: Consolidation, dtype: Any) -> None:
    """In [0, 1], 1 at 0, even, never rising with |h| beyond rounding."""
    h = ladder(dtype)
    values = f(h)
    assert values.min() >= 0
    assert values.max() <= 1
    assert values[len(h) // 2] == 1
    np.testing.assert_array_equal(values, values[::-1])
    rises = np.diff(f(np.sort(np.abs(h))).astype(np.float64))
    assert rises.max() <= np.finfo(dtype).eps


@every_function
def test_never_above_one_close_to_zero(f: Consolidation) -> None:
    """Every float32 scale near 0, where 1 - r and 1 + r round. The optimizers rely on f <= 1."""
    h = np.geomspace(1e-9, 1e-2, 200_000).astype(np.float32)
    assert f(h).max() <= 1
    assert f(torch.from_numpy(h)).max() <= 1


@every_function
@every_dtype
def test_numpy_and_torch_agree(f: Consolidation, dtype: Any) -> None:
    """To the last places: only exp and powers, which each library rounds in its own way, can differ."""
    h = ladder(dtype)
    ours, theirs = f(h), f(torch.from_numpy(h)).numpy()
    normal = np.maximum(np.abs(ours), np.finfo(dtype).tiny)  # torch's vector exp may flush denormals
    ulps = np.abs(ours - theirs) / np.spacing(normal)
    assert ulps.max() <= (4 if isinstance(f, Tanh2 | Exponential | Towards) else 0)


@every_function
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3, 4)])
def test_kind_shape_and_dtype_are_kept(f: Consolidation, shape: tuple[int, ...]) -> None:
    for dtype in (np.float32, np.float64):
        h = np.full(shape, 0.5, dtype)
        assert (f(h).shape, f(h).dtype) == (shape, dtype)
    for torch_dtype in (torch.float32, torch.float64, torch.bfloat16):
        tensor = torch.full(shape, 0.5, dtype=torch_dtype)
        assert (f(tensor).shape, f(tensor).dtype) == (shape, torch_dtype)
    strided = np.arange(12, dtype=np.float32).reshape(3, 4).T
    np.testing.assert_array_equal(f(strided), f(np.ascontiguousarray(strided)))


@every_function
def test_the_argument_is_left_alone(f: Consolidation) -> None:
    h = np.linspace(-3, 3, 7, dtype=np.float32)
    tensor = torch.from_numpy(h.copy())
    f(h), f(tensor)
    np.testing.assert_array_equal(h, np.linspace(-3, 3, 7, dtype=np.float32))
    np.testing.assert_array_equal(h, tensor.numpy())


def test_tanh2_keeps_its_tail_where_the_written_form_is_zero() -> None:
    h = np.array([12.0, 20.0, 40.0], np.float32)
    assert (1 - np.tanh(h) ** 2 == 0).all()
    np.testing.assert_allclose(Tanh2(1.0)(h), 4 * np.exp(-2 * h.astype(np.float64)), rtol=1e-5)


@pytest.mark.filterwarnings("error")
@every_dtype
def test_tanh2_never_overflows(dtype: Any) -> None:
    h = np.array([0, 1, 1e3, 1e20, np.inf], dtype)
    for f in (Tanh2(1.0), Tanh2(1e15)):
        np.testing.assert_array_equal(f(h)[[0, 2, 3, 4]], [1, 0, 0, 0])
        assert torch.equal(f(torch.from_numpy(h))[2:], torch.zeros(3, dtype=torch.from_numpy(h).dtype))


def test_table_holds_its_last_value_and_its_points() -> None:
    table = Table([0, 1, 3], [1, 0.5, 0.25])
    h = np.array([0, 0.5, 1, -2, 3, 1e30], np.float64)
    np.testing.assert_array_equal(table(h), [1, 0.75, 0.5, 0.375, 0.25, 0.25])
    assert Table(np.array([0.0, 1.0]), np.array([1.0, 0.0])) == Table([0, 1], (1, 0))


def test_what_is_plain() -> None:
    plain = {repr(f) for f in FUNCTIONS if f.is_plain}
    assert plain == {repr(Constant()), repr(Tanh2(0.0)), repr(Exponential(0.0))}
    h = ladder(np.float32)
    for f in FUNCTIONS:
        assert f.is_plain == bool((f(h) == 1).all())


# --- parameters ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [Tanh2, Exponential, Linear, Quadratic])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, 1e-20, 1e20])
def test_parameters_out_of_range(function: type, value: float) -> None:
    name = dataclasses.fields(function)[0].name
    with pytest.raises(ValueError, match=f"^{name} must be .*from 1e-15 to 1e15"):
        function(value)


@pytest.mark.parametrize("function", [Tanh2, Exponential, Linear, Quadratic])
@pytest.mark.parametrize("value", ["1", None, True, [1.0]])
def test_parameters_that_are_no_numbers(function: type, value: object) -> None:
    with pytest.raises(TypeError, match="must be a number"):
        function(value)


@pytest.mark.parametrize("function", [Linear, Quadratic])
def test_a_range_of_zero_is_refused(function: type) -> None:
    with pytest.raises(ValueError, match="T must be"):
        function(0.0)


@pytest.mark.parametrize(
    ("points", "values", "error", "message"),
    [
        ([0, 1], [1, 0.5, 0.2], ValueError, "2 points and 3 values"),
        ([0], [1], ValueError, "at least two points"),
        ([0.1, 1], [1, 0.5], ValueError, "start at 0"),
        ([0, 2, 1], [1, 0.5, 0.2], ValueError, "increase"),
        ([0, 1, 1 + 1e-12], [1, 0.5, 0.2], ValueError, "as float32"),
        ([0, 1], [0.9, 0.5], ValueError, "start at 1"),
        ([0, 1], [1, -0.1], ValueError, r"in \[0, 1\]"),
        ([0, 1, 2], [1, 0.5, 0.6], ValueError, "never increase"),
        ([0, math.nan], [1, 0.5], ValueError, "points must be one row of finite"),
        ([0, 1], [1, math.inf], ValueError, "values must be one row of finite"),
        ([[0, 1]], [[1, 0]], ValueError, "one row"),
        ("wide", [1, 0], TypeError, "points must be a sequence of numbers"),
    ],
)
def test_tables_that_are_refused(points: object, values: object, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        Table(points, values)  # type: ignore[arg-type]


@every_function
def test_functions_are_immutable_and_compare_by_value(f: Consolidation) -> None:
    same = consolidation_from_dict(f.to_dict())
    assert f == same
    assert hash(f) == hash(same)
    for name in [field.name for field in dataclasses.fields(f)] or ["anything"]:  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(f, name, 2.0)


def test_towards_a_floor_ends_there_and_begins_as_linear_does() -> None:
    h = np.linspace(0, 2, 201)
    np.testing.assert_allclose(Towards(1.0, floor=0.1)(h[100:]), 0.1)
    np.testing.assert_allclose(Towards(1.0)(h), Linear(1.0)(h), atol=1e-15)


@pytest.mark.parametrize(("floor", "power"), [(-0.1, 1), (1.1, 1), (0.1, 0), (0.1, 200)])
def test_a_floor_or_a_power_out_of_range(floor: float, power: float) -> None:
    with pytest.raises(ValueError, match=r"floor|power"):
        Towards(1.0, floor, power)


@every_function
def test_a_function_survives_json(f: Consolidation) -> None:
    record = f.to_dict()
    text = json.dumps(record, allow_nan=False)
    assert json.loads(text) == record
    again = consolidation_from_dict(json.loads(text))
    assert again == f
    assert again.to_dict() == record


def test_the_record_of_a_function() -> None:
    assert Tanh2(np.float64(1.35)).to_dict() == {"kind": "tanh2", "m": 1.35}
    assert Constant().to_dict() == {"kind": "constant"}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, "unknown consolidation None: known are constant, tanh2"),
        ({"kind": "tanh3", "m": 1}, "unknown consolidation 'tanh3'"),
        ({"kind": "tanh2"}, r"'tanh2' has the parameters \['m'\], not \[\]"),
        ({"kind": "linear", "m": 1}, r"'linear' has the parameters \['T'\], not \['m'\]"),
        ({"kind": "tanh2", "m": -1}, "m must be 0 or"),
    ],
)
def test_records_that_are_refused(record: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        consolidation_from_dict(record)


@every_function
def test_what_is_no_hidden_weight(f: Consolidation) -> None:
    with pytest.raises(TypeError, match="floating-point"):
        f(np.arange(3))
    with pytest.raises(TypeError, match="floating-point"):
        f(torch.arange(3))
    with pytest.raises(TypeError, match="numpy array or a torch tensor, not list"):
        f([0.5])  # type: ignore[type-var]


# --- functions of one's own -----------------------------------------------------------------------------------------


def test_a_registered_function_goes_to_json_and_back(registry: dict[str, type[Consolidation]]) -> None:
    with pytest.raises(ValueError, match=r"Soft cannot be saved: it is not registered.*@register_consolidation"):
        Soft(0.5).to_dict()
    with pytest.raises(ValueError, match=r"unknown consolidation 'soft'.*must be registered before it is read"):
        consolidation_from_dict({"kind": "soft", "s": 0.5})
    assert register_consolidation(Soft) is Soft
    assert registry["soft"] is Soft
    record = json.loads(json.dumps(Soft(0.5).to_dict()))
    assert record == {"kind": "soft", "s": 0.5}
    assert consolidation_from_dict(record) == Soft(0.5)
    with pytest.raises(TypeError, match=r"Soft cannot be saved: its parameters must be what JSON holds"):
        Soft(np.float32(0.5)).to_dict()  # type: ignore[arg-type]


@pytest.mark.usefixtures("registry")
def test_a_kind_may_be_annotated_or_not() -> None:
    @register_consolidation
    @dataclasses.dataclass(frozen=True)
    class Bare(Soft):
        kind = "bare"

    @register_consolidation
    @dataclasses.dataclass(frozen=True)
    class Field(Soft):
        kind: str = "field"  # type: ignore[misc]

    for f in (Bare(0.5), Field(0.5)):
        assert f.to_dict() == {"kind": f.kind, "s": 0.5}
        assert consolidation_from_dict(f.to_dict()) == f


def test_a_subclass_is_not_saved_as_its_parent() -> None:
    @dataclasses.dataclass(frozen=True)
    class Squared(Linear):
        def _of(self, distance: Any, xp: Any) -> Any:
            return super()._of(distance, xp) ** 2

    with pytest.raises(ValueError, match="Squared cannot be saved: it is not registered"):
        Squared(1.0).to_dict()
    with pytest.raises(TypeError, match=r'Squared has no kind of its own: .*kind = "squared"'):
        register_consolidation(Squared)


def test_a_cell_that_runs_twice_registers_again(registry: dict[str, type[Consolidation]]) -> None:
    def cell() -> type[Consolidation]:
        @register_consolidation
        @dataclasses.dataclass(frozen=True)
        class Cell(Soft):
            kind: ClassVar[str] = "cell"

        return Cell

    first, second = cell(), cell()
    assert first is not second
    assert registry["cell"] is second


def own_class(**members: Any) -> type:
    return dataclasses.dataclass(frozen=True)(type("Mine", (Soft,), {"__annotations__": {}, **members}))


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda: len, TypeError, "takes a class derived from Consolidation, not <built-in"),
        (lambda: int, TypeError, "takes a class derived from Consolidation, not <class 'int'>"),
        (lambda: type("Loose", (Soft,), {"kind": "loose"}), TypeError, "Loose must be a frozen dataclass"),
        (lambda: own_class(kind="linear"), ValueError, "the kind 'linear' of Mine is taken"),
        (lambda: own_class(kind="function"), ValueError, "the kind 'function' of Mine is taken"),
        (lambda: own_class(kind=""), TypeError, "Mine has no kind of its own"),
    ],
)
@pytest.mark.usefixtures("registry")
def test_classes_that_are_not_registered(function: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        register_consolidation(function())


@pytest.mark.parametrize("like", [np.zeros(0), torch.zeros(0)], ids=["numpy", "torch"])
def test_a_plain_function_becomes_one(like: Any) -> None:
    f = as_consolidation(lambda size: 1 / (1 + size), like)
    assert isinstance(f, PlainFunction)
    for h in (np.array([-1.0, 0.0, 3.0]), torch.tensor([-1.0, 0.0, 3.0])):
        np.testing.assert_array_equal(np.asarray(f(h)), [0.5, 1, 0.25])
    with pytest.raises(
        TypeError, match=r"<lambda> is a plain Python function, and no file can hold it: make it a class"
    ):
        f.to_dict()


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda size: size, ValueError, "= 1.26: f must lie in"),
        (lambda size: 1 - size, ValueError, r"= 1.26: f must lie in \[0, 1\]"),
        (lambda size: 0 * size + 0.5, ValueError, r"is 0.5 at \|h\| = 0: f must be 1 at 0"),
        (lambda size: 1 / (1 + (size - 1) ** 2) + 0.5 * (size == 0), ValueError, "f must never rise"),
        (lambda size: size / size, ValueError, "is nan at"),
        (lambda size: 1.0, TypeError, "fails on a flat"),
        (lambda size: size[:1] * 0 + 1, TypeError, "fails on a flat"),
        (lambda: 1.0, TypeError, "fails on a flat"),
        ("tanh2", TypeError, r"must be a Consolidation such as Linear\(2.0\), or a function of \|h\|, not 'tanh2'"),
        (Linear, TypeError, "must be a Consolidation such as"),
    ],
)
@pytest.mark.parametrize("like", [np.zeros(0), torch.zeros(0)], ids=["numpy", "torch"])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_functions_that_break_the_promises(function: Any, error: type, message: str, like: Any) -> None:
    with pytest.raises(error, match=message):
        as_consolidation(function, like)


def test_a_class_of_ones_own_is_held_to_its_promises_too() -> None:
    class Rising(Soft):
        def _of(self, distance: Any, xp: Any) -> Any:
            return 1 + 0 * distance if xp is np else 1 + distance

    assert as_consolidation(Rising(1.0), np.zeros(0)) == Rising(1.0)
    with pytest.raises(ValueError, match=r"Rising\(s=1.0\) is 1.* f must lie in"):
        as_consolidation(Rising(1.0), torch.zeros(0))

    class Gated(Tanh2):
        def _of(self, distance: Any, xp: Any) -> Any:
            return 1 / (1 + distance)

    with pytest.raises(ValueError, match="is_plain promises that f is 1 everywhere"):
        as_consolidation(Gated(0.0), np.zeros(0))


# --- the update ---------------------------------------------------------------------------------------------------

weights = hnp.arrays(
    np.float32, st.integers(1, 20), elements=st.floats(-50, 50, width=32) | st.sampled_from([0.0, -0.0])
)
functions = st.sampled_from(FUNCTIONS)
repeatable = settings(deadline=None, max_examples=60, derandomize=True)


@st.composite
def weights_and_steps(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    hidden = draw(weights)
    elements = st.floats(-2, 2, width=32)
    return hidden, draw(hnp.arrays(np.float32, hidden.shape, elements=elements))


@repeatable
@given(weights_and_steps(), functions)
def test_each_element_by_the_written_rule(pair: tuple[np.ndarray, np.ndarray], f: Consolidation) -> None:
    """The rule read out one synapse at a time: the sign with +1 at 0, the condition, the product, the difference."""
    hidden, step = pair
    updated = metaplastic_update(hidden, step, f)
    for h, u, result, share in zip(hidden, step, updated, f(hidden), strict=True):
        binary = -1 if h < 0 else 1
        assert result == (h - u * share if (u > 0 and binary == 1) or (u < 0 and binary == -1) else h - u)


@repeatable
@given(weights_and_steps(), functions)
def test_growing_steps_are_taken_whole(pair: tuple[np.ndarray, np.ndarray], f: Consolidation) -> None:
    hidden, step = pair
    grows = np.where(hidden >= 0, step <= 0, step >= 0)
    np.testing.assert_array_equal(metaplastic_update(hidden, step, f)[grows], (hidden - step)[grows])


@repeatable
@given(weights_and_steps(), functions)
def test_shrinking_steps_are_never_longer_than_plain_ones(
    pair: tuple[np.ndarray, np.ndarray], f: Consolidation
) -> None:
    hidden, step = pair
    updated = metaplastic_update(hidden, step, f)
    assert (np.abs(updated - hidden) <= np.abs((hidden - step) - hidden)).all()


@repeatable
@given(weights_and_steps())
def test_the_constant_function_is_the_plain_rule(pair: tuple[np.ndarray, np.ndarray]) -> None:
    hidden, step = pair
    for f in (Constant(), Tanh2(0.0), Exponential(0.0)):
        np.testing.assert_array_equal(metaplastic_update(hidden, step, f), hidden - step)


@repeatable
@given(weights_and_steps(), functions)
def test_the_update_mirrors(pair: tuple[np.ndarray, np.ndarray], f: Consolidation) -> None:
    """Nothing prefers +1 to -1, except at 0, where f is 1 on either side."""
    hidden, step = pair
    np.testing.assert_array_equal(
        metaplastic_update(-hidden, -step, f), np.negative(metaplastic_update(hidden, step, f))
    )


@repeatable
@given(weights_and_steps(), functions, functions)
def test_growing_steps_have_a_gate_of_their_own(
    pair: tuple[np.ndarray, np.ndarray], f: Consolidation, grow: Consolidation
) -> None:
    """Element by element: the sign with +1 at 0 says which of the two gates a step goes through."""
    hidden, step = pair
    updated = metaplastic_update(hidden, step, f, grow)
    for h, u, result, small, large in zip(hidden, step, updated, f(hidden), grow(hidden), strict=True):
        assert result == h - u * (small if (u > 0 and h >= 0) or (u < 0 and h < 0) else large)


def test_noise_has_a_steady_state_between_two_gates_and_none_without_the_second() -> None:
    """Pure noise: with one gate all weights end at the limit; with two equal ones their density is that of 1/g**2.

    Of g = 0.3 + 0.7 (1 - |h|) the density above 0.9 is (1/g(1) - 1/g(0.9)) / (1/g(1) - 1/g(0)) = 0.27.
    """
    generator = np.random.default_rng(0)
    gate = Towards(1.0, floor=0.3)
    ends = {}
    for grow in (None, gate):
        hidden = np.zeros(4000)
        for _ in range(4000):
            hidden = metaplastic_update(hidden, generator.normal(0, 0.04, 4000), gate, grow).clip(-1, 1)
        ends[grow] = (np.abs(hidden) > 0.9).mean()
    assert ends[None] > 0.7
    assert ends[gate] == pytest.approx(0.27, abs=0.04)


def test_noise_ends_where_the_gates_cross_and_otherwise_at_an_end() -> None:
    """Drift is (g - f)/2 of a step: outwards where g is larger. Of sqrt(r) and 0.3 + 0.7 r, r = 1 - |h|: to 0.816."""
    generator = np.random.default_rng(0)
    pairs = {
        "cross": (Towards(1.0, floor=0.3), Towards(1.0, power=0.5)),
        "grow above": (Towards(1.0, floor=0.005, power=2.0), Towards(1.0, floor=0.3)),
        "shrink above": (Towards(1.0, floor=0.3), Towards(1.0, floor=0.005, power=2.0)),
    }
    ends = {}
    for name, (shrink, grow) in pairs.items():
        hidden = generator.uniform(-1, 1, 3000)
        for _ in range(3000):
            hidden = metaplastic_update(hidden, generator.normal(0, 0.04, 3000), shrink, grow).clip(-1, 1)
        ends[name] = np.abs(hidden)
    assert np.median(ends["cross"]) == pytest.approx(0.816, abs=0.06)
    assert np.quantile(ends["cross"], 0.95) < 0.99
    assert np.quantile(ends["grow above"], 0.1) > 0.9
    assert np.quantile(ends["shrink above"], 0.9) < 0.3


@every_function
def test_numpy_and_torch_update_alike(f: Consolidation) -> None:
    generator = np.random.default_rng(0)
    hidden = generator.normal(0, 2, (40, 50)).astype(np.float32)
    step = generator.normal(0, 0.1, (40, 50)).astype(np.float32)
    ours = metaplastic_update(hidden, step, f)
    theirs = metaplastic_update(torch.from_numpy(hidden), torch.from_numpy(step), f)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(theirs.numpy(), ours, rtol=3e-7, atol=1e-7)  # a rounding of f, times the step


def test_the_update_is_pure() -> None:
    hidden, step = torch.tensor([1.0, -1.0]), torch.tensor([0.5, 0.5])
    metaplastic_update(hidden, step, Tanh2(1.0))
    assert torch.equal(hidden, torch.tensor([1.0, -1.0]))
    assert torch.equal(step, torch.tensor([0.5, 0.5]))


def test_updates_that_are_refused() -> None:
    h = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"one shape, not \(2, 3\) and \(3,\)"):
        metaplastic_update(h, np.zeros(3, np.float32), Constant())
    with pytest.raises(TypeError, match="float32 and ndarray of float64"):
        metaplastic_update(h, np.zeros((2, 3)), Constant())
    with pytest.raises(TypeError, match=r"one kind and dtype, .*Tensor"):
        metaplastic_update(h, torch.zeros(2, 3), Constant())


def test_the_rule_does_not_need_torch() -> None:
    """Numpy users and Lava's actors import it without loading torch."""
    code = (
        "import sys, numpy as np\n"
        "from lava_meta.rule import Tanh2, metaplastic_update\n"
        "metaplastic_update(np.ones(3), np.ones(3), Tanh2(1.0))\n"
        "assert 'torch' not in sys.modules and 'lava' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
