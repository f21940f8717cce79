"""A model's values in float64, beside those of what it converts to."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import lava_meta
from lava_meta.converters.recording.calling import floats_in
from lava_meta.nn import BinaryConv2d, BinaryLinear, Sign

FED: dict[str, Any] = {"mean": 0.5, "std": 0.25}


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def fed(levels: np.ndarray) -> Tensor:
    return (torch.from_numpy(levels).double() / 255 - 0.5) / 0.25


def drawn(shape: tuple[int, ...], count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape))


def around(*layers: nn.Module, shape: tuple[int, ...], front: nn.Module, classes: int = 4) -> nn.Sequential:
    """These layers between a front and a real readout, with weights and statistics of random images; in eval mode."""
    model = nn.Sequential(front, *layers, nn.Flatten(), nn.LazyLinear(classes))
    with torch.no_grad():
        model(fed(drawn(shape, 50, 1)).float())
    return model.eval()


def equals_float64(
    model: nn.Module, shape: tuple[int, ...], given: Any = None, count: int = 64
) -> lava_meta.LavaNetwork:
    """Convert a model, or what was made of it, and hold values and classes to those of the model in float64."""
    net = lava_meta.convert(model if given is None else given, input_shape=shape, **FED)
    assert net.parity is not None
    assert net.parity.exact
    levels = drawn(shape, count, 2)
    exact = copy.deepcopy(model).double()
    with torch.no_grad(), floats_in(torch.float64):
        theirs = exact(fed(levels)).numpy()
    ours = net.graph.readout.values(net.graph.sums(levels))
    assert len(np.unique(theirs.round(9), axis=0)) > 3  # it says something of its images
    np.testing.assert_allclose(ours, theirs, atol=1e-6 * (1 + np.abs(theirs).max()))
    np.testing.assert_array_equal(net.graph.predict(levels), theirs.argmax(axis=1))
    return net


def equals_double(model: nn.Module, shape: tuple[int, ...], seed: int) -> None:
    """The same for a model that cannot be copied or makes values of its own types; it is in float64 afterwards."""
    net = lava_meta.convert(model, input_shape=shape, **FED)
    levels = drawn(shape, 60, seed)
    with torch.no_grad():
        theirs = model.double()(fed(levels)).numpy()
    assert len(np.unique(theirs.argmax(1))) > 2
    np.testing.assert_allclose(net.graph.readout.values(net.graph.sums(levels)), theirs, atol=1e-6)


VECTOR, MAP = (10,), (2, 6, 6)


def front(shape: tuple[int, ...], *, norm: bool = True) -> nn.Sequential:
    """Sums of signs, real behind a norm; without it integers of which many are equal."""
    if shape == MAP:
        binary = nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), Sign(), BinaryConv2d(6, 6, 3, padding=1)
        return nn.Sequential(*binary, *([nn.BatchNorm2d(6)] if norm else []))
    binary = nn.Linear(10, 20), nn.BatchNorm1d(20), Sign(), BinaryLinear(20, 12)
    return nn.Sequential(*binary, *([nn.BatchNorm1d(12)] if norm else []))


def converts(function: Any, shape: tuple[int, ...] = VECTOR, *, norm: bool = True) -> lava_meta.LavaNetwork:
    torch.manual_seed(0)
    layer = function if isinstance(function, nn.Module) else Call(function)
    return equals_float64(around(layer, shape=shape, front=front(shape, norm=norm)), shape)
