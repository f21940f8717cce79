"""Which weights are hidden weights: their marks, and that nothing but them is gated unless it is named."""

from __future__ import annotations

import copy
import io
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize, prune

from lava_meta.nn import BinaryConv2d, BinaryLayer, BinaryLinear, RealMLP, hidden_weights, is_binary, mark_binary
from lava_meta.optim import MetaplasticAdam, MetaplasticSGD, parameter_groups
from lava_meta.rule import Linear, Tanh2, metaplastic_update
from lava_meta.training.methods import EWC, SI, Beakers, Levels
from lava_meta.training.methods.base import anchored


class DetachLinear(nn.Linear):
    """A binary layer as many publish it: the library knows nothing of it."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, (self.weight.sign() - self.weight).detach() + self.weight, self.bias)


class KnownLinear(BinaryLayer, DetachLinear):
    """The same, derived from `BinaryLayer`."""


class Mixed(nn.Module):
    """A real first and last layer around a binary one."""

    def __init__(self, middle: type[nn.Linear] = KnownLinear) -> None:
        super().__init__()
        self.first, self.norm, self.middle = nn.Linear(6, 8), nn.BatchNorm1d(8), middle(8, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(torch.tanh(self.norm(self.first(x)))))


class LowRank(nn.Module):
    """A frozen layer and a trained correction of rank 2."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down, self.up = nn.Parameter(torch.randn(2, 8)), nn.Parameter(torch.zeros(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.down.T @ self.up.T


def learn(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    x = torch.rand(12, 6, generator=torch.Generator().manual_seed(0))
    optimizer.zero_grad()
    functional.cross_entropy(model(x), torch.arange(12) % 3).backward()
    optimizer.step()


def taken(weight: nn.Parameter, optimizer: torch.optim.Optimizer) -> float:
    """The share of a step that shrinks |h| = 1 which the optimizer takes (SGD, lr 0.1)."""
    with torch.no_grad():
        weight.fill_(1.0)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    return (1 - weight.detach()).mean().item() / 0.1


GATE = 1 / torch.cosh(torch.tensor(2.0, dtype=torch.float64)).item() ** 2  # at |h| = 1 with m = 2: 0.0707


# --- what the optimizers gate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fused", [False, True])
def test_a_real_valued_layer_is_not_gated(fused: bool) -> None:
    model = Mixed()
    optimizer = MetaplasticSGD(model.parameters(), 0.1, m=2.0, fused=fused)
    with pytest.warns(UserWarning, match=r"no binary layer uses 1 of the weights \(of shape \(8, 6\)\)"):
        assert taken(model.first.weight, optimizer) == pytest.approx(1, rel=1e-5)
    assert taken(model.middle.weight, optimizer) == pytest.approx(GATE, rel=1e-4)
    assert taken(model.middle.bias, optimizer) == pytest.approx(1, rel=1e-5)


def test_a_first_layer_learns_at_a_large_m_as_under_plain_sgd() -> None:
    results = []
    for m in (0.0, 30.0):
        torch.manual_seed(0)
        model = Mixed()
        optimizer = MetaplasticSGD(
            [{"params": model.middle.parameters(), "lr": 0.0}, {"params": model.first.parameters()}], 0.1, m=m
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(5):
                learn(model, optimizer)
        results.append(model.first.weight.detach())
    assert torch.equal(*results)


def test_a_group_that_names_its_gate_is_gated_whatever_it_holds() -> None:
    model = Mixed(DetachLinear)
    groups = [{"params": model.middle.parameters(), "m": 2.0}, {"params": model.first.parameters()}]
    optimizer = MetaplasticSGD(groups, 0.1)
    optimizer.add_param_group({"params": model.last.parameters(), "consolidation": Linear(4.0)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert taken(model.middle.weight, optimizer) == pytest.approx(GATE, rel=1e-4)
        assert taken(model.first.weight, optimizer) == pytest.approx(1, rel=1e-5)
        assert taken(model.last.weight, optimizer) == pytest.approx(0.75, rel=1e-5)
    with pytest.raises(ValueError, match='gated is \'none\'; choose "binary" or "all"'):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2, 2))], "gated": "none"})


def test_weights_are_warned_of_once_and_only_if_a_gate_was_asked_for() -> None:
    model = Mixed(DetachLinear)
    optimizer = MetaplasticAdam(model.named_parameters(), m=2.0)
    with pytest.warns(UserWarning, match=r"uses 3 of the weights \(first.weight, middle.weight, last.weight\)"):
        learn(model, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learn(model, optimizer)
        learn(model, MetaplasticAdam(model.parameters()))
        learn(model, MetaplasticAdam([{"params": model.parameters(), "m": 0.0}], m=2.0))


def test_frozen_weights_are_not_warned_of_but_low_rank_ones_are() -> None:
    model = Mixed()
    model.middle = LowRank(model.middle)  # type: ignore[assignment]
    optimizer = MetaplasticAdam(model.middle.parameters(), m=2.0)
    with pytest.warns(UserWarning, match=r"uses 2 of the weights \(of shape \(2, 8\), of shape \(8, 2\)\)"):
        learn(model, optimizer)


def test_parameter_groups_name_the_weights_that_they_leave_out() -> None:
    model = Mixed()
    with pytest.warns(UserWarning, match=r"uses 2 of the weights \(first.weight, last.weight\)"):
        groups = parameter_groups(model, [3.0])
    assert [(len(group["params"]), group["m"]) for group in groups] == [(1, 3.0), (7, 0.0)]
    assert groups[0]["params"][0] is model.middle.weight
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parameter_groups(model, 0.0)
        parameter_groups(nn.Sequential(BinaryLinear(2, 3), nn.BatchNorm1d(3), BinaryConv2d(1, 2, 3)), 4.0)


# --- marks ----------------------------------------------------------------------------------------------------------


def test_binary_layers_mark_their_weights_and_nothing_else() -> None:
    model = nn.Sequential(BinaryLinear(2, 3), nn.Linear(3, 3), BinaryConv2d(1, 2, 3), KnownLinear(3, 3))
    assert [*hidden_weights(model)] == ["0.weight", "2.weight", "3.weight"]
    model[0].weight.requires_grad_(False)
    assert [*hidden_weights(model)] == ["2.weight", "3.weight"]

    class Two(BinaryLayer):
        binary = ("inner", "outer")

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer, self.weight = (nn.Parameter(torch.zeros(2, 2)) for _ in range(3))

    assert [*hidden_weights(Two())] == ["inner", "outer"]
    assert [*hidden_weights(RealMLP((4, 3, 2)))] == ["2.weight", "5.weight"]
    with pytest.raises(TypeError, match=r"mark_binary takes a parameter, such as layer.weight, not Linear"):
        mark_binary(nn.Linear(2, 2))  # type: ignore[type-var]


def assigned(layer: Any) -> Any:
    layer.load_state_dict(copy.deepcopy(layer.state_dict()), assign=True)
    return layer


def saved_whole(layer: Any) -> Any:
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def swapped(layer: Any) -> Any:
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        layer = layer.double()
        layer.load_state_dict(copy.deepcopy(layer.state_dict()))
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    return layer


def from_meta(layer: Any) -> Any:
    return copy.deepcopy(layer).to("meta").to_empty(device="cpu")


@pytest.mark.parametrize("make", [lambda: BinaryLinear(3, 4), lambda: KnownLinear(3, 4), lambda: BinaryConv2d(1, 2, 3)])
@pytest.mark.parametrize(
    "treat", [copy.deepcopy, assigned, saved_whole, swapped, from_meta, lambda layer: layer.double()]
)
def test_marks_outlive_what_replaces_parameters(make: Any, treat: Any) -> None:
    layer = make()
    kept = treat(layer)
    assert is_binary(kept.weight)
    kept.weight = nn.Parameter(torch.zeros_like(kept.weight))
    assert is_binary(kept.weight)


def test_marks_outlive_parametrizations_and_pruning() -> None:
    layer = KnownLinear(3, 4)
    parametrize.register_parametrization(layer, "weight", nn.Tanh())
    assert is_binary(layer.parametrizations.weight.original)  # type: ignore[union-attr,arg-type]
    layer = KnownLinear(3, 4)
    prune.random_unstructured(layer, "weight", 0.5)
    assert is_binary(layer.weight_orig)


@pytest.mark.parametrize("fused", [False, True])
def test_a_copied_optimizer_goes_on_as_the_first(fused: bool) -> None:
    """Alone, with parameters of its own, and together with its model."""
    model = nn.Sequential(BinaryLinear(6, 3))
    first = MetaplasticAdam(model.parameters(), lr=0.05, m=8.0, fused=fused)
    learn(model, first)
    alone = copy.deepcopy(first)
    _, together = copy.deepcopy((model, first))
    weights = [optimizer.param_groups[0]["params"][0] for optimizer in (first, alone, together)]
    generator = torch.Generator().manual_seed(1)
    for gradient in torch.randn(4, 3, 6, generator=generator):
        for weight, optimizer in zip(weights, (first, alone, together), strict=True):
            weight.grad = gradient.clone()
            optimizer.step()
    assert torch.equal(weights[1], weights[0])
    assert torch.equal(weights[2], weights[0])
    assert weights[1] is not weights[0]


# --- ordinary training loops ----------------------------------------------------------------------------------------


def test_schedules_loss_scaling_and_later_groups_gate_the_binary_layer_alone() -> None:
    """Against the declared update with the steps of torch's own SGD, scaled losses and a falling rate included."""
    torch.manual_seed(0)
    model = Mixed()
    optimizer = MetaplasticSGD(model.middle.parameters(), 0.1, m=2.0)
    optimizer.add_param_group({"params": [*model.first.parameters(), *model.last.parameters()], "m": 0.0, "lr": 0.02})
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    x = torch.rand(12, 6, generator=torch.Generator().manual_seed(0))
    for rate in (0.1, 0.1, 0.05, 0.05):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        optimizer.zero_grad()
        scaler.scale(functional.cross_entropy(model(x), torch.arange(12) % 3)).backward()
        scaler.step(optimizer)  # leaves unscaled gradients behind
        scaler.update()
        schedule.step()
        hidden = model.middle.weight
        assert hidden.grad is not None
        expected = metaplastic_update(before["middle.weight"], rate * hidden.grad, Tanh2(2.0))
        torch.testing.assert_close(hidden.detach(), expected, rtol=1e-6, atol=1e-8)
        real = model.first.weight
        torch.testing.assert_close(real.detach(), before["first.weight"] - rate / 5 * real.grad, rtol=1e-6, atol=1e-8)


# --- methods --------------------------------------------------------------------------------------------------------


def test_levels_and_beakers_touch_hidden_weights_only() -> None:
    for method in (Levels(bits=2, limit=1.0), Beakers(pipes=(0.3, 0.1), areas=(1.0, 2.0))):
        model = Mixed()
        real = model.first.weight.detach().clone()
        hooks = method.start(model)
        hooks.stepped()
        assert torch.equal(model.first.weight, real)
        with pytest.raises(ValueError, match=r"the model has no binary weights: .*BinaryLayer"):
            method.start(Mixed(DetachLinear))


@pytest.mark.parametrize("method", [EWC(1.0, anchor="binary"), SI(1.0, anchor="binary")])
def test_springs_hold_a_real_weight_by_itself_and_a_binary_one_by_its_sign(method: Any) -> None:
    model = Mixed()
    hooks: Any = method.start(model)
    assert {*hooks.weights} == {"first.weight", "middle.weight", "last.weight"}
    assert torch.equal(anchored(model.first.weight, "binary"), model.first.weight)
    assert set(anchored(model.middle.weight, "binary").unique().tolist()) <= {-1.0, 1.0}
