"""Each form of the rule for each consolidation function: who computes it, and that it is the written equation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from own_function import Soft
from torch import nn

from lava_meta.nn import mark_binary
from lava_meta.online_learning.device import Device
from lava_meta.online_learning.forms import make_layer
from lava_meta.online_learning.reference import initial_state
from lava_meta.online_learning.settings import LayerSettings, OnlineRule
from lava_meta.optim import MetaplasticAdalayer, MetaplasticAdam, MetaplasticSGD, fused_cpu
from lava_meta.rule import (
    BUILT_IN,
    Consolidation,
    Constant,
    Exponential,
    Linear,
    PlainFunction,
    Quadratic,
    Table,
    Tanh2,
    Towards,
    metaplastic_update,
)
from lava_meta.rule.gates import closed_form, is_polynomial
from lava_meta.rule.lowering import lower


@dataclass(frozen=True)
class Squared(Linear):
    """A subclass, which computes something else than `Linear`."""

    def _of(self, distance: Any, xp: Any) -> Any:
        return super()._of(distance, xp) ** 2


@dataclass(frozen=True)
class Case:
    """A function, its equation, and what each form makes of it."""

    f: Consolidation
    equation: Callable[[np.ndarray], np.ndarray]
    fused: bool  # on the CPU: the compiled pass, or the reference form
    gpu: bool  # the kernel's own expression, or shares computed before
    captured: bool  # whether a step may be part of a CUDA graph
    online_float: bool  # compiled, or the reference form
    engine: bool  # as it is, or the nearest that the learning engine can express


ALL, NONE = (True,) * 5, (False,) * 5
CASES = {
    "constant": Case(Constant(), lambda a: np.ones_like(a), *ALL),
    "tanh2": Case(Tanh2(2.0), lambda a: 1 / np.cosh(2 * a) ** 2, True, True, True, True, False),
    "exponential": Case(Exponential(3.0), lambda a: np.exp(-3 * a), True, True, True, True, False),
    "linear": Case(Linear(1.0), lambda a: np.maximum(0, 1 - a), *ALL),
    "quadratic": Case(Quadratic(1.0), lambda a: np.maximum(0, 1 - a**2), *ALL),
    "towards": Case(
        Towards(1.0, floor=0.005, power=2.0),
        lambda a: 0.005 + 0.995 * np.maximum(0, 1 - a) ** 2,
        True,
        True,
        True,
        True,
        False,
    ),
    "towards, of another power": Case(
        Towards(1.0, floor=0.005, power=3.0),
        lambda a: 0.005 + 0.995 * np.maximum(0, 1 - a) ** 3,
        False,
        False,
        True,
        False,
        False,
    ),
    "table": Case(
        Table([0, 0.5, 1], [1, 0.3, 0.0]),
        lambda a: np.interp(a, [0, 0.5, 1], [1, 0.3, 0.0]),
        True,
        False,
        True,
        False,
        False,
    ),
    "a subclass": Case(Squared(1.0), lambda a: np.maximum(0, 1 - a) ** 2, *NONE),
    "one's own class": Case(Soft(0.3), lambda a: 1 / (1 + a / 0.3), *NONE),
    "a plain function": Case(PlainFunction(lambda a: 1 / (1 + a) ** 2), lambda a: 1 / (1 + a) ** 2, *NONE),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def weights_and_steps(shape: tuple[int, int] = (40, 50)) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return (generator.uniform(-1.2, 1.2, shape).astype(np.float32) for _ in range(2))  # type: ignore[return-value]


def stepped(
    h: np.ndarray,
    u: np.ndarray,
    equation: Callable[[np.ndarray], np.ndarray],
    growing: Callable[[np.ndarray], np.ndarray] = np.ones_like,
) -> np.ndarray:
    """The rule in float64, by nothing of the library."""
    h, u = h.astype(np.float64), u.astype(np.float64)
    return h - u * np.where(np.where(h >= 0, u, -u) > 0, equation(np.abs(h)), growing(np.abs(h)))


def test_every_built_in_function_is_listed() -> None:
    assert {type(case.f) for case in CASES.values()} >= {*BUILT_IN}


@every_case
@pytest.mark.parametrize("make", [MetaplasticSGD, MetaplasticAdam])
@pytest.mark.parametrize("fused", [False, True])
def test_optimizers(case: Case, make: Any, fused: bool) -> None:
    h, u = weights_and_steps()
    hidden = mark_binary(nn.Parameter(torch.from_numpy(h.copy())))
    hidden.grad = torch.from_numpy(u)
    make([hidden], lr=1.0, consolidation=case.f, fused=fused).step()
    step = u if make is MetaplasticSGD else u / (np.abs(u.astype(np.float64)) + 1e-8)  # the first of Adam
    np.testing.assert_allclose(hidden.detach().numpy(), stepped(h, step, case.equation), rtol=1e-5, atol=1e-6)
    assert (fused_cpu.gate_of(case.f) is not None) is case.fused


@every_case
@pytest.mark.parametrize("make", [MetaplasticSGD, MetaplasticAdam, MetaplasticAdalayer])
@pytest.mark.parametrize("fused", [False, True])
def test_growing_steps_of_optimizers(case: Case, make: Any, fused: bool) -> None:
    h, u = weights_and_steps()
    hidden = mark_binary(nn.Parameter(torch.from_numpy(h.copy())))
    hidden.grad = torch.from_numpy(u)
    make([hidden], lr=1.0, consolidation=Towards(1.0, 0.2), grow=case.f, fused=fused).step()
    scale = {
        MetaplasticSGD: 1.0,
        MetaplasticAdam: np.abs(u.astype(np.float64)) + 1e-8,
        MetaplasticAdalayer: np.sqrt((u.astype(np.float64) ** 2).mean()),
    }[make]  # of a first step
    expected = stepped(h, u / scale, lambda a: 0.2 + 0.8 * np.maximum(0, 1 - a), case.equation)
    np.testing.assert_allclose(hidden.detach().numpy(), expected, rtol=1e-5, atol=3e-6)


@every_case
def test_gpu_kernels(case: Case) -> None:
    """Who computes the shares; `tests/test_update_gpu.py` runs the kernels."""
    gpu = pytest.importorskip("lava_meta.optim.fused_gpu", reason="triton comes with torch built for CUDA")
    h = torch.linspace(-1.5, 1.5, 101)
    name, *_, shares = gpu._gate_of(case.f, h)
    assert (name != "given") is case.gpu
    if name == "given":
        np.testing.assert_allclose(shares.numpy(), case.equation(h.abs().double().numpy()), rtol=1e-5, atol=1e-6)


@every_case
def test_cuda_graphs(case: Case) -> None:
    hidden = nn.Parameter(torch.zeros(2, 2))
    assert MetaplasticAdam([hidden], consolidation=case.f, capturable=True).can_be_captured is case.captured
    assert MetaplasticSGD([hidden], 0.1, consolidation=case.f).can_be_captured is case.captured


def layer_of(case: Case, precision: Any, compiled: bool, limit: float, grow: Consolidation | None = None) -> Any:
    """A readout of 50 units and 40 inputs whose limit is `limit`; f is of |h| / limit."""
    rule = OnlineRule(lr=1.0, consolidation=case.f, grow=grow, readout_limit=limit)
    settings = LayerSettings(40, 50, readout=True, precision=precision, rule=rule)
    return make_layer(settings, initial_state(settings, np.random.default_rng(0)), compiled=compiled)


@every_case
@pytest.mark.parametrize("compiled", [False, True])
def test_online_in_floating_point(case: Case, compiled: bool) -> None:
    layer = layer_of(case, "float", compiled, limit=1.0)
    h, _ = weights_and_steps()
    layer.hidden[:] = h.clip(-1, 1)
    layer.refresh()
    amount = np.linspace(-0.5, 0.5, 50).astype(np.float32)
    before = layer.hidden.copy()
    layer._step_synapses(np.ones(40, np.int16), amount)
    expected = stepped(before, np.broadcast_to(-amount, before.shape), case.equation).clip(-1, 1)
    np.testing.assert_allclose(layer.hidden, expected, rtol=1e-5, atol=1e-6)
    if compiled:
        assert (type(layer).__name__ == "CompiledFloatLayer") is case.online_float


@every_case
@pytest.mark.parametrize("limit", [0.5, 1.0])
def test_online_in_integers(case: Case, limit: float) -> None:
    """Every function, as 256ths of f(|h| / limit) at each level; clear and compiled forms take equal steps."""
    layers = [layer_of(case, 8, compiled, limit) for compiled in (False, True)]
    settings = layers[0].settings
    levels = np.arange(settings.limit_levels + 1) / settings.limit_levels
    assert np.abs(settings.gate_table(1.0) - 256 * case.equation(levels)).max() <= 0.5 + 1e-6
    h, _ = weights_and_steps()
    for layer in layers:
        layer.hidden[:] = (50 * h).astype(np.int16)
        layer.refresh()
        layer.forward(np.ones((1, 40), np.int16))
        layer.backward(np.linspace(-127, 127, 50).astype(np.int32)[None])
    assert not np.array_equal(layers[0].hidden, (50 * h).astype(np.int16))
    np.testing.assert_array_equal(layers[0].hidden, layers[1].hidden)


@every_case
@pytest.mark.parametrize("compiled", [False, True])
def test_growing_steps_online(case: Case, compiled: bool) -> None:
    """As `metaplastic_update` declares them; in integers within a level, which rounding adds or takes."""
    grow = Towards(1.0, floor=0.1)
    h, _ = weights_and_steps()
    h = h.clip(-0.9, 0.9)
    amount = np.linspace(-0.5, 0.5, 50).astype(np.float32)
    expected = metaplastic_update(h, np.broadcast_to(-amount, h.shape).copy(), case.f, grow).clip(-1, 1)
    layer = layer_of(case, "float", compiled, 1.0, grow)
    layer.hidden[:] = h
    layer.refresh()
    layer._step_synapses(np.ones(40, np.int16), amount)
    np.testing.assert_allclose(layer.hidden, expected, rtol=1e-5, atol=1e-6)

    fixed = layer_of(case, 8, compiled, 1.0, grow)
    fixed.hidden[:] = np.rint(127 * h)
    fixed.refresh()
    fixed._step_synapses(np.ones(40, np.int16), np.rint(amount * 127 * 2**16).astype(np.int32))
    np.testing.assert_allclose(fixed.hidden / 127, expected, atol=2.6 / 127)


def test_growing_steps_in_integers_are_the_same_compiled() -> None:
    layers = [layer_of(CASES["tanh2"], 8, compiled, 0.5, Towards(1.0, floor=0.1)) for compiled in (False, True)]
    for _ in range(20):
        for layer in layers:
            layer.forward(np.ones((1, 40), np.int16))
            layer.backward(np.linspace(-127, 127, 50).astype(np.int32)[None])
    np.testing.assert_array_equal(layers[0].hidden, layers[1].hidden)
    assert len(np.unique(layers[0].hidden)) > 20


def test_a_grow_gate_goes_through_the_record_of_a_rule() -> None:
    rule = OnlineRule(grow=Towards(1.0, floor=0.1))
    assert OnlineRule.from_dict(rule.to_dict()) == rule
    assert OnlineRule.from_dict(OnlineRule().to_dict()) == OnlineRule()
    old = OnlineRule().to_dict()
    del old["grow"]
    assert OnlineRule.from_dict(old).grow is None


@pytest.mark.parametrize(
    ("where", "message"), [({"device": Device()}, "soft_bounds"), ({"engine_steps": 5, "precision": 9}, "engine")]
)
def test_forms_that_have_no_gate_of_growing_steps_say_so(where: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"{message}.*grow, Towards\(T=1.0, floor=0.1"):
        LayerSettings(10, 5, readout=True, rule=OnlineRule(grow=Towards(1.0, floor=0.1)), **where)


@every_case
def test_the_learning_engine(case: Case) -> None:
    engine = lower(case.f)
    assert engine.exact is case.engine
    h = np.linspace(0, engine.reach, 1001)
    apart = np.abs(case.equation(h) - np.asarray(engine.consolidation(h)))
    assert apart.mean() == pytest.approx(engine.mean_distance, abs=0.01)
    assert engine.mean_distance < (1e-9 if case.engine else 0.1)


def test_exact_types_alone_have_a_closed_form() -> None:
    assert closed_form(Linear(2.0)) == ("linear", 2.0, 0.0)
    assert closed_form(Tanh2(2.0)) == ("tanh2", -4.0, 0.0)
    assert closed_form(Exponential(0.0)) == ("plain", 0.0, 0.0)
    assert closed_form(Towards(2.0, 0.1, 2.0)) == ("towards2", 2.0, 0.1)
    assert closed_form(Towards(2.0, 0.1, 1.5)) is None
    assert closed_form(Squared(2.0)) is None
    assert not is_polynomial(Squared(2.0))
    assert is_polynomial(Quadratic(2.0))
