"""What a caller says of a model: what contradicts itself, or is of another type, is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lava_meta
from lava_meta.errors import ConversionError, DataError, TooLargeError
from lava_meta.nn import BinaryLinear, Pixels, Sign

UNIT: dict[str, Any] = {"mean": 0, "std": 1, "max_level": 15}


def chain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), BinaryLinear(16, 8), Sign(), BinaryLinear(8, 3)).eval()


def real_ends() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), Sign(), nn.Linear(8, 3)).eval()


@pytest.mark.parametrize("make", [chain, real_ends])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (UNIT | {"raw": True}, "raw=True says that the model takes raw levels, mean= and std= that it does not"),
        (UNIT | {"signs": True}, "signs=True is for .* mean= and std= says that it takes something else"),
        ({"raw": True, "signs": True}, "signs=True is for .* raw=True says that it takes something else"),
    ],
)
def test_what_says_two_things_is_refused(make: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        lava_meta.convert(make(), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (UNIT, r"normalises its own pixels \(Pixels\): mean= and std= do not apply"),
        ({"signs": True}, "signs=True is for a model whose first layer"),
        ({"max_level": 15}, "levels 0 to 15 are given, but the model's Pixels take 0 to 255"),
    ],
)
@pytest.mark.parametrize("make", [chain, real_ends])
def test_pixels_of_the_model_say_it_alone(make: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        lava_meta.convert(nn.Sequential(Pixels(100), make()).eval(), **options)


@pytest.mark.parametrize("make", [chain, real_ends])
@pytest.mark.parametrize("shape", [16, "1,4,4", "144", (1.5, 4, 4), ("1", "4", "4"), {1, 16}])
def test_a_shape_that_is_no_sequence_of_whole_numbers(make: Any, shape: Any) -> None:
    with pytest.raises(TypeError, match=r"input_shape is .*; give whole numbers, as \(784,\) or \(1, 28, 28\)"):
        lava_meta.convert(make(), input_shape=shape, **UNIT)


def test_a_shape_of_no_image() -> None:
    for shape in ((), (-1, 16), (0, 4, 4)):
        with pytest.raises(ValueError, match="give the extents of an image, all positive"):
            lava_meta.convert(real_ends(), input_shape=shape, **UNIT)
    with pytest.raises(TooLargeError, match=r"an image of shape \(1000000, 1000000, 4\) needs about"):
        lava_meta.convert(real_ends(), input_shape=(10**6, 10**6, 4), **UNIT)


@pytest.mark.parametrize("shape", [[1, 4, 4], np.array([1, 4, 4]), torch.tensor([1, 4, 4]), torch.Size([1, 4, 4])])
def test_any_sequence_of_whole_numbers_is_a_shape(shape: Any) -> None:
    assert lava_meta.convert(real_ends(), input_shape=shape, **UNIT).graph.input_shape == (1, 4, 4)


@pytest.mark.parametrize("options", [{"max_level": 15.0}, {"max_level": "15"}, {"min_level": None}])
def test_levels_that_are_no_whole_numbers(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(TypeError, match=rf"{name} is .*; it is a whole number"):
        lava_meta.convert(real_ends(), **(UNIT | options))


def _levels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 16, (20, 16))


def test_masked_values_are_refused() -> None:
    net, levels = lava_meta.convert(real_ends(), **UNIT), _levels()
    masked = np.ma.masked_array(levels, levels == levels[3, 4])
    with pytest.raises(ValueError, match=r"values of the images are masked: fill them in, as \.filled\(0\)"):
        net.graph.predict(masked)
    np.testing.assert_array_equal(net.graph.predict(np.ma.masked_array(levels)), net.graph.predict(levels))
    with pytest.raises(DataError, match=r"x has \d+ masked values: fill them in"):
        lava_meta.Dataset.from_arrays(masked, np.arange(20) % 2)
    with pytest.raises(DataError, match="y has 1 masked values"):
        lava_meta.Dataset.from_arrays(levels, np.ma.masked_array(np.arange(20) % 2, np.arange(20) == 3))
    with pytest.raises(DataError, match=r"x has .* masked values"):
        lava_meta.online([16, 2], backend="kernels").fit(masked, np.arange(20) % 2)


def test_images_that_are_no_array_are_refused_by_what_they_are() -> None:
    net, levels = lava_meta.convert(real_ends(), **UNIT), _levels()
    for given, message in (
        ({"x": levels}, "images are a dict, which makes no array of numbers"),
        ((row for row in levels), "images are a generator, .* net.stream"),
        (torch.from_numpy(levels).to_sparse(), r"is sparse: pass \.to_dense\(\)"),
        (torch.zeros(20, 16, device="meta"), "has no values, only a shape"),
    ):
        with pytest.raises(TypeError, match=message):
            net.graph.predict(given)
    with pytest.raises(TypeError, match=r"accuracy takes labelled images, .* \(net\.predict\(x\) == y\)\.mean"):
        net.accuracy(levels)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"made of a graph, as net\.graph is, and not of a NoneType"):
        lava_meta.LavaNetwork(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="this is a dict: give its arrays"):
        lava_meta.train(lava_meta.BinaryMLP([16, 2], seed=0), {"x": levels, "y": np.arange(20) % 2})  # type: ignore[arg-type]


def test_spiking_models_are_sent_to_their_own_converter() -> None:
    snn = pytest.importorskip("snntorch")
    model = nn.Sequential(nn.Linear(16, 8), snn.Leaky(0.9, init_hidden=True), nn.Linear(8, 3)).eval()
    with pytest.raises(ConversionError, match=r"spiking neurons of snnTorch: lava_meta\.from_snntorch\(model\)"):
        lava_meta.convert(model, **UNIT)


@pytest.mark.parametrize("sizes", [12, ("a", 3), (12, 2.5, 3), None])
def test_sizes_that_are_no_whole_numbers(sizes: Any) -> None:
    with pytest.raises(TypeError, match=r"sizes is .*; give whole numbers"):
        lava_meta.BinaryMLP(sizes)


def test_training_a_model_of_which_nothing_learns() -> None:
    frozen = lava_meta.BinaryMLP([16, 2], seed=0).requires_grad_(False)
    with pytest.raises(ValueError, match=r"no parameter of BinaryMLP asks for gradients, .* model\.requires_grad_"):
        lava_meta.train(frozen, (_levels(), np.arange(20) % 2), m=1.0, epochs=1, progress=False)
