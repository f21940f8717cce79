"""A metaplasticity in medians of |h|: against equations in numpy, and what it is for: no scale and no length matter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lava_meta.nn import mark_binary
from lava_meta.optim import MetaplasticAdalayer, MetaplasticAdam, MetaplasticSGD
from lava_meta.rule import Exponential
from lava_meta.training import TrainSettings


def weights_and_gradients(*shape: int) -> tuple[nn.Parameter, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    weights = mark_binary(nn.Parameter(torch.rand(shape, generator=generator) * 0.1 - 0.05))
    drift = torch.randn(shape, generator=generator)
    return weights, [torch.randn(shape, generator=generator) + drift * (1 if t < 20 else -1) for t in range(40)]


def run(optimizer: Any, weights: nn.Parameter, gradients: list[torch.Tensor]) -> torch.Tensor:
    for gradient in gradients:
        weights.grad = gradient.clone()
        optimizer.step()
    return weights.detach()


@pytest.mark.parametrize("fused", [False, True])
def test_sgd_follows_the_equations(fused: bool) -> None:
    weights, gradients = weights_and_gradients(31, 33)
    h = weights.detach().numpy().astype(np.float64)
    for gradient in gradients:
        u = 0.01 * gradient.numpy().astype(np.float64)
        gate = np.cosh(0.8 * h / np.median(np.abs(h))) ** -2
        h = h - u * np.where(np.where(h >= 0, 1, -1) * u > 0, gate, 1)
    result = run(MetaplasticSGD([weights], lr=0.01, m=0.8, relative=True, fused=fused), weights, gradients)
    # torch's median of an even number is the lower of the two in the middle
    np.testing.assert_allclose(result.numpy(), h, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", [MetaplasticAdam, MetaplasticAdalayer])
def test_weights_and_rates_of_any_scale_learn_alike(kind: type) -> None:
    """Eight times as large weights that move eight times as far end eight times as large, to the bit."""
    small, gradients = weights_and_gradients(70, 90)  # more than are sampled
    large = mark_binary(nn.Parameter(small.detach() * 8))
    results = [
        run(kind([weights], lr=lr, m=1.0, relative=True), weights, gradients)
        for weights, lr in ((small, 0.005), (large, 0.04))
    ]
    assert torch.equal(results[0] * 8, results[1])


def test_the_state_goes_on_and_a_layer_of_zeros_learns() -> None:
    whole, gradients = weights_and_gradients(20, 30)
    halves = mark_binary(nn.Parameter(whole.detach().clone()))
    run(MetaplasticAdam([whole], m=1.0, relative=True), whole, gradients)
    first = MetaplasticAdam([halves], m=1.0, relative=True)
    run(first, halves, gradients[:20])
    second = MetaplasticAdam([halves])
    second.load_state_dict(first.state_dict())
    assert torch.equal(run(second, halves, gradients[20:]), whole)
    zeros = mark_binary(nn.Parameter(torch.zeros(4, 5)))
    assert run(MetaplasticAdam([zeros], m=1.0, relative=True), zeros, [torch.ones(4, 5)]).lt(0).all()


def test_what_does_not_belong_together_is_refused() -> None:
    weights, _ = weights_and_gradients(2, 3)
    with pytest.raises(ValueError, match=r"relative=True is of m"):
        MetaplasticAdam([weights], consolidation=Exponential(2.0), relative=True)
    with pytest.raises(TypeError, match="relative is 1"):
        MetaplasticAdam([weights], relative=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"relative=True is of m"):
        TrainSettings(consolidation=Exponential(2.0), relative=True)
