"""What the model is fed: said by the caller or the model, never guessed; composed exactly, with one mean a channel."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from given_models import to_graph
from torch import Tensor, nn

import lava_meta
from lava_meta.converters.chain.folding import fold
from lava_meta.converters.parity.chain import check, domain_images
from lava_meta.errors import ConversionError
from lava_meta.nn import BinaryConv2d, BinaryLinear, Pixels, Sign


class Scaled(nn.Module):
    """A network whose forward begins with `front`, in training mode until it has statistics of `inputs`."""

    def __init__(self, front: Callable[[Tensor], Tensor], inputs: Tensor) -> None:
        super().__init__()
        self.front = front
        width = front(inputs).shape[1]
        self.hidden, self.norm, self.sign = BinaryLinear(width, 40), nn.BatchNorm1d(40), Sign()
        self.out = BinaryLinear(40, 5)
        nn.init.normal_(self.norm.weight)
        for _ in range(20):
            self(inputs)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.sign(self.norm(self.hidden(self.front(x)))))


def scaled(front: Callable[[Tensor], Tensor], by: float = 255, shape: tuple[int, ...] = (30,)) -> Scaled:
    """Trained on levels 0 to 255 divided by `by`."""
    torch.manual_seed(3)
    return Scaled(front, torch.randint(0, 256, (200, *shape)) / by)


def levels(count: int, *shape: int, most: int = 255, seed: int = 0) -> np.ndarray:
    return (
        np.random.default_rng(seed).integers(0, most + 1, (count, *shape)).astype(np.uint16 if most > 255 else np.uint8)
    )


def classes(model: nn.Module, inputs: np.ndarray) -> np.ndarray:
    """Of the model itself, in float64."""
    with torch.no_grad():
        found: np.ndarray = model.double()(torch.from_numpy(inputs)).argmax(dim=1).numpy()
    model.float()
    return found


FLOATS: dict[str, Callable[[Tensor], Tensor]] = {
    "between -1 and 1": lambda x: 2 * x - 1,
    "normalised": lambda x: (x - 0.1307) / 0.3081,
    "levels of it": lambda x: x * 255.0 - 33.3184,
    "a bit of it": lambda x: torch.where(x - 0.3 >= 0, 1.0, -1.0).to(x.dtype),
}


@pytest.mark.parametrize("name", FLOATS)
def test_the_models_own_scaling_comes_on_top_of_mean_and_std(name: str) -> None:
    model, images = scaled(FLOATS[name]), levels(1000, 30)
    net = lava_meta.convert(model, mean=0, std=1)
    assert np.array_equal(net.graph.predict(images), classes(model, images / 255))
    net = lava_meta.convert(model, mean=0.1, std=0.9)
    assert np.array_equal(net.graph.predict(images), classes(model, (images / 255 - 0.1) / 0.9))


@pytest.mark.parametrize("name", FLOATS)
def test_a_model_that_scales_its_inputs_is_refused_until_someone_says_what_they_are(name: str) -> None:
    model = scaled(FLOATS[name], by=1)
    with pytest.raises(
        ConversionError, match=r"\(Affine\) scales the inputs.* pass raw=True if .* or mean= and std= as"
    ):
        lava_meta.convert(model)
    images = levels(1000, 30)
    net = lava_meta.convert(model, raw=True)
    assert np.array_equal(net.graph.predict(images), classes(model, images.astype(np.float64)))


RAW: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "divided": (lambda x: x / 255, 255),
    "multiplied": (lambda x: x * 0.003921569, 255),
    "doubled first": (lambda x: 2 * x / 255 - 1, 255),
    "16 levels": (lambda x: (x / 16 - 0.3) / 0.4, 16),
}


@pytest.mark.parametrize("name", RAW)
def test_a_division_by_the_greatest_level_says_that_levels_are_raw(name: str) -> None:
    front, most = RAW[name]
    model, images = scaled(front, by=255 / most), levels(500, 30, most=most)
    net = lava_meta.convert(model, max_level=most)
    assert np.array_equal(net.graph.predict(images), classes(model, images.astype(np.float64)))
    with pytest.raises(ConversionError, match=f"divides by max_level={most}, so the model takes raw levels"):
        lava_meta.convert(model, max_level=most, mean=0, std=1)
    if most == 16:
        with pytest.raises(ConversionError, match="nothing says what they are"):
            lava_meta.convert(model)


def test_pixels_and_numbers_behind_them() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Pixels(33.3184, 1 / 78), scaled(lambda x: 2 * x - 0.7)).eval()
    images = levels(500, 30)
    assert np.array_equal(lava_meta.convert(model).graph.predict(images), classes(model, images.astype(np.float64)))


def test_levels_other_than_those_of_pixels_are_refused() -> None:
    model = nn.Sequential(Pixels(3, max_level=16), *plain()).eval()
    assert to_graph(model, max_level=16).max_level == to_graph(model).max_level == 16
    with pytest.raises(ConversionError, match="levels 0 to 15 are given, but the model's Pixels take 0 to 16"):
        to_graph(model, max_level=15)


def plain(width: int = 30, units: int = 64) -> nn.Sequential:
    """Units that fire where their sum of scaled inputs is not negative."""
    torch.manual_seed(1)
    return nn.Sequential(BinaryLinear(width, units), Sign(), BinaryLinear(units, 4)).eval()


@pytest.mark.parametrize("most", [255, 65535])
@pytest.mark.parametrize("channels", [1, 30])
def test_thresholds_are_those_of_exact_rationals(channels: int, most: int) -> None:
    """`sum_i w_i (p_i / max - mean_i) >= 0` is `sum_i w_i p_i >= max sum_i w_i mean_i`."""
    model = plain()
    mean = np.random.default_rng(2).uniform(0.1, 0.9, channels).tolist()
    graph = to_graph(model, mean=mean, std=0.229, max_level=most)
    signs = np.where(model[0].weight.detach().numpy() >= 0, 1, -1).tolist()
    exact = [most * sum(w * Fraction(mean[i % channels]) for i, w in enumerate(row)) for row in signs]
    assert graph.layers[0].threshold.tolist() == [math.ceil(value) for value in exact]


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((0.1307,), (0.3081,)),
        ([0.1307] * 3, [0.3081] * 3),
        (np.array(0.1307), np.array([0.3081])),
        (torch.tensor([0.1307], dtype=torch.float64), torch.tensor(0.3081, dtype=torch.float64)),
        (torch.full((3, 1, 1), 0.1307, dtype=torch.float64), np.full((1, 3, 1, 1), 0.3081)),
    ],
)
def test_mean_and_std_as_users_of_torchvision_write_them(mean: Any, std: Any) -> None:
    shape = (3, 2, 5)
    model = nn.Sequential(nn.Flatten(), *plain()).eval()
    expected = to_graph(model, mean=0.1307, std=0.3081, input_shape=shape)
    folded = fold(model, mean=mean, std=std, input_shape=shape)
    assert np.array_equal(folded.graph.layers[0].threshold, expected.layers[0].threshold)
    assert check(model, folded).exact


def images_of_three_channels(groups: int) -> nn.Sequential:
    torch.manual_seed(groups)
    model = nn.Sequential(
        *(BinaryConv2d(3, 6, 3, padding=1, groups=groups), nn.BatchNorm2d(6), nn.MaxPool2d(2), Sign(), nn.Flatten()),
        BinaryLinear(6 * 16, 4),
    )
    nn.init.normal_(model[1].weight)
    for _ in range(10):
        model(torch.randn(50, 3, 8, 8))
    return model.eval()


MEANS = (0.485, 0.456, 0.406)


@pytest.mark.parametrize("groups", [1, 3])
def test_a_mean_for_each_channel(groups: int) -> None:
    model, images = images_of_three_channels(groups), levels(300, 3, 8, 8)
    net = lava_meta.convert(model, mean=MEANS, std=(0.229,) * 3, input_shape=(3, 8, 8))
    inputs = (images / 255 - np.reshape(MEANS, (3, 1, 1))) / 0.229
    assert np.array_equal(net.graph.predict(images), classes(model, inputs))
    assert net.parity is not None
    assert net.parity.probes > 700  # each channel at each of 64 positions


def test_a_mean_for_each_channel_in_the_forward() -> None:
    mean, std = torch.tensor(MEANS).view(1, 3, 1, 1), torch.full((3, 1, 1), 0.229)
    model = scaled(lambda x: ((x - mean) / std).flatten(1), shape=(3, 4, 4))
    images = levels(300, 3, 4, 4)
    net = lava_meta.convert(model, mean=0, std=1, input_shape=(3, 4, 4))
    assert np.array_equal(net.graph.predict(images), classes(model, images / 255))
    with pytest.raises(ConversionError, match=r"takes 3 numbers, but inputs of shape \(48,\).*pass input_shape"):
        lava_meta.convert(model, mean=0, std=1)


def test_a_scale_for_each_input_where_the_model_makes_signs_of_them() -> None:
    torch.manual_seed(0)
    mean, std = np.linspace(0, 1, 30), np.linspace(0.1, 2, 30)
    model = nn.Sequential(nn.BatchNorm1d(30), Sign(), *plain())
    for _ in range(20):
        model.train()(torch.randn(99, 30))
    graph = lava_meta.convert(model.eval(), mean=mean, std=std).graph
    images = levels(500, 30)
    assert np.array_equal(graph.predict(images), classes(model, (images / 255 - mean) / std))


def test_a_class_for_each_sum_of_inputs_with_means_of_their_own() -> None:
    torch.manual_seed(0)
    model, mean = nn.Sequential(BinaryLinear(30, 7)).eval(), np.linspace(0, 1, 30)
    images = levels(500, 30)
    graph = lava_meta.convert(model, mean=mean, std=0.3).graph
    assert np.array_equal(graph.predict(images), classes(model, (images / 255 - mean) / 0.3))


NAN = float("nan")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": 33.3, "std": 78}, r"mean=33.3 lies outside the inputs' range, 0 to 1: .* max_level=255"),
        ({"mean": -0.1, "std": 1}, "mean=-0.1 lies outside the inputs' range, 0 to 1"),
        ({"mean": -1.1, "std": 1, "max_level": 127, "min_level": -128}, "mean=-1.1 lies outside .* -1.00787 to 1"),
        ({"mean": (0.1, 0.2, 1.5), "std": 1, "input_shape": (3, 2, 5)}, "mean=1.5 lies outside"),
        ({"mean": 0.1, "std": 0}, "std=0; it must be positive"),
        ({"mean": 0.1, "std": (0.0,)}, "std=0; it must be positive"),
        ({"mean": 0.1, "std": -1}, "std=-1; it must be positive"),
        ({"mean": NAN, "std": 1}, "mean=nan; expected finite numbers"),
        ({"mean": 0.1, "std": torch.tensor([NAN])}, r"std=tensor\(\[nan\]\); expected finite"),
        ({"mean": 0.1, "std": float("inf")}, "std=inf; expected finite"),
        ({"mean": "0.1", "std": 1}, "mean='0.1'; expected a number, or one for each channel"),
        ({"mean": [], "std": 1}, r"mean=\[\]; expected a number"),
        ({"mean": [[0.1, 0.2], [0.3, 0.4]], "std": 1}, "expected a number, or one for each channel"),
        ({"mean": 0.1}, "mean= is given without std="),
        ({"std": 0.1}, "std= is given without mean="),
        ({"mean": (0.1, 0.2, 0.3), "std": 1}, r"mean has 3 numbers; inputs of shape \(30,\).*pass input_shape="),
        ({"mean": (0.1, 0.2), "std": 1, "input_shape": (3, 2, 5)}, "mean has 2 numbers; .* have 3 channels"),
        (
            {"mean": MEANS, "std": (0.229, 0.224, 0.225), "input_shape": (3, 2, 5)},
            "std scales each channel by a number of its own, 0.0171248 to 0.017507: .* no integers",
        ),
        ({"mean": 0, "std": 1, "raw": True}, "raw=True .* pass"),
        ({"signs": True, "raw": True}, "signs=True is for"),
        ({"mean": 0, "std": 1, "max_level": 2**16}, "max_level is 65536"),
        ({}, "pass mean= and std= .* raw=True .* signs=True .*Pixels first"),
    ],
)
def test_a_scale_that_is_none_is_refused_by_its_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        to_graph(nn.Sequential(nn.Flatten(), *plain()).eval(), **options)


@pytest.mark.parametrize(
    ("front", "message"),
    [
        (lambda x: -x, r"neg \(Affine\) turns the inputs round"),
        (lambda x: x * 0, r"mul \(Affine\) turns the inputs round"),
        (lambda x: x / 0, r"truediv \(Quotient\) divides by 0"),
        (lambda x: x * NAN, r"mul \(Affine\) scales the inputs by a number that is not finite"),
        (lambda x: x * torch.arange(1.0, 31.0), r"mul \(Affine\) scales each channel by a number of its own, 1 to 30"),
    ],
)
def test_what_a_forward_makes_of_its_inputs_and_no_integers_can(
    front: Callable[[Tensor], Tensor], message: str
) -> None:
    model = scaled(lambda x: x, by=1)
    model.front = front
    with pytest.raises(ConversionError, match=message):
        to_graph(model, raw=True)


def test_a_norm_of_the_image_over_channels_with_means_of_their_own_is_refused() -> None:
    model = nn.Sequential(BinaryLinear(30, 8), nn.LayerNorm(8), Sign(), BinaryLinear(8, 2)).eval()
    with pytest.raises(ConversionError, match=r"1 \(LayerNorm\) norms sums of inputs with a mean for each channel"):
        to_graph(model, mean=np.linspace(0, 1, 30), std=1)


def test_a_self_scaling_model_keeps_its_scale_in_float64() -> None:
    """The forward's own numbers, against the same model with an exact first layer."""
    model = plain()

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rest = model

        def forward(self, x: Tensor) -> Tensor:
            return self.rest((x / 65535 - 0.485) / 0.229)

    graph = to_graph(Own().eval(), max_level=65535)
    signs = np.where(model[0].weight.detach().numpy() >= 0, 1, -1).sum(axis=1).tolist()
    assert graph.layers[0].threshold.tolist() == [math.ceil(65535 * Fraction(0.485) * row) for row in signs]
    pixels = nn.Sequential(Pixels.standardize(0.485, 0.229, 65535), *model).eval()
    folded = fold(pixels)
    assert np.array_equal(folded.graph.layers[0].threshold, graph.layers[0].threshold)
    assert check(pixels, folded, images=domain_images(graph, 100, 0)).exact
