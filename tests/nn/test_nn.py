"""Layers, norms and networks against their equations."""

from __future__ import annotations

import copy
import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from lava_meta.data import Dataset, Images, load_dataset
from lava_meta.data.scenarios import permuted_tasks
from lava_meta.nn import (
    AbsStep,
    BinaryConv2d,
    BinaryConvNet,
    BinaryLinear,
    BinaryMLP,
    FixedNorm,
    Pixels,
    SampleNorm,
    Sign,
    TaskBatchNorm,
    learning_shares,
    recalibrate,
    sign_ste,
    use_statistics,
)
from lava_meta.nn.networks import Norm
from lava_meta.training import TrainSettings, train

QUICK = TrainSettings(epochs=1, m=8.0)


def test_sign_of_zero_is_plus_one_and_gradients_pass_inside_the_window() -> None:
    x = torch.tensor([-1.5, -1.0, -0.0, 0.0, 0.3, 1.0, 1.0001], requires_grad=True)
    y = sign_ste(x)
    assert y.tolist() == [-1, -1, 1, 1, 1, 1, 1]
    y.backward(torch.arange(1.0, 8.0))
    assert x.grad is not None
    assert x.grad.tolist() == [0, 2, 3, 4, 5, 6, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_binary_linear_is_the_product_with_signs_and_passes_the_gradient_of_the_signs(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = BinaryLinear(30, 7).to(dtype)
    with torch.no_grad():
        layer.weight[0, :3] = torch.tensor([0.0, 5.0, -5.0])  # zero, and far outside any window
    x = torch.randn(11, 30, dtype=dtype)
    signs = torch.where(layer.weight >= 0, 1.0, -1.0).to(dtype).requires_grad_()
    weights = torch.randn(11, 7, dtype=dtype)
    (layer(x) * weights).sum().backward()
    (functional.linear(x, signs) * weights).sum().backward()
    assert torch.equal(layer(x), functional.linear(x, signs))
    assert layer.weight.grad is not None
    assert torch.equal(layer.weight.grad, signs.grad)
    assert layer.bias is None


def test_binary_conv_is_the_convolution_with_signs() -> None:
    torch.manual_seed(0)
    conv = BinaryConv2d(4, 6, (3, 2), stride=2, padding=1, dilation=(1, 2), groups=2)
    x = torch.randn(5, 4, 9, 8)
    signs = torch.where(conv.weight >= 0, 1.0, -1.0)
    assert torch.equal(conv(x), functional.conv2d(x, signs, None, 2, 1, (1, 2), 2))


@pytest.mark.parametrize("layer", [BinaryLinear(500, 400), BinaryConv2d(30, 40, 5)])
def test_hidden_weights_start_uniform(layer: nn.Module) -> None:
    torch.manual_seed(0)
    layer.reset_parameters()
    weight = layer.weight.detach()
    assert weight.abs().max() <= 0.05
    assert weight.abs().max() > 0.0499
    assert abs(weight.std().item() - 0.1 / math.sqrt(12)) < 2e-4


def test_pixels_standardize_as_torchvision_does() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)[None]
    expected = (pixels.double() / 255 - 0.1307) / 0.3081
    assert torch.allclose(Pixels.standardize(0.1307, 0.3081)(pixels).double(), expected, atol=1e-6)
    assert torch.equal(Pixels(offset=33)(pixels), pixels.float() - 33)


def test_pixels_keep_the_numbers_they_were_given() -> None:
    """33.3184 and 1/78 in float64, whatever types the module had between; the float32 forward rounds them first."""
    offset, gain = 33.3184, 1 / 78
    pixels, levels = Pixels(offset, gain), torch.arange(256)
    expected = (levels.float() - torch.tensor(offset)) * torch.tensor(gain)
    assert torch.equal(pixels(levels), expected)
    double = copy.deepcopy(pixels).half().float().double()
    assert torch.equal(double(levels), (levels.double() - offset) * gain)
    assert torch.equal(double.float()(levels), expected)
    # A file of float32 holds their rounding, or other numbers.
    same, other = Pixels(offset, gain), Pixels(1, 2)
    for module in (same, other):
        module.load_state_dict({name: value.clone() for name, value in pixels.state_dict().items()})
    assert (same.exact_offset, same.exact_gain) == (offset, gain)
    assert (other.exact_offset, other.exact_gain) == (pixels.offset.item(), pixels.gain.item())
    assert torch.equal(other.double()(levels), (levels.double() - pixels.offset.item()) * pixels.gain.item())
    pixels.offset.fill_(5)
    assert (pixels.exact_offset, pixels.double().offset.item()) == (5, 5)


def test_sample_norm_is_layer_norm_without_affine_and_exact_on_ties() -> None:
    x = torch.randn(9, 20, dtype=torch.float64) * 30
    assert torch.allclose(SampleNorm()(x), functional.layer_norm(x, (20,)), rtol=1e-12, atol=1e-12)
    ties = torch.tensor([[3.0, 1.0, 2.0], [7.0, -7.0, 0.0]])
    assert (SampleNorm()(ties)[[0, 1], [2, 2]] == 0).all()
    norm = SampleNorm(training_only=True)
    assert torch.equal(norm.train()(x), SampleNorm()(x))
    assert torch.equal(norm.eval()(x), x)


def test_task_batch_norm_equals_torchs_where_there_is_one_task() -> None:
    ours, theirs = TaskBatchNorm(6, statistics="stored"), nn.BatchNorm1d(6, momentum=0.1)
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(40, 6, generator=generator)
    theirs.momentum = 1.0  # the first batch replaces the initial statistics
    assert torch.equal(ours(first), theirs(first))
    theirs.momentum = 0.1
    for _ in range(5):
        x = 3 * torch.randn(40, 6, generator=generator) + 1
        assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
    ours.statistics = "batch"
    assert torch.equal(ours(x), theirs.train()(x))


def test_each_task_keeps_its_affine_and_a_new_one_goes_on_from_the_last_trained() -> None:
    norm = TaskBatchNorm(2, tasks=4)
    x = torch.randn(10, 2)
    for task, value in ((0, 2.0), (1, 3.0)):
        norm.select_task(task)
        norm.train()(x)
        with torch.no_grad():
            norm.gain.fill_(value)
    assert norm.gain.tolist() == [3, 3]
    norm.select_task(3)
    assert norm.gain.tolist() == [3, 3]
    norm.select_task(0)
    assert norm.gain.tolist() == [2, 2]
    norm.select_task(2)
    assert norm.gain.tolist() == [3, 3]
    shared = TaskBatchNorm(2, tasks=2, affine="shared")
    with torch.no_grad():
        shared.gain.fill_(5.0)
    shared.select_task(1)
    assert shared.gain.tolist() == [5, 5]


def test_task_batch_norm_goes_through_state_dict() -> None:
    norm = TaskBatchNorm(3, tasks=3)
    for task in (0, 2):
        norm.select_task(task)
        norm(torch.randn(20, 3) + task)
    second = TaskBatchNorm(3, tasks=3)
    second.load_state_dict(norm.state_dict())
    assert (second.task, second.latest, second.trained) == (2, 2, [True, False, True])
    x = torch.randn(5, 3)
    for task in (0, 2):
        for each in (norm, second):
            each.select_task(task)
            each.eval().statistics = "stored"
        assert torch.equal(norm(x), second(x))


def test_batch_norm_without_statistics_says_what_to_do() -> None:
    norm = TaskBatchNorm(3, tasks=2, statistics="stored").eval()
    with pytest.raises(ValueError, match=r"task index 0 has no stored statistics.*recalibrate"):
        norm(torch.randn(4, 3))
    with pytest.raises(ValueError, match="larger batch"):
        norm.train()(torch.randn(1, 3))
    with pytest.raises(ValueError, match="tasks 0 to 1"):
        norm.select_task(2)


def test_recalibration_stores_the_exact_statistics_of_the_images() -> None:
    model = BinaryMLP([20, 8, 8, 3], norm="batch", seed=0)
    images = torch.randint(0, 256, (500, 20), generator=torch.Generator().manual_seed(1))
    recalibrate(model, images)
    model.eval()
    stored = model(images)
    use_statistics(model, "batch")
    # The two differ by the unbiased variance alone: a factor of 499/500.
    assert torch.allclose(stored, model(images), rtol=5e-3, atol=5e-3)


def test_fixed_norm_network_is_the_one_of_the_equations() -> None:
    model = BinaryMLP([784, 100, 50, 10], pixel_mean=33.2, pixel_std=78.57, seed=3)
    pixels = torch.randint(0, 256, (16, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    w1, w2, w3 = (np.where(layer.weight.detach().numpy() >= 0, 1.0, -1.0) for layer in model.binary_layers().values())
    y1 = (pixels.reshape(16, -1).numpy().astype(float) - 33) @ w1.T / (math.sqrt(784) * 78.57)
    y2 = np.where(y1 >= 0, 1, -1) @ w2.T / math.sqrt(100)
    u = np.where(y2 >= 0, 1, -1) @ w3.T
    assert np.array_equal(model.eval()(pixels).detach().numpy(), u)
    logits = (u - u.mean(1, keepdims=True)) / np.sqrt(u.var(1, keepdims=True) + 1e-5)
    assert np.allclose(model.train()(pixels).detach().numpy(), logits, atol=1e-5)


def test_units_of_0_and_1_with_the_fixed_norm_are_those_of_the_equations() -> None:
    model = BinaryMLP([30, 40, 20, 5], activation="abs_step", pixel_mean=33.2, pixel_std=78.57, seed=3).eval()
    pixels = torch.randint(0, 256, (16, 30), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    w1, w2, w3 = (np.where(layer.weight.detach().numpy() >= 0, 1.0, -1.0) for layer in model.binary_layers().values())
    active = 0.19360095  # the probability of a standard normal number beyond 1.3, from tables
    y1 = (pixels.numpy().astype(float) - 33) @ w1.T / (math.sqrt(30) * 78.57)
    y2 = np.where(abs(y1) > 1.3, 1, 0) @ w2.T / math.sqrt(40 * active)
    assert np.array_equal(model(pixels).detach().numpy(), np.where(abs(y2) > 1.3, 1, 0) @ w3.T)


@pytest.mark.parametrize("activation", ["sign", "abs_step"])
@pytest.mark.parametrize("norm", ["fixed", "batch", "layer"])
def test_networks_learn_and_are_fixed_by_their_seed(norm: str, activation: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (64, 30), generator=generator)
    y = torch.randint(0, 4, (64,), generator=generator)
    finals = []
    for run in range(2):
        torch.manual_seed(run)
        model = BinaryMLP([30, 64, 4], norm, activation=activation, pixel_mean=127, seed=7)  # type: ignore[arg-type]
        optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
        losses = []
        for _ in range(60):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.7 * losses[0]
        finals.append(losses[-1])
    assert finals[0] == finals[1]


def test_a_network_for_images_takes_their_convention() -> None:
    x = torch.randint(0, 17, (50, 1, 8, 8), dtype=torch.uint8)
    model = BinaryMLP.for_images(Images(x, torch.arange(50) % 3, "toy", 3, max_level=16), [20, 20])
    assert model.sizes == (64, 20, 20, 3)
    assert model[1].max_level == 16
    assert model[1].offset == round(x.float().mean().item())
    norm = model[3]
    assert isinstance(norm, FixedNorm)
    assert norm.scale == pytest.approx(1 / (8 * x.float().std(unbiased=False).item()), rel=1e-5)


def test_conv_net_has_the_shapes_it_says_and_is_seeded() -> None:
    net, second = (BinaryConvNet((1, 28, 28), (8, 16), 10, seed=1) for _ in range(2))
    x = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    assert net.eval()(x).shape == (3, 10)
    assert torch.equal(net(x), second.eval()(x))
    signs = net[:5](x)
    assert set(signs.unique().tolist()) <= {-1.0, 1.0}
    assert signs.shape == (3, 8, 14, 14)


@pytest.mark.parametrize("norm", ["fixed", "layer"])
def test_convolutions_of_units_of_0_and_1_are_those_of_the_equations(norm: Norm) -> None:
    model = BinaryConvNet(
        (2, 9, 8), (3, 4), 5, norm, activation="abs_step", hidden=(6,), convolutions=2, pixel_mean=33.2, seed=3
    ).eval()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (7, 2, 9, 8), generator=generator, dtype=torch.uint8)
    weights = [torch.where(p >= 0, 1.0, -1.0).double() for p in model.parameters()]
    active = 0.19360095  # the probability of a standard normal number beyond 1.3, from tables

    def normed(s: torch.Tensor, fan_in: int, size: float) -> torch.Tensor:
        if norm == "fixed":
            return s / (math.sqrt(fan_in) * size)
        own = tuple(range(1, s.dim()))  # of each image, over all channels
        return (s - s.mean(own, keepdim=True)) / (s.var(own, correction=0, keepdim=True) + 1e-5).sqrt()

    x, size = pixels.double() - 33, 80.0
    for i, weight in enumerate(weights[:4]):
        y = normed(functional.conv2d(x, weight, padding=1), 9 * x.shape[1], size)
        y = functional.max_pool2d(y, 2) if i % 2 else y
        x, size = (y.abs() > 1.3).double(), math.sqrt(active)
    hidden = (normed(x.flatten(1) @ weights[4].T, weights[4].shape[1], size).abs() > 1.3).double()
    u = hidden @ weights[5].T
    if norm == "layer":
        u = normed(u, 6, size)
    assert torch.allclose(model(pixels).double(), u, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BinaryMLP([10]), r"sizes is \(10,\)"),
        (lambda: BinaryMLP([10, 0, 3]), "all positive"),
        (lambda: BinaryMLP([10, 3], norm="group"), "choose one of fixed, batch, layer"),  # type: ignore[arg-type]
        (lambda: BinaryMLP([10, 3], activation="relu"), "activation is 'relu'; choose one of sign, abs_step"),  # type: ignore[arg-type]
        (lambda: AbsStep(0.0), "width is 0.0"),
        (lambda: BinaryMLP([10, 3], pixel_std=0.0), "all pixels equal"),
        (lambda: Pixels(gain=0), "gain"),
        (lambda: Pixels(max_level=0), "max_level"),
        (lambda: Pixels.standardize(0.1, -1.0), "std is -1"),
        (lambda: FixedNorm(math.inf), "scale is inf"),
        (lambda: TaskBatchNorm(3, tasks=0), "at least one task"),
        (lambda: TaskBatchNorm(3, affine="all"), "affine is 'all'"),  # type: ignore[arg-type]
        (lambda: BinaryConvNet((1, 4, 4), (8, 8, 8), 10), "leave nothing of images of 4x4"),
        (lambda: BinaryConvNet((1, 4, 4), (8,), 10, convolutions=0), "convolutions is 0"),
        (lambda: BinaryConvNet((1, 4, 4), (8,), 10, norm="group"), "choose one of fixed, batch, layer"),  # type: ignore[arg-type]
        (lambda: BinaryConvNet((1, 4, 4), (8,), 10, activation="relu"), "activation is 'relu'; choose one of sign"),  # type: ignore[arg-type]
    ],
)
def test_bad_arguments_are_named(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        make()


def test_batch_norm_options_belong_to_batch_norm() -> None:
    with pytest.raises(TypeError, match="only norm='batch'"):
        BinaryMLP([10, 3], tasks=3)
    with pytest.raises(TypeError, match="only norm='batch'"):
        BinaryConvNet((1, 4, 4), (8,), 10, tasks=3)


def test_sign_module_keeps_its_window() -> None:
    x = torch.tensor([0.5, 1.5], requires_grad=True)
    Sign(window=0.7)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1, 0]


def test_learning_shares_count_the_values_inside_the_window() -> None:
    model = nn.Sequential(BinaryLinear(1, 4), FixedNorm(0.01), Sign(), BinaryLinear(4, 2)).train()
    pixels = torch.tensor([[50.0], [100.0], [150.0], [255.0]])
    assert learning_shares(model, pixels) == {"2": 0.5}
    model[2] = AbsStep(2.0)  # sums of 0.5, 1, 1.5 and 2.55: 1 to 3 pass
    assert learning_shares(model, pixels) == {"2": 0.75}
    assert model.training


def test_training_warns_of_an_offset_that_does_not_fit() -> None:
    digits = load_dataset("digits")
    few = Dataset("few", digits.train.take(range(100)), digits.test.take(range(50)))
    scenario = permuted_tasks(few, 1, seed=0)
    with pytest.warns(UserWarning, match=r"experience 1: only .* before the units '4' .* offset and scale"):
        train(BinaryMLP([64, 32, 10], pixel_mean=128, pixel_std=6, seed=0), scenario, QUICK, progress=False)
    steps = BinaryMLP([64, 32, 10], activation="abs_step", pixel_mean=128, pixel_std=6, seed=0)
    with pytest.warns(UserWarning, match=r"before the units '4' .* Layer norm keeps such units where they learn"):
        train(steps, scenario, QUICK, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(BinaryMLP.for_images(few.train, [32], seed=0), scenario, QUICK, progress=False)
