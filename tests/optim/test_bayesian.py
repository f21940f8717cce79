"""BiMU and MESU: each step against its equation in scalars, and what the papers say of where they settle."""

import math

import pytest
import torch

from lava_meta.nn import GaussianLinear
from lava_meta.optim import BiMUOptimizer, MESUOptimizer


def hidden(*values):
    return torch.nn.Parameter(torch.tensor([values], dtype=torch.float64))


def gaussian(mean, deviation):
    layer = GaussianLinear(1, 1).double()
    with torch.no_grad():
        layer.mean.fill_(mean)
        layer.deviation.fill_(deviation)
    return layer


def test_a_step_of_bimu_by_hand():
    # h = ln(3)/2, so that tanh(h) = 1/2 and s = 3/4; N = 4.
    h = math.log(3) / 2
    weight = hidden(h, h, -h, 0.0)
    weight.grad = torch.tensor([[1.0, -1.0, 1.0, 0.5]], dtype=torch.float64)
    BiMUOptimizer([weight], lr=2.0, lr_max=0.5, window=4.0).step()
    want = [
        h - (2 + h * 0.75 / 4) / (0.75 + 1 + 2 + 2),
        h - (-2 + h * 0.75 / 4) / (0.75 - 1 + 2 + 2),
        -h - (2 - h * 0.75 / 4) / (0.75 - 1 + 2 + 2),
        0 - 1 / (1 + 0 + 1 + 2),
    ]
    assert weight.tolist()[0] == pytest.approx(want, abs=1e-12)


def test_a_step_of_mesu_by_hand():
    layer = gaussian(0.5, 0.2)
    layer.mean.grad, layer.deviation.grad = (torch.full((1, 1), g, dtype=torch.float64) for g in (3.0, -40.0))
    MESUOptimizer([layer], window=10.0, prior=0.4, lr=2.0, lr_deviation=0.5, clip=1.0).step()
    # v = 0.04; gradients stay within +-1/0.2 = 5; N prior^2 = 1.6
    assert layer.mean.item() == pytest.approx(0.5 - 2 * 0.04 * (3 + 0.5 / 1.6), abs=1e-12)
    assert layer.deviation.item() == pytest.approx(0.2 - 0.25 * (0.04 * -5 - 0.2 * (0.16 - 0.04) / 1.6), abs=1e-12)


@pytest.mark.parametrize("slope", [-0.01, 0.004])
def test_bimu_settles_at_the_posterior_of_the_window(slope):
    """A loss that falls by `slope` an image with w has the posterior log-odds 2 N slope: h = N slope."""
    weight, window = hidden(0.3), 100.0
    optimizer = BiMUOptimizer([weight], window=window)
    for _ in range(6000):
        weight.grad = -slope * (1 - torch.tanh(weight.detach()) ** 2)  # of -slope * E[w]
        optimizer.step()
    assert weight.item() == pytest.approx(window * slope, rel=1e-6)


def test_without_a_gradient_bimu_forgets_at_the_rate_of_its_window():
    weight = hidden(0.01)
    optimizer = BiMUOptimizer([weight], lr_max=0.1, window=50.0)
    for _ in range(550):  # window * (1 + 1 / lr_max)
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
    assert weight.item() / 0.01 == pytest.approx(math.exp(-1), rel=2e-3)


def test_mesu_settles_at_the_posterior_of_the_window():
    """On a parabola: the conjugate Gaussian posterior of N observations at `target` with precision `curvature`."""
    layer, window, curvature, target, prior = gaussian(-1.0, 0.5), 20.0, 3.0, 0.7, 0.5
    optimizer = MESUOptimizer([layer], window=window, prior=prior)
    for _ in range(3000):
        layer.mean.grad = curvature * (layer.mean.detach() - target)
        layer.deviation.grad = curvature * layer.deviation.detach()
        optimizer.step()
    precision = 1 / prior**2 + window * curvature
    assert 1 / layer.deviation.item() ** 2 == pytest.approx(precision, rel=1e-6)
    assert layer.mean.item() == pytest.approx(window * curvature * target / precision, rel=1e-6)


def test_a_window_counts_images_and_gradients_are_sums():
    weights = [hidden(0.4), hidden(0.4)]
    layers = [gaussian(0.4, 0.3), gaussian(0.4, 0.3)]
    for batch_size, weight, layer in zip((8, 1), weights, layers, strict=True):
        for parameter in (weight, *layer.parameters()):
            parameter.grad = torch.full_like(parameter, 0.8 / batch_size)
        BiMUOptimizer([weight], window=30.0 * batch_size, batch_size=batch_size).step()
        MESUOptimizer([layer], window=30.0 * batch_size, batch_size=batch_size).step()
    torch.testing.assert_close(weights[0], weights[1])
    torch.testing.assert_close(layers[0].state_dict(), layers[1].state_dict())
    assert weights[0].item() != 0.4


def test_a_deviation_stays_positive():
    layer = gaussian(0.0, 0.1)
    optimizer = MESUOptimizer([layer], lr_deviation=1.9)
    for _ in range(5):
        layer.mean.grad = layer.deviation.grad = torch.full((1, 1), 1e6, dtype=torch.float64)
        optimizer.step()
    assert 0 < layer.deviation.item() < 1e-5


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: BiMUOptimizer([hidden(0.0)], window=0), "window"),
        (lambda: BiMUOptimizer([hidden(0.0)], lr_max=-1), "lr_max"),
        (lambda: MESUOptimizer([gaussian(0, 1)], prior=0), "prior"),
        (lambda: MESUOptimizer([gaussian(0, 1)], lr_deviation=4.0, clip=0.5), r"lr_deviation \* clip is 2"),
    ],
)
def test_names_what_is_wrong(make, says):
    with pytest.raises(ValueError, match=says):
        make()
