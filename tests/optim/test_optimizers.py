"""The optimizers against references written here from the equations of docs/optimizers.md, and against torch's own."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
import torch
from own_function import Soft
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lava_meta.nn import BinaryConv2d, BinaryLinear, mark_binary
from lava_meta.optim import MetaplasticAdalayer, MetaplasticAdam, MetaplasticSGD, fused_cpu, parameter_groups
from lava_meta.optim.clear import Clear
from lava_meta.optim.threads import torch_threads
from lava_meta.rule import (
    Consolidation,
    Constant,
    Exponential,
    Linear,
    Quadratic,
    Table,
    Tanh2,
    Towards,
    metaplastic_update,
    register_consolidation,
)

FUNCTIONS = [Constant(), Tanh2(4.0), Exponential(3.0), Linear(0.5), Quadratic(0.5), Table([0, 0.2, 1], [1, 0.3, 0.1])]
every_function = pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.kind)
ADAM = {"lr": 0.005, "betas": (0.9, 0.999), "eps": 1e-8}


def hidden_weights(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    generator = torch.Generator().manual_seed(seed)
    return mark_binary(nn.Parameter(torch.rand(*shape, generator=generator, dtype=dtype) * 0.1 - 0.05))


def gradients(parameter: Tensor, steps: int, seed: int = 1) -> list[Tensor]:
    """Gradients of which a part stays from step to step, so that weights both grow and come back."""
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Tensor:
        return torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)

    drift = draw()
    return [draw() + drift * (1 if step < steps / 2 else -1) for step in range(steps)]


def run(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, grads: list[Tensor]) -> Tensor:
    for gradient in grads:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


# --- references ---------------------------------------------------------------------------------------------------


def adam_reference(
    h: Tensor, grads: list[Tensor], f: Consolidation, weight_decay: float, grow: Consolidation | None = None
) -> Tensor:
    """Whole tensors, nothing in place; torch's own operations for the moving averages, whose rounding counts here."""
    mean, square = torch.zeros_like(h), torch.zeros_like(h)
    for t, gradient in enumerate(grads, start=1):
        g = torch.add(gradient, h, alpha=weight_decay)
        mean = torch.lerp(mean, g, 1 - 0.9)
        square = torch.addcmul(square * 0.999, g, g, value=1 - 0.999)
        denominator = square.sqrt() / (1 - 0.999**t) ** 0.5 + 1e-8
        h = metaplastic_update(h, mean * (0.005 / (1 - 0.9**t)) / denominator, f, grow)
    return h


def sgd_reference(h: Tensor, grads: list[Tensor], f: Consolidation) -> Tensor:
    """lr 0.01, momentum 0.9, dampening 0.1, weight decay 1e-3."""
    buffer = None
    for gradient in grads:
        g = torch.add(gradient, h, alpha=1e-3)
        buffer = g if buffer is None else torch.add(buffer * 0.9, g, alpha=1 - 0.1)
        h = metaplastic_update(h, 0.01 * buffer, f)
    return h


@every_function
@pytest.mark.parametrize("weight_decay", [0.0, 1e-3])
def test_adam_is_bitwise_the_reference(f: Consolidation, weight_decay: float) -> None:
    h = hidden_weights(37, 53)
    grads = gradients(h, 100)
    expected = adam_reference(h.detach().clone(), grads, f, weight_decay)
    result = run(MetaplasticAdam([h], consolidation=f, weight_decay=weight_decay), h, grads)
    assert torch.equal(result, expected)


@every_function
def test_gates_in_both_directions_are_bitwise_the_reference(f: Consolidation) -> None:
    """And growing steps that are taken whole by name are the paper's rule, bit for bit."""
    shrink = Towards(0.3, 0.1, 2.0)
    for grow, expected_grow in ((f, f), (Constant(), None)):
        h = hidden_weights(37, 53)
        grads = gradients(h, 100)
        expected = adam_reference(h.detach().clone(), grads, shrink, 1e-3, expected_grow)
        result = run(MetaplasticAdam([h], consolidation=shrink, grow=grow, weight_decay=1e-3), h, grads)
        assert torch.equal(result, expected)


@pytest.mark.parametrize("fused", [False, True])
def test_adalayer_follows_the_equations_in_float64(fused: bool) -> None:
    """Plain numpy, equation by equation; gradients that shrink, so that the largest scale is not the last."""
    h = hidden_weights(20, 30)
    grads = [gradient * 0.97**step for step, gradient in enumerate(gradients(h, 100))]
    reference, mean, square, largest = h.detach().numpy().astype(np.float64), np.zeros((20, 30)), 0.0, 0.0
    falls = 0
    for t, gradient in enumerate(grads, start=1):
        g = gradient.numpy().astype(np.float64)
        mean = 0.9 * mean + 0.1 * (g + 1e-3 * reference)
        square = 0.9 * square + 0.1 * (g**2).mean()
        falls += square < largest
        largest = max(largest, square)
        u = 0.02 * (mean / (1 - 0.9**t)) / (np.sqrt(largest / (1 - 0.9**t)) + 1e-8)
        r = np.maximum(0, 1 - np.abs(reference) / 0.5)
        shrinks = np.where(reference >= 0, 1, -1) * u > 0
        reference = reference - u * np.where(shrinks, 0.1 + 0.9 * r**2, 0.3 + 0.7 * r)
    assert falls > 50
    gates = {"consolidation": Towards(0.5, 0.1, 2.0), "grow": Towards(0.5, 0.3)}
    adalayer = MetaplasticAdalayer([h], lr=0.02, betas=(0.9, 0.9), weight_decay=1e-3, fused=fused, **gates)
    np.testing.assert_allclose(run(adalayer, h, grads).numpy(), reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("capturable", [False, True])
def test_adalayer_goes_on_from_its_state(capturable: bool) -> None:
    gates = {"consolidation": Towards(0.5, 0.1, 2.0), "grow": Towards(0.5, 0.3)}
    whole, halves = hidden_weights(23, 31), hidden_weights(23, 31)
    grads = gradients(whole, 40)
    run(MetaplasticAdalayer([whole], **gates, capturable=capturable), whole, grads)
    first = MetaplasticAdalayer([halves], **gates)
    run(first, halves, grads[:20])
    state = json.loads(json.dumps(first.state_dict()["param_groups"]))
    assert state[0]["grow"] == {"kind": "towards", "T": 0.5, "floor": 0.3, "power": 1.0}
    second = MetaplasticAdalayer([halves], lr=1.0)
    second.load_state_dict(first.state_dict())
    run(second, halves, grads[20:])
    assert torch.equal(halves, whole)
    with pytest.raises(ValueError, match="max_exp_avg_sq but step, exp_avg"):
        second.load_state_dict(MetaplasticAdam([halves]).state_dict() | {"state": {0: {"step": 1, "exp_avg": whole}}})


@pytest.mark.parametrize("threads", [1, 2])
def test_the_mean_square_does_not_depend_on_threads(threads: int) -> None:
    gradient = gradients(torch.zeros(700, 900), 1)[0].to(torch.bfloat16)
    with torch_threads(threads):
        found = fused_cpu.mean_square(gradient)
    with torch_threads(1):
        assert torch.equal(found, fused_cpu.mean_square(gradient))
    torch.testing.assert_close(found, gradient.double().square().mean().float(), rtol=1e-5, atol=0)


def test_a_group_that_gives_its_gate_gives_the_whole_rule() -> None:
    """Real weights beside binary ones, as `parameter_groups` makes them, have no gate of growing steps either."""
    a, b, c = (hidden_weights(2, 2) for _ in range(3))
    groups = [{"params": [a], "m": 0.0}, {"params": [b], "m": 1.0, "grow": Linear(2.0)}, {"params": [c]}]
    optimizer = MetaplasticAdam(groups, consolidation=Linear(1.0), grow=Linear(3.0))
    assert [group["grow"] for group in optimizer.param_groups] == [None, Linear(2.0), Linear(3.0)]


@every_function
def test_sgd_is_bitwise_the_reference(f: Consolidation) -> None:
    h = hidden_weights(37, 53)
    grads = gradients(h, 100)
    expected = sgd_reference(h.detach().clone(), grads, f)
    sgd = MetaplasticSGD([h], 0.01, consolidation=f, momentum=0.9, dampening=0.1, weight_decay=1e-3)
    assert torch.equal(run(sgd, h, grads), expected)


def test_adam_follows_the_equations_in_float64() -> None:
    """Plain numpy, equation by equation, sech written out: nothing of the library or of torch in it."""
    h = hidden_weights(20, 30, dtype=torch.float64)
    grads = gradients(h, 100)
    reference, mean, square = h.detach().numpy().copy(), np.zeros((20, 30)), np.zeros((20, 30))
    gated = 0
    for t, gradient in enumerate(grads, start=1):
        g = gradient.numpy() + 1e-3 * reference
        mean = 0.9 * mean + 0.1 * g
        square = 0.999 * square + 0.001 * g**2
        u = 0.005 * (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
        shrinks = np.where(reference >= 0, 1, -1) * mean > 0
        gated += shrinks.sum()
        reference = reference - u * np.where(shrinks, 1 / np.cosh(4.0 * reference) ** 2, 1)
    assert 10_000 < gated < 50_000
    result = run(MetaplasticAdam([h], m=4.0, weight_decay=1e-3), h, grads).numpy()
    np.testing.assert_allclose(result, reference, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("fused", [False, True])
@every_function
def test_counting_on_the_device_changes_no_bit(f: Consolidation, fused: bool) -> None:
    default, capturable = hidden_weights(37, 53), hidden_weights(37, 53)
    grads = gradients(default, 200)
    options: dict[str, Any] = {"consolidation": f, "weight_decay": 1e-3, "fused": fused}
    run(MetaplasticAdam([default], **options), default, grads)
    run(MetaplasticAdam([capturable], **options, capturable=True), capturable, grads)
    assert torch.equal(capturable, default)


def test_the_corrections_of_many_steps_are_those_of_the_host() -> None:
    """As the float32 that meets the weights: the formulas in float64, by Python and by torch."""
    for beta, lr in ((0.9, 0.005), (0.999, 0.1), (0.0, 1.0), (0.9999, 1e-4)):
        t = range(1, 20001)
        steps = torch.tensor(t).double()
        host = torch.tensor([lr / (1 - beta**i) for i in t]), torch.tensor([(1 - beta**i) ** 0.5 for i in t])
        assert torch.equal((lr / (1 - beta**steps)).float(), host[0])
        assert torch.equal(((1 - beta**steps) ** 0.5).float(), host[1])


def test_the_gate_looks_at_the_momentum_not_at_the_last_gradient() -> None:
    h = mark_binary(nn.Parameter(torch.tensor([[1.0]])))
    sgd = MetaplasticSGD([h], 0.1, m=2.0, momentum=0.9)
    run(sgd, h, [torch.tensor([[-10.0]])])
    assert h.item() == 2.0
    run(sgd, h, [torch.tensor([[1.0]])])  # the gradient alone would shrink h; -9 + 1 makes it grow, whole
    assert h.item() == pytest.approx(2.8)


def test_a_hidden_weight_of_zero_moves_freely_both_ways() -> None:
    h = mark_binary(nn.Parameter(torch.tensor([[0.0, 0.0, -0.0, -0.0]])))
    run(MetaplasticSGD([h], 0.1, m=100.0), h, [torch.tensor([[1.0, -1.0, 1.0, -1.0]])])
    assert torch.allclose(h, torch.tensor([[-0.1, 0.1, -0.1, 0.1]]))


@pytest.mark.parametrize("block", [1, 7, 1000, 10**6])
@pytest.mark.parametrize("m", [0.0, 4.0])
def test_results_do_not_depend_on_the_blocks(block: int, m: float) -> None:
    expected = hidden_weights(23, 31)
    grads = gradients(expected, 5)
    run(MetaplasticAdam([expected], m=m), expected, grads)
    h = hidden_weights(23, 31)

    class InBlocks(MetaplasticAdam):
        clear_form = Clear(block)

    assert torch.equal(run(InBlocks([h], m=m), h, grads), expected)


def test_larger_than_a_block_and_not_in_one_row() -> None:
    """A tensor of several blocks, and a transposed one that cannot be walked in blocks."""
    h = hidden_weights(401, 399)
    assert h.numel() > Clear().block * 2
    grads = gradients(h, 4)
    expected = adam_reference(h.detach().clone(), grads, Tanh2(4.0), 0.0)
    transposed = mark_binary(nn.Parameter(h.detach().clone().T))
    assert torch.equal(run(MetaplasticAdam([h], m=4.0), h, grads), expected)
    turned = run(MetaplasticAdam([transposed], m=4.0), transposed, [g.T for g in grads])
    torch.testing.assert_close(turned.T, expected, rtol=1e-6, atol=1e-8)


def test_gradients_are_left_alone() -> None:
    for make in (
        lambda h: MetaplasticAdam([h], m=1.0, weight_decay=0.1),
        lambda h: MetaplasticSGD([h], 0.1, m=1.0, momentum=0.9, weight_decay=0.1),
    ):
        h = hidden_weights(3, 4)
        optimizer = make(h)
        for gradient in gradients(h, 3):
            h.grad = gradient.clone()
            optimizer.step()
            assert torch.equal(h.grad, gradient)


# --- plain: torch's own optimizers --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weight_decay", [0.0, 1e-3])
def test_plain_adam_is_bitwise_torchs(dtype: torch.dtype, weight_decay: float) -> None:
    ours, theirs = (hidden_weights(37, 53, dtype=dtype) for _ in range(2))
    grads = gradients(ours, 100)
    torch_adam = torch.optim.Adam([theirs], **ADAM, weight_decay=weight_decay, foreach=False)  # type: ignore[arg-type]
    run(torch_adam, theirs, grads)
    assert torch.equal(run(MetaplasticAdam([ours], weight_decay=weight_decay), ours, grads), theirs)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_plain_sgd_is_torchs_but_for_the_rounding_of_the_step(momentum: float) -> None:
    """torch rounds lr * b and the subtraction together: half a unit in the last place of h and u a step."""
    options: dict[str, Any] = {"momentum": momentum, "dampening": 0.1 if momentum else 0.0, "weight_decay": 1e-3}
    ours, theirs = hidden_weights(37, 53), hidden_weights(37, 53)
    grads = gradients(ours, 20)
    largest = run(torch.optim.SGD([theirs], 0.01, foreach=False, **options), theirs, grads).abs().max().item()
    difference = (run(MetaplasticSGD([ours], 0.01, **options), ours, grads) - theirs).abs().max().item()
    assert difference <= 20 * np.spacing(np.float32(largest))


# --- groups, small parameters, schedules --------------------------------------------------------------------------


def test_parameters_of_one_dimension_are_not_gated() -> None:
    gated, free = hidden_weights(4, 8), hidden_weights(32)
    free.data = gated.data.reshape(32).clone()
    plain = nn.Parameter(gated.data.clone())
    grads = gradients(gated, 50)
    run(MetaplasticAdam([gated], m=8.0), gated, grads)
    run(MetaplasticAdam([plain]), plain, grads)
    run(MetaplasticAdam([free], m=8.0), free, [g.reshape(32) for g in grads])
    assert torch.equal(free, plain.reshape(32))
    assert not torch.equal(gated, plain)


def test_each_group_has_its_own_function() -> None:
    functions: list[Consolidation] = [Constant(), Tanh2(4.0), Linear(0.5)]
    weights = [hidden_weights(5, 6) for _ in functions]
    optimizer = MetaplasticAdam(
        [
            {"params": [weights[0]]},
            {"params": [weights[1]], "m": 4.0},
            {"params": [weights[2]], "consolidation": Linear(0.5)},
        ]
    )
    grads = gradients(weights[0], 60)
    for gradient in grads:
        for h in weights:
            h.grad = gradient.clone()
        optimizer.step()
    for h, f in zip(weights, functions, strict=True):
        assert torch.equal(h, adam_reference(hidden_weights(5, 6).detach(), grads, f, 0.0))


def test_a_group_replaces_the_default_of_either_kind() -> None:
    a, b = hidden_weights(2, 2), hidden_weights(2, 2)
    optimizer = MetaplasticAdam([{"params": [a], "consolidation": Linear(1.0)}, {"params": [b]}], m=2.0)
    assert [(g["m"], g["consolidation"]) for g in optimizer.param_groups] == [(0.0, Linear(1.0)), (2.0, None)]
    optimizer = MetaplasticAdam([{"params": [a], "m": 3.0}, {"params": [b]}], consolidation=Linear(1.0))
    assert [(g["m"], g["consolidation"]) for g in optimizer.param_groups] == [(3.0, None), (0.0, Linear(1.0))]


def test_m_may_change_between_steps() -> None:
    h, grads = hidden_weights(5, 6), gradients(hidden_weights(5, 6), 2)
    optimizer = MetaplasticSGD([h], 0.5, m=0.0)
    run(optimizer, h, grads[:1])
    optimizer.param_groups[0]["m"] = 3.0
    before = h.detach().clone()
    run(optimizer, h, grads[1:])
    assert torch.equal(h, metaplastic_update(before, 0.5 * grads[1], Tanh2(3.0)))


def test_options_set_between_steps_are_looked_at() -> None:
    h, other = hidden_weights(5, 6), hidden_weights(5, 6)
    optimizer = MetaplasticSGD([h], 0.5, consolidation=Linear(1.0))
    h.grad = other.grad = torch.ones(5, 6)
    optimizer.param_groups[0]["m"] = 3.0
    with pytest.raises(ValueError, match="give m or consolidation, not both"):
        optimizer.step()
    optimizer.param_groups[0].update(m=0.0, consolidation=lambda size: 1 / (1 + size / 0.1))
    optimizer.step()
    MetaplasticSGD([other], 0.5, consolidation=Soft(0.1)).step()
    assert torch.equal(h, other)


def test_parameter_groups() -> None:
    net = nn.Sequential(BinaryLinear(3, 4), nn.BatchNorm1d(4), BinaryConv2d(1, 2, 3))
    first, last = net[0].weight, net[2].weight
    groups = parameter_groups(net, [2.0, 4.0])
    assert [[id(p) for p in group["params"]] for group in groups[:2]] == [[id(first)], [id(last)]]
    assert [group["m"] for group in groups] == [2.0, 4.0, 0.0]
    assert {id(p) for p in groups[2]["params"]} == {id(net[1].weight), id(net[1].bias)}
    assert [group["m"] for group in parameter_groups(net, 1.5)] == [1.5, 1.5, 0.0]
    assert len(MetaplasticAdam(groups).param_groups) == 3
    first.requires_grad_(False)
    assert [group["m"] for group in parameter_groups(net, (4.0,))] == [4.0, 0.0]
    assert len(parameter_groups(BinaryLinear(2, 2), 1.0)) == 1
    with pytest.raises(ValueError, match="m has 3 values for 1 layers with binary weights"):
        parameter_groups(net, [1.0, 2.0, 3.0])


def test_learning_rate_schedules() -> None:
    h, grads = hidden_weights(5, 6), gradients(hidden_weights(5, 6), 4)
    expected = h.detach().clone()
    optimizer = MetaplasticSGD([h], 0.1, m=4.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    for lr, gradient in zip([0.1, 0.1, 0.05, 0.05], grads, strict=True):
        run(optimizer, h, [gradient])
        schedule.step()
        expected = metaplastic_update(expected, lr * gradient, Tanh2(4.0))
    assert torch.equal(h, expected)
    adam = MetaplasticAdam([h], m=4.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=0.01, total_steps=5)
    run(adam, h, grads[:1])
    cycle.step()
    assert adam.param_groups[0]["betas"][0] < 0.95


def test_closures_and_missing_gradients() -> None:
    h, idle = hidden_weights(2, 3), hidden_weights(2, 3)
    optimizer = MetaplasticAdam([h, idle], m=1.0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (h**2).sum()
        loss.backward()
        return loss

    start = h.detach().clone()
    assert optimizer.step(closure).item() == pytest.approx((start**2).sum().item())
    assert not torch.equal(h, start)
    assert torch.equal(idle, hidden_weights(2, 3))
    assert optimizer.step() is None


# --- state --------------------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "adam": lambda h: MetaplasticAdam([h], m=4.0, weight_decay=1e-3),
    "adam_table": lambda h: MetaplasticAdam([h], consolidation=Table([0, 1], [1, 0])),
    "sgd": lambda h: MetaplasticSGD([h], 0.01, m=4.0),
    "sgd_momentum": lambda h: MetaplasticSGD([h], 0.01, consolidation=Linear(1.0), momentum=0.9),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_run_goes_on_bitwise_from_its_state(make: Any) -> None:
    whole = hidden_weights(9, 11)
    grads = gradients(whole, 40)
    run(make(whole), whole, grads)

    half = hidden_weights(9, 11)
    first = make(half)
    run(first, half, grads[:20])
    state = copy.deepcopy(first.state_dict())
    other = mark_binary(nn.Parameter(half.detach().clone()))
    second = MetaplasticAdam([other]) if isinstance(first, MetaplasticAdam) else MetaplasticSGD([other], 1.0)
    second.load_state_dict(state)
    assert torch.equal(run(second, other, grads[20:]), whole)


def test_a_state_goes_on_where_steps_are_counted_elsewhere() -> None:
    whole = hidden_weights(9, 11)
    grads = gradients(whole, 40)
    run(MetaplasticAdam([whole], m=4.0), whole, grads)
    for counted in (False, True):
        half = hidden_weights(9, 11)
        first = MetaplasticAdam([half], m=4.0, capturable=counted)
        run(first, half, grads[:20])
        second = MetaplasticAdam([half], capturable=not counted)
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        assert torch.equal(run(second, half, grads[20:]), whole)


def test_what_can_be_captured(registry: dict[str, type[Consolidation]]) -> None:
    register_consolidation(Soft)  # which does not make it one that may be captured
    h = hidden_weights(2, 2)
    assert not MetaplasticAdam([h]).can_be_captured
    assert MetaplasticSGD([h], 0.1, momentum=0.9).can_be_captured
    for f in FUNCTIONS:
        assert MetaplasticAdam([h], consolidation=f, capturable=True).can_be_captured
    assert not MetaplasticAdam([h], consolidation=Soft(0.1), capturable=True).can_be_captured


@pytest.mark.skipif(torch.version.cuda is None, reason="this torch knows no CUDA")
def test_fused_steps_on_a_gpu_are_counted_there_and_can_be_captured() -> None:
    assert not MetaplasticAdam([hidden_weights(2, 2)], fused=True).can_be_captured
    with FakeTensorMode(), torch.device("cuda"):  # a tensor that is said to lie on a GPU, and has no content
        there = nn.Parameter(torch.zeros(2, 2))
    assert MetaplasticAdam([there], fused=True).can_be_captured
    assert not MetaplasticAdam([there]).can_be_captured


def test_the_state_is_tensors_and_plain_values() -> None:
    h = hidden_weights(4, 5)
    optimizer = MetaplasticAdam([h], consolidation=Table([0, 1], [1, 0]))
    run(optimizer, h, gradients(h, 2))
    state = optimizer.state_dict()
    assert all(isinstance(value, Tensor) for value in state["state"][0].values())
    assert set(state["state"][0]) == {"step", "exp_avg", "exp_avg_sq"}
    assert json.loads(json.dumps(state["param_groups"]))[0]["consolidation"]["points"] == [0.0, 1.0]
    assert optimizer.param_groups[0]["consolidation"] == Table([0, 1], [1, 0])
    restored = MetaplasticAdam([h])
    restored.load_state_dict({**state, "param_groups": json.loads(json.dumps(state["param_groups"]))})
    assert restored.param_groups[0]["consolidation"] == Table([0, 1], [1, 0])


def test_a_state_out_of_range_is_refused() -> None:
    optimizer = MetaplasticAdam([hidden_weights(2, 2)])
    state = optimizer.state_dict()
    state["param_groups"][0]["m"] = -1.0
    with pytest.raises(ValueError, match="m must be"):
        optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["m"] == 0.0


def test_a_function_of_ones_own_goes_through_the_state(registry: dict[str, type[Consolidation]]) -> None:
    whole, half = hidden_weights(9, 11), hidden_weights(9, 11)
    grads = gradients(whole, 40)
    run(MetaplasticAdam([whole], consolidation=Soft(0.1)), whole, grads)
    first = MetaplasticAdam([half], consolidation=Soft(0.1))
    run(first, half, grads[:20])
    with pytest.raises(ValueError, match="Soft cannot be saved: it is not registered"):
        first.state_dict()
    register_consolidation(Soft)
    second = MetaplasticAdam([half])
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert second.param_groups[0]["consolidation"] == Soft(0.1)
    assert torch.equal(run(second, half, grads[20:]), whole)


def test_a_plain_function_trains_and_is_not_saved() -> None:
    plain, declared = hidden_weights(9, 11), hidden_weights(9, 11)
    grads = gradients(plain, 20)
    optimizer = MetaplasticAdam([plain], consolidation=lambda size: 1 / (1 + size / 0.1))
    run(optimizer, plain, grads)
    assert torch.equal(plain, run(MetaplasticAdam([declared], consolidation=Soft(0.1)), declared, grads))
    with pytest.raises(
        TypeError, match=r"plain Python function, and no file can hold it: make it a class with @register"
    ):
        optimizer.state_dict()


# --- states that others have saved --------------------------------------------------------------------------------


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("form", [{}, {"foreach": True}, {"capturable": True}, {"fused": True}])
def test_a_state_of_torchs_adam_goes_on_with_the_own_gate(form: dict[str, bool], fused: bool) -> None:
    """As a metaplastic optimizer that has taken the first steps at m = 0, and that then has its m."""
    grads = gradients(hidden_weights(9, 11), 40)
    weights = hidden_weights(9, 11), hidden_weights(9, 11)
    options = {"lr": 0.02, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 1e-3}
    if form.get("capturable"):
        state = saved_by(torch.optim.Adam, weights[0], grads[:20], options)
        state["param_groups"][0]["capturable"] = True  # torch takes such steps on a GPU only
    else:
        state = saved_by(torch.optim.Adam, weights[0], grads[:20], {**options, **form})
    before = copy.deepcopy(state)
    ours = MetaplasticAdam([weights[0]], lr=1.0, m=4.0, fused=fused)
    ours.load_state_dict(state)
    group = ours.param_groups[0]
    assert (group["m"], group["consolidation"], group["fused"]) == (4.0, None, fused)
    assert {name: group[name] for name in options} == options
    assert ours.state[weights[0]]["step"].dtype == torch.int64
    want = MetaplasticAdam([weights[1]], **options)
    run(want, weights[1], grads[:20])
    want.param_groups[0]["m"] = 4.0
    for h, optimizer in zip(weights, (ours, want), strict=True):
        run(optimizer, h, grads[20:])
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-5, atol=1e-6)
    assert torch.equal(state["state"][0]["step"], before["state"][0]["step"])  # counted in a copy


def saved_by(make: Any, h: nn.Parameter, grads: list[Tensor], options: dict[str, Any]) -> dict[str, Any]:
    optimizer = make([h], **options)
    run(optimizer, h, grads)
    return optimizer.state_dict()


def test_a_state_of_torchs_sgd_goes_on_with_the_own_gate() -> None:
    h, grads = hidden_weights(9, 11), gradients(hidden_weights(9, 11), 3)
    state = saved_by(torch.optim.SGD, h, grads[:2], {"lr": 0.01, "momentum": 0.9})
    buffer, before = state["state"][0]["momentum_buffer"].clone(), h.detach().clone()
    ours = MetaplasticSGD([h], 1.0, consolidation=Linear(0.1))
    ours.load_state_dict(state)
    run(ours, h, grads[2:])
    expected = metaplastic_update(before, 0.01 * torch.add(buffer * 0.9, grads[2]), Linear(0.1))
    torch.testing.assert_close(h.detach(), expected, rtol=1e-6, atol=1e-8)
    state["state"][0]["momentum_buffer"] = None  # as some torch versions write it
    ours.load_state_dict(state)
    assert not ours.state.get(h)


def test_a_state_of_an_older_version_leaves_what_it_does_not_know() -> None:
    h, grads = hidden_weights(9, 11), gradients(hidden_weights(9, 11), 20)
    state = saved_by(MetaplasticAdam, h, grads, {"m": 4.0})
    for name in ("gated", "fused", "capturable"):
        del state["param_groups"][0][name]
    state["state"][0]["step"] = 20  # a number of Python
    other = MetaplasticAdam([{"params": [h], "consolidation": Linear(1.0)}], fused=True)
    other.load_state_dict(state)
    group = other.param_groups[0]
    assert (group["m"], group["consolidation"], group["gated"], group["fused"]) == (4.0, None, "all", True)
    assert other.state[h]["step"].item() == 20


def test_schedules_and_rates_in_tensors_are_taken_over() -> None:
    h = hidden_weights(2, 2)
    adam = torch.optim.Adam([h], lr=torch.tensor(0.02))
    torch.optim.lr_scheduler.OneCycleLR(adam, 0.5, total_steps=10, cycle_momentum=False)
    ours = MetaplasticAdam([h], m=4.0)
    ours.load_state_dict(adam.state_dict())
    assert ours.param_groups[0]["lr"] == pytest.approx(0.02)
    assert ours.param_groups[0]["max_lr"] == 0.5


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (torch.optim.Adam, {"amsgrad": True}, "an optimizer with amsgrad=True, which the metaplastic ones do not have"),
        (torch.optim.Adam, {"amsgrad": True, "maximize": True}, "with amsgrad=True and maximize=True"),
        (torch.optim.RMSprop, {}, "the state of group 0 has no betas but lr, "),
        (torch.optim.SGD, {"lr": 0.1}, "the state of group 0 has no betas, eps but lr, momentum"),
        (torch.optim.Adamax, {}, "the state of parameter 0 has no exp_avg_sq but step, exp_avg, exp_inf"),
    ],
)
def test_states_of_other_optimizers_are_refused(make: Any, options: dict[str, Any], message: str) -> None:
    h = hidden_weights(2, 2)
    ours = MetaplasticAdam([h], lr=0.3, m=4.0)
    with pytest.raises(ValueError, match=message):
        ours.load_state_dict(saved_by(make, h, gradients(h, 2), options))
    assert ours.param_groups[0]["lr"] == 0.3
    assert not ours.state


def test_states_that_do_not_fit_are_refused() -> None:
    h, other = hidden_weights(2, 2), hidden_weights(3, 2)
    state = saved_by(torch.optim.Adam, h, gradients(h, 2), {})
    with pytest.raises(ValueError, match=r"groups of 1 parameters and this optimizer of 1, 1: make it with the groups"):
        MetaplasticAdam([{"params": [h]}, {"params": [other]}]).load_state_dict(state)
    with pytest.raises(ValueError, match=r"exp_avg of parameter 0 has the shape \(2, 2\), and the parameter \(3, 2\)"):
        MetaplasticAdam([other]).load_state_dict(state)
    for nothing in ({}, {"weight": h}, [1]):
        with pytest.raises(ValueError, match="this is no optimizer's state"):
            MetaplasticAdam([h]).load_state_dict(nothing)  # type: ignore[arg-type]
    nesterov = saved_by(torch.optim.SGD, h, gradients(h, 2), {"lr": 0.1, "momentum": 0.9, "nesterov": True})
    with pytest.raises(ValueError, match="nesterov=True"):
        MetaplasticSGD([h], 0.1).load_state_dict(nesterov)


def test_clearing_the_state_starts_the_moments_again() -> None:
    h, grads = hidden_weights(4, 5), gradients(hidden_weights(4, 5), 20)
    optimizer = MetaplasticAdam([h], m=4.0)
    run(optimizer, h, grads[:10])
    fresh = mark_binary(nn.Parameter(h.detach().clone()))
    optimizer.state.clear()
    assert torch.equal(run(optimizer, h, grads[10:]), run(MetaplasticAdam([fresh], m=4.0), fresh, grads[10:]))


# --- what is refused ----------------------------------------------------------------------------------------------

BAD_OPTIONS = [
    ({"lr": -1.0}, ValueError, "^lr must be at least 0 and finite, not -1.0"),
    ({"lr": float("nan")}, ValueError, "^lr must"),
    ({"lr": torch.tensor(0.1)}, TypeError, "^lr must be a number, not Tensor"),
    ({"m": -0.5}, ValueError, "^m must be 0 or"),
    ({"m": "1"}, TypeError, "^m must be a number"),
    ({"weight_decay": -1e-7}, ValueError, "^weight_decay must"),
    ({"consolidation": "tanh2"}, TypeError, "^consolidation must be a Consolidation"),
    ({"m": 1.0, "consolidation": Linear(1.0)}, ValueError, "^give m or consolidation, not both"),
]
BAD_ADAM = [
    ({"betas": (0.9, 1.0)}, ValueError, r"^betas\[1\] must be at least 0 and below 1"),
    ({"betas": 0.9}, ValueError, "^betas must be two numbers"),
    ({"eps": 0.0}, ValueError, "^eps must be above 0"),
    ({"eps": -1.0}, ValueError, "^eps must"),
]
BAD_SGD = [
    ({"momentum": 1.0}, ValueError, "^momentum must be at least 0 and below 1"),
    ({"dampening": -0.1}, ValueError, "^dampening must"),
]


@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [(MetaplasticAdam, *case) for case in BAD_OPTIONS + BAD_ADAM]
    + [(MetaplasticSGD, *case) for case in BAD_OPTIONS + BAD_SGD],
)
def test_options_out_of_range(make: Any, options: dict[str, Any], error: type, message: str) -> None:
    """When the optimizer is made, in one of its groups, and in a group added later, which then is not kept."""
    with pytest.raises(error, match=message):
        make([hidden_weights(2, 2)], **{"lr": 0.1, **options})
    with pytest.raises(error, match=message):
        make([{"params": [hidden_weights(2, 2)], **options}], lr=0.1)
    optimizer = make([hidden_weights(2, 2)], lr=0.1)
    with pytest.raises(error, match=message):
        optimizer.add_param_group({"params": [hidden_weights(2, 2)], **options})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("kind", ["sparse", "complex"])
@pytest.mark.parametrize("make", [MetaplasticAdam, MetaplasticSGD])
def test_sparse_and_complex_gradients_change_nothing(make: Any, kind: str) -> None:
    h = hidden_weights(2, 3)
    odd = nn.Parameter(torch.ones(4, 5, dtype=torch.complex64 if kind == "complex" else torch.float32))
    optimizer = make([{"params": [h]}, {"params": [odd]}], lr=0.1)
    h.grad = torch.ones(2, 3)
    odd.grad = torch.ones_like(odd) if kind == "complex" else torch.ones(4, 5).to_sparse()
    with pytest.raises(TypeError, match=rf"group 1: the parameter of shape \(4, 5\) has a {kind} gradient"):
        optimizer.step()
    assert torch.equal(h, hidden_weights(2, 3))


# --- what it is for -----------------------------------------------------------------------------------------------


def binary(h: Tensor) -> Tensor:
    return torch.where(h.detach() >= 0, 1.0, -1.0)


def learn(optimizer: torch.optim.Optimizer, h: nn.Parameter, importance: Tensor, seed: int) -> Tensor:
    """60 steps on a quadratic problem on binary weights, which wants the signs of a random target, each `importance`
    strongly. Its optimum lies beyond +-1, so the hidden weights keep growing. Returns the target."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 2, h.shape, generator=generator) * 2.0 - 1
    for _ in range(60):
        run(optimizer, h, [importance * (binary(h) - 1.5 * target)])
    return target


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (lambda h, m: MetaplasticAdam([h], m=m), (0.0, 2.0, 8.0, 200.0)),
        (lambda h, m: MetaplasticSGD([h], 0.02, m=m, momentum=0.5), (0.0, 0.25, 1.0, 4.0)),
    ],
    ids=["adam", "sgd"],
)
def test_the_larger_m_the_more_stays_of_the_first_task(make: Any, values: tuple[float, ...]) -> None:
    """Share of the signs learned first that the second task leaves: at m = 0 the half that both agree on, and all of
    them where m is very large."""
    kept = []
    for m in values:
        h = hidden_weights(40, 50)
        optimizer = make(h, m)
        learn(optimizer, h, torch.ones_like(h), seed=3)
        after_first = binary(h)
        second = learn(optimizer, h, torch.ones_like(h), seed=4)
        kept.append((binary(h) == after_first).float().mean().item())
        if m == 0:
            assert torch.equal(binary(h), second)
    assert kept[0] == pytest.approx(0.5, abs=0.05)
    assert kept == sorted(kept)
    assert kept[-1] > 0.99


def test_a_moderate_m_keeps_what_the_first_task_depends_on() -> None:
    """Steps in proportion to the importance: the important weights have grown far and stay, the others turn freely."""
    importance = torch.linspace(0.1, 3.0, 2000).reshape(40, 50)
    h = hidden_weights(40, 50)
    optimizer = MetaplasticSGD([h], 0.02, m=2.0)
    first = learn(optimizer, h, importance, seed=3)
    second = learn(optimizer, h, importance, seed=4)
    kept, learned = ((binary(h) == target).float().reshape(-1) for target in (first, second))
    assert kept[-500:].mean() > 0.95
    assert learned[:500].mean() > 0.95
