"""A network beside the user's own model on the user's own data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from given_models import network
from torch import Tensor, nn

import lava_meta
from lava_meta.errors import ConversionError
from lava_meta.nn import BinaryLinear, BinaryMLP, Sign

MEAN, STD = 0.1307, 0.3081


def _images(count: int = 700) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 784)).astype(np.uint8)


def _normalised(x: Tensor) -> Tensor:
    return (x / 255 - MEAN) / STD


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_classes_are_compared_image_by_image(dtype: torch.dtype) -> None:
    model = network().to(dtype)
    net = lava_meta.convert(model, mean=MEAN, std=STD)
    images = _images()
    with torch.no_grad():
        own = model(_normalised(torch.from_numpy(images)).to(dtype)).argmax(dim=1).numpy()
    found = net.compare(model, images, preprocess=_normalised)
    assert found.differing == tuple(np.flatnonzero(own != net.graph.predict(images)))
    assert (found.images, found.equal) == (700, 700 - len(found.differing))
    assert found.share == found.equal / 700
    assert (found.equal == 700) == (dtype != torch.bfloat16)


def test_inputs_that_the_model_does_not_take_show() -> None:
    model = network()
    net = lava_meta.convert(model, mean=MEAN, std=STD)
    found = net.compare(model, torch.from_numpy(_images()), preprocess=lambda x: x / 255 - 1)
    assert found.share < 0.5
    assert str(found).startswith(
        f"{found.equal} of 700 classes ({100 * found.share:.2f} %) equal the float32 model's; im"
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, ">i4"])
def test_a_model_on_raw_integers_of_any_type_needs_no_preprocess(dtype: Any) -> None:
    model = BinaryMLP([784, 32, 10], seed=0).eval()
    found = lava_meta.convert(model).compare(model, _images(30).astype(dtype).reshape(30, 1, 28, 28))
    assert str(found) == "30 of 30 classes (100.00 %) equal the float32 model's"


def _trained(model: nn.Sequential) -> nn.Sequential:
    model[1].train()
    return model


@pytest.mark.parametrize(
    ("model", "preprocess", "message"),
    [
        (_trained(network()), None, r"1 \(BatchNorm1d\) is in training mode"),
        (network(), lambda x: 1 / 0, r"preprocess fails on uint8 images of shape \(5, 784\): ZeroDivisionError"),
        (network(), lambda x: x[0] / 255, r"preprocess gives a tensor of shape \(784,\) for 5 images"),
        (network(), lambda x: x.numpy(), r"preprocess gives ndarray for 5 images"),
        (network()[:1].eval(), lambda x: x.reshape(5, 2, 392) / 255, r"the model itself fails on float32 inputs"),
    ],
)
def test_what_cannot_be_compared_says_so(model: nn.Module, preprocess: Any, message: str) -> None:
    net = lava_meta.convert(network(), mean=0, std=1)
    with pytest.raises(ConversionError, match=message):
        net.compare(model, _images(5), preprocess=preprocess)


def test_a_model_of_other_classes_is_refused():
    net = lava_meta.convert(nn.Sequential(BinaryLinear(6, 4)).eval(), raw=True)
    with pytest.raises(ValueError, match="the model gives 3 classes, the network 4"):
        net.compare(nn.Sequential(BinaryLinear(6, 3)).eval(), np.zeros((2, 6), np.uint8))
    with pytest.raises(ValueError, match="the model gives 2x3 classes, the network 4"):
        net.compare(nn.Unflatten(1, (2, 3)).eval(), np.zeros((2, 6), np.uint8))


def test_logits_are_the_models_values():
    model = nn.Sequential(BinaryLinear(6, 5), nn.BatchNorm1d(5), Sign(), BinaryLinear(5, 4), nn.BatchNorm1d(4))
    x = np.random.default_rng(0).integers(0, 256, (40, 6), dtype=np.uint8)
    model(torch.from_numpy(x).float())
    net = lava_meta.convert(model.eval(), raw=True)
    with torch.no_grad():
        expected = model.double()(torch.from_numpy(x).double()).numpy()
    assert net.logits(x) == pytest.approx(expected, abs=1e-9)
