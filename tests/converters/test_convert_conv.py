"""Convolutional networks from PyTorch to Lava: every form gives every sign and class of the float64 model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import lava_meta
from lava_meta.converters.chain.folding import fold, prepare
from lava_meta.converters.lava import LavaNetwork
from lava_meta.converters.parity.chain import check, domain_images, model_activations
from lava_meta.nn import BinaryConv2d, BinaryConvNet, BinaryLinear, FixedNorm, Pixels, Sign


def rich_net() -> nn.Sequential:
    """Every option at once: borders, strides, dilation, groups, means, pooling on both sides, a norm that falls."""
    torch.manual_seed(2)
    model = nn.Sequential(
        *(Pixels(40), BinaryConv2d(2, 6, (3, 2), padding=(2, 1), groups=2), nn.AvgPool2d(2, stride=1)),
        *(FixedNorm(0.01), nn.MaxPool2d(2, padding=1), nn.BatchNorm2d(6), Sign()),
        *(BinaryConv2d(6, 4, 2, stride=(1, 2), padding=1, dilation=(1, 2)), Sign(), nn.MaxPool2d((2, 1))),
        *(nn.Flatten(), BinaryLinear(48, 7), Sign(), BinaryLinear(7, 5)),
    )
    model(torch.randint(0, 256, (50, 2, 12, 11)))
    with torch.no_grad():
        model[5].weight.copy_(torch.tensor([1.0, -1, 1, -1, 0, 1]))
    return model.eval()


@pytest.mark.lava
@pytest.mark.parametrize("form", ["packed", "floating_pt", "fixed_pt"])
def test_lava_gives_every_sign_and_class_of_the_float64_model(form: str) -> None:
    model = rich_net()
    converted = lava_meta.convert(model, input_shape=(2, 12, 11))
    images = np.random.default_rng(1).integers(0, 256, (37, 2, 12, 11)).astype(np.uint8)
    expected = model_activations(prepare(model), torch.from_numpy(images).double())
    with LavaNetwork(converted.graph, form=form) as net:
        found = net.activations(images, lanes=8)
        classes = net.predict(images, lanes=8)
    assert list(found) == ["hidden1", "hidden2", "hidden3", "readout"]
    for name in ("hidden1", "hidden2", "hidden3"):
        assert np.array_equal(found[name], expected[name]), name
    assert np.array_equal(classes, expected["readout"].argmax(axis=1))


@pytest.mark.lava
def test_a_saved_network_loads_and_runs_alike(tmp_path: Path) -> None:
    net = lava_meta.convert(BinaryConvNet((1, 9, 9), (4,), 3, pixel_mean=33, seed=0).eval())
    assert net.parity.exact
    assert net.parity.compared == 64 * (64 + 1)
    net.save(tmp_path / "net.safetensors")
    loaded = lava_meta.load(tmp_path / "net.safetensors")
    images = domain_images(net.graph, 30, 5).reshape(-1, 1, 9, 9)
    assert np.array_equal(loaded.predict(images), net.graph.predict(images))


@pytest.mark.lava
def test_a_network_trained_on_digits_gives_the_classes_of_its_model() -> None:
    data = lava_meta.load_dataset("digits")
    train, test = (part.x.reshape(-1, 1, 8, 8) for part in (data.train, data.test))
    model = BinaryConvNet((1, 8, 8), (8,), 10, pixel_mean=5, pixel_std=6, max_level=16, seed=0)
    optimizer = lava_meta.MetaplasticAdam(model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        chosen = torch.randint(0, len(train), (64,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(train[chosen]), data.train.y[chosen]).backward()
        optimizer.step()
    model.eval()
    net = lava_meta.convert(model)
    parity = check(model, fold(model), images=test.numpy())
    assert parity.exact
    assert not any(parity.own.values())
    with torch.no_grad():
        theirs = model(test).argmax(dim=1)
    ours = net.predict(test, lanes=128)
    assert np.array_equal(ours, theirs.numpy())
    assert (ours == data.test.y.numpy()).mean() > 0.6
