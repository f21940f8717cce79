"""Transposed convolutions: inputs apart by the stride, zeros around them that are 0 behind a norm of the images too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lava_meta

MEAN, STD = (0.3, 0.4), (0.2, 0.3)


class Signs(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x >= 0, 1.0, -1.0)


class Net(nn.Module):
    """One transposed convolution, of whose signs a linear layer makes classes."""

    def __init__(self, *arguments: object, groups: int = 1) -> None:
        super().__init__()
        self.up, self.fc = nn.ConvTranspose2d(2, 4, *arguments, groups=groups), nn.LazyLinear(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.where(self.up(x) > 0, 1.0, -1.0).flatten(1))


def test_signs_in_front_of_it_are_compared_at_their_own_places() -> None:
    torch.manual_seed(0)
    front = nn.Conv2d(2, 2, 3, padding=1)
    net = Net(3, 2, 1, 1)
    model = nn.Sequential(front, Signs(), net)
    model(torch.zeros(1, 2, 6, 6))
    levels = np.random.default_rng(0).integers(0, 256, (40, 2, 6, 6))
    with torch.no_grad():
        theirs = model.eval()((torch.from_numpy(levels) / 255 - 0.5) / 0.5).argmax(dim=1).numpy()
    converted = lava_meta.convert(model, input_shape=(2, 6, 6), mean=0.5, std=0.5)
    np.testing.assert_array_equal(converted.predict(levels.astype(np.uint8)), theirs)


@pytest.mark.parametrize(
    ("arguments", "groups"),  # kernel, stride, padding, output padding
    [((3, 2, 1, 1), 1), ((2, 2), 2), ((3, 1, 2), 1), (((3, 2), (2, 1), (1, 0), (1, 0)), 2), ((3, (2, 3), 1), 1)],
)
def test_values_are_pytorchs(arguments: tuple[object, ...], groups: int) -> None:
    torch.manual_seed(0)
    model = Net(*arguments, groups=groups)
    model(torch.zeros(1, 2, 6, 6))
    net = lava_meta.convert(model.eval(), input_shape=(2, 6, 6), mean=MEAN, std=STD)
    levels = np.random.default_rng(0).integers(0, 256, (40, 2, 6, 6))
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (MEAN, STD))
    with torch.no_grad():
        theirs = model(((torch.from_numpy(levels) / 255 - mean) / std).float()).numpy()
    np.testing.assert_allclose(net.graph.readout.values(net.graph.sums(levels)), theirs, atol=1e-5)


def test_values_of_one_dimension_are_pytorchs() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.ConvTranspose1d(2, 3, 4, 3, 1, 1), Signs(), nn.Flatten(), nn.Linear(54, 5)).eval()
    net = lava_meta.convert(model, input_shape=(2, 6), raw=True)
    levels = np.random.default_rng(0).integers(0, 256, (40, 2, 6))
    with torch.no_grad():
        theirs = model(torch.from_numpy(levels).float()).numpy()
    np.testing.assert_allclose(net.graph.readout.values(net.graph.sums(levels)), theirs, atol=1e-5)
