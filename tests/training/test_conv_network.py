"""The fast step of convolutional networks against autograd's: products, whole steps, and a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stopping import stopped_after
from torch import nn
from torch.nn import functional

from lava_meta.data import Images
from lava_meta.data.scenarios import Scenario
from lava_meta.nn import AbsStep, BinaryConv2d, BinaryConvNet, BinaryLinear, Pixels, SampleNorm, Sign, TaskBatchNorm
from lava_meta.optim import threads
from lava_meta.training import TrainSettings, conv_products, train
from lava_meta.training.conv_network import ConvNetwork, conv_form
from lava_meta.training.conv_products import ConvBytes, ConvFloats
from lava_meta.training.conv_tables import ConvTables
from lava_meta.training.steps import FastStep, step_factory

FORMS = [ConvFloats, ConvTables, *([ConvBytes] if conv_products.has_bytes() else [])]
ROUNDING = {ConvFloats: 1e-6, ConvTables: 1e-6, ConvBytes: 2**-7}


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- products -------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_sums_are_exact(data: st.DataObject) -> None:
    layer, bits = drawn_layer(data)
    check_sums(layer, bits)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_gradients_are_those_of_autograd_in_float64(data: st.DataObject) -> None:
    layer, bits = drawn_layer(data)
    for signs in (True, False):
        products = made_of(layer, signs=signs)
        weight = torch.where(layer.weight >= 0, 1.0, -1.0).double()
        x = (bits * 2.0 - 1.0 if signs else bits.float()).double()
        d = torch.randn(products[0].sums(bits).shape)
        place = products[0].place
        wanted = gradients(x, weight, d.double(), place)
        sizes = gradients(x.abs(), weight.abs(), d.abs().double(), place)  # sums may cancel
        for made in products:
            found = made.backward(d, bits, torch.empty(bits.shape)), made.gradient
            for one, other, size in zip(found, wanted, sizes, strict=True):
                assert (one.double() - other).norm() <= ROUNDING[type(made)] * size.norm(), type(made)


def gradients(x: torch.Tensor, weight: torch.Tensor, d: torch.Tensor, place: Any) -> tuple[torch.Tensor, ...]:
    """Those of x and the weights, by autograd."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    return torch.autograd.grad(functional.conv2d(x, weight, None, *place), [x, weight], d)


def drawn_layer(data: st.DataObject) -> tuple[BinaryConv2d, torch.Tensor]:
    """With inputs as `sums` takes them."""
    groups = data.draw(st.sampled_from([1, 1, 2, 3]))
    inputs, units = (groups * data.draw(st.integers(1, 40)) for _ in range(2))
    kernel, stride, dilation, padding = (
        (data.draw(st.integers(*ends)), data.draw(st.integers(*ends))) for ends in ((1, 5), (1, 3), (1, 2), (0, 3))
    )
    shape = data.draw(st.integers(1, 35)), inputs, *(data.draw(st.integers(9, 12)) for _ in range(2))
    torch.manual_seed(data.draw(st.integers(0, 2**16)))
    layer = BinaryConv2d(inputs, units, kernel, stride, padding, dilation, groups)
    return layer, as_bits(torch.rand(shape) < 0.5)


def as_bits(bits: torch.Tensor) -> torch.Tensor:
    return bits.view(torch.uint8).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("inputs", "units", "kernel", "stride", "dilation", "padding", "columns"),
    [(36, 21, (1, 7), (2, 3), (1, 1), (0, 0), 8), (12, 57, (1, 5), (1, 3), (2, 2), (0, 1), 9)],
)
def test_sums_of_one_column_are_exact(
    inputs: int, units: int, kernel: Any, stride: Any, dilation: Any, padding: Any, columns: int
) -> None:
    """OneDNN alone gives other ones: its last window ends before the image does."""
    torch.manual_seed(0)
    layer = BinaryConv2d(inputs, units, kernel, stride, padding, dilation)
    check_sums(layer, as_bits(torch.rand(2, inputs, 12, columns) < 0.5))


def check_sums(layer: BinaryConv2d, bits: torch.Tensor) -> None:
    for signs in (True, False):
        wanted = layer(bits.float() * 2 - 1 if signs else bits.float())
        for made in made_of(layer, signs=signs):
            assert torch.equal(made.sums(bits), wanted), type(made)


def made_of(layer: BinaryConv2d, *, signs: bool) -> list[ConvFloats]:
    """Its products in each form that it has here."""
    products = [form(layer, signs=signs) for form in FORMS if layer.groups == 1 or form is not ConvTables]
    for one in products:
        one.signs.copy_(torch.where(layer.weight >= 0, 1, -1))
    return products


# --- the whole step -------------------------------------------------------------------------------------------------


def usps_like(*, gain: float = 1 / 255) -> nn.Module:
    """Means of 2x2, batch norms without affine."""
    layers: list[nn.Module] = [Pixels(0.0, gain)]
    for inputs in (1, 12):
        layers += [BinaryConv2d(inputs, 12, 5, padding=1), nn.AvgPool2d(2), nn.BatchNorm2d(12, affine=False), Sign()]
    return nn.Sequential(*layers, nn.Flatten(), BinaryLinear(12 * 9, 5), nn.BatchNorm1d(5, affine=False))


def vgg_like() -> nn.Module:
    """Sequences in a sequence, maxima, norms per task, dropout in front of dense layers."""
    block = [BinaryConv2d(8, 20, 3), nn.MaxPool2d(2), TaskBatchNorm(20, tasks=2), Sign()]
    features = nn.Sequential(BinaryConv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), Sign(), *block)
    dense = [nn.Dropout(0.5), BinaryLinear(20 * 81, 70), nn.BatchNorm1d(70), Sign()]
    last = [nn.Dropout(0.5), BinaryLinear(70, 5), nn.BatchNorm1d(5)]
    return nn.Sequential(Pixels(40.0), features, nn.Flatten(), *dense, *last)


def real_ended() -> nn.Module:
    """Real ends, strides, groups, an activation in place, a stretch of the model's own between two signs."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), Sign(1.5)),
        *(BinaryConv2d(6, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.Hardtanh(inplace=True), Sign()),
        *(BinaryConv2d(12, 12, 3, 1, (2, 1), 2, groups=3), nn.PReLU(), nn.BatchNorm2d(12), Sign(0.5)),
        *(nn.MaxPool2d(2), nn.BatchNorm2d(12), Sign()),
        *(nn.Flatten(), nn.Linear(12 * 20, 5)),
    )


def fixed() -> nn.Module:
    return BinaryConvNet((1, 20, 20), (7, 16), 5, pixel_mean=60.0, seed=0)


def of_steps() -> nn.Module:
    """Units of 0 and 1 in front of a convolution, of pooling, of dropout and of a dense layer."""
    return nn.Sequential(
        *(Pixels(60.0), BinaryConv2d(1, 8, 3), nn.AvgPool2d(2), nn.GroupNorm(1, 8, affine=False), AbsStep(1.3)),
        *(BinaryConv2d(8, 12, 3, padding=1), nn.GroupNorm(1, 12, affine=False), AbsStep(1.3), nn.MaxPool2d(2)),
        *(nn.GroupNorm(1, 12), Sign(), BinaryConv2d(12, 12, 3), nn.BatchNorm2d(12), AbsStep(0.7)),
        *(nn.Flatten(), nn.Dropout(0.5), BinaryLinear(48, 20), SampleNorm(), AbsStep(), BinaryLinear(20, 5)),
        SampleNorm(),
    )


def of_whole_levels() -> nn.Module:
    return usps_like(gain=1.0)


NETWORKS: list[Callable[[], nn.Module]] = [usps_like, of_whole_levels, vgg_like, real_ended, fixed, of_steps]


def batch(n: int = 12, side: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(0, 256, (n, 1, side, side), generator=generator, dtype=torch.uint8)
    return x, torch.randint(0, 5, (n,), generator=generator)


@pytest.mark.parametrize("make", NETWORKS)
def test_the_step_is_that_of_autograd(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    clear, model = make(), make()
    model.load_state_dict(clear.state_dict())
    network = ConvNetwork.of(model)
    assert network is not None
    x, y = batch()
    torch.manual_seed(2)  # of dropout
    loss = functional.cross_entropy(clear(x.float()), y)
    loss.backward()
    torch.manual_seed(2)
    assert network.loss(x, y) == loss.detach()  # to the bit: all sums are exact
    network.backward()
    for (name, expected), value in zip(clear.named_buffers(), model.buffers(), strict=True):
        assert torch.equal(value, expected), name
    rounding = 2**-7 if conv_products.has_bytes() else 1e-5
    for (name, wanted), parameter in zip(clear.named_parameters(), model.named_parameters(), strict=True):
        gradient = network.gradients.get(parameter[1], parameter[1].grad)
        assert gradient is not None
        assert wanted.grad is not None
        assert gradient.is_contiguous()
        # Behind a norm the gradients of gains and offsets can cancel to nothing but rounding.
        floor = 1e-6 if wanted.dim() == 1 else 0.0
        assert (gradient.float() - wanted.grad).norm() <= rounding * wanted.grad.norm() + floor, name
    clear.eval(), model.eval()
    with torch.no_grad():
        assert torch.equal(network.logits(x), clear(x.float()))


def test_inputs_of_another_width_are_refused() -> None:
    layer = BinaryConv2d(20, 30, 3)
    for made in made_of(layer, signs=True):
        with pytest.raises(RuntimeError, match=r"shapes cannot be multiplied|channels"):
            made.sums(as_bits(torch.ones(2, 19, 9, 9) > 0))


def test_threads_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "LEAST", 1000)
    layer = BinaryConv2d(20, 30, 3, padding=1)
    bits, d = as_bits(torch.rand(21, 20, 9, 9) < 0.5), drawn(21, 30, 9, 9)
    (made,) = (one for one in made_of(layer, signs=True) if type(one) is conv_form(layer))
    found = []
    for number in (1, 2):
        torch.set_num_threads(number)
        found.append((made.sums(bits), made.backward(d, bits, torch.empty(bits.shape)), made.gradient.clone()))
    for one, two in zip(*found, strict=True):
        assert torch.equal(one, two)


def test_signs_that_never_change_stay_without_gradient_under_batch_norm() -> None:
    """Their gradients cancel over the batch; Adam would make full steps of whatever rounding leaves above its eps."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(12)
    with torch.no_grad():
        norm.bias[:3], norm.bias[3:5] = 1e3, -1e3
    hidden = BinaryConv2d(12, 12, 5)  # without padding, which would be a change
    ends = [BinaryConv2d(1, 12, 5), norm, Sign()], [nn.Flatten(), BinaryLinear(12 * 144, 5), nn.BatchNorm1d(5)]
    network = ConvNetwork.of(nn.Sequential(*ends[0], hidden, nn.BatchNorm2d(12), Sign(), *ends[1]))
    assert network is not None
    network.loss(*batch(50))
    network.backward()
    gradient = network.gradients[hidden.weight].float().abs()
    assert gradient[:, 5:].mean() > 1e-3
    assert gradient[:, :5].max() < 1e-8


def test_models_of_another_form_have_no_fast_network() -> None:
    assert ConvNetwork.of(nn.Sequential(nn.Flatten(), BinaryLinear(4, 4), Sign(), BinaryLinear(4, 4))) is None
    assert ConvNetwork.of(nn.Sequential(BinaryConv2d(1, 4, 3), Sign())) is None
    assert ConvNetwork.of(fixed().double()) is None
    assert ConvNetwork.of(nn.ModuleList([fixed()])) is None
    twice = BinaryConv2d(4, 4, 3, padding=1)
    assert ConvNetwork.of(nn.Sequential(BinaryConv2d(1, 4, 3), Sign(), twice, Sign(), twice)) is None
    watched = fixed()
    assert ConvNetwork.of(watched) is not None
    watched[1].register_forward_hook(lambda *_: None)
    assert ConvNetwork.of(watched) is None


# --- a run ----------------------------------------------------------------------------------------------------------


def two_parts() -> Scenario:
    def images(seed: int, name: str) -> Images:
        generator = torch.Generator().manual_seed(seed)
        y = torch.arange(120) % 3
        x = (torch.rand(120, 1, 8, 8, generator=generator) * 100).to(torch.uint8)
        for image, label in zip(x, y.tolist(), strict=True):
            image[0, 2 * label : 2 * label + 3, seed : seed + 4] += 120
        return Images(x, y, name, 3)

    parts = (images(0, "a"), images(1, "b"))
    return Scenario("two", parts, parts, (0, 1))


def test_a_fast_run_learns_and_resumes_to_the_bit(tmp_path: Any) -> None:
    def fresh() -> nn.Module:
        torch.manual_seed(0)
        norm = TaskBatchNorm(16, tasks=2)
        first = [Pixels(60.0), BinaryConv2d(1, 16, 3, padding=1), nn.MaxPool2d(2), norm, Sign()]
        second = [BinaryConv2d(16, 32, 3), TaskBatchNorm(32, tasks=2), Sign(), nn.Flatten(), nn.Dropout(0.2)]
        return nn.Sequential(*first, *second, BinaryLinear(128, 3), SampleNorm())

    assert isinstance(step_factory(fast=True)(fresh(), shown=False), FastStep)
    setting = TrainSettings(epochs=4, batch_size=32, m=2.0, fast=True)
    whole = fresh()
    result = train(whole, two_parts(), setting, progress=False)
    learned = next(record for record in result.history if record.part == 1 and record.epoch == 4)
    assert learned.accuracies[1] is not None
    assert learned.accuracies[1] > 0.8  # of three classes
    with stopped_after(4):
        train(fresh(), two_parts(), setting, tmp_path, progress=False)
    again = fresh()
    second = train(again, two_parts(), setting, tmp_path, resume=True, progress=False)
    assert second.history == result.history
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
