"""Models that move images to another axis are read if each image is computed alone, whatever lies beside it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from values import equals_float64

import lava_meta
from lava_meta.errors import ConversionError


class Turned(nn.Module):
    """Rows first, as the layers after it take them."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.last = inner, nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(x.transpose(0, 1)).transpose(0, 1)[:, -1])


class Sequence(nn.Module):
    """Steps first, as the layers inside take them, and their mean."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.transpose(0, 1)).mean(0)


class AcrossImages(nn.Module):
    """As attention is that expects images first and gets rows first."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(x @ x.transpose(1, 2), -1) @ x


class Numbered(nn.Module):
    """Adds to each image what belongs to a row."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(100, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.places[: x.shape[1]]


def test_rows_first() -> None:
    torch.manual_seed(0)
    net = lava_meta.convert(Turned(nn.LayerNorm(8)).eval(), input_shape=(4, 8), raw=True)
    assert net.parity.exact


class OverSteps(nn.Module):
    """Sums over all steps at once, with weights of each pair of steps and a shift of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.shift = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.randn(4, 1))

    def forward(self, x: Tensor) -> Tensor:
        mixed = torch.addmm(self.shift, self.weight, x.flatten(1))
        return torch.where(mixed >= 0, 1.0, 0.0).to(x).view(x.shape)


class NormedMaps(nn.Module):
    """Signs of maps of each step, normed by their own mean: of a map that is constant, rounding decides them."""

    def __init__(self) -> None:
        super().__init__()
        self.front, self.readout = nn.Conv2d(2, 4, 3), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        maps = nn.functional.instance_norm(torch.tanh(self.front(x.flatten(0, 1))))
        return self.readout(torch.where(maps >= 0, 1.0, -1.0).to(x).flatten(1)).unflatten(0, x.shape[:2])


def test_ties_of_an_image_whose_values_all_are_0() -> None:
    """Images alone tie as they do in a batch, whose other values are larger."""
    torch.manual_seed(0)
    net = lava_meta.convert(Sequence(NormedMaps()).eval(), input_shape=(1, 2, 6, 6), mean=0.5, std=0.25)
    assert net.parity is not None
    assert sum(net.parity.ties.values())


def test_weights_between_steps() -> None:
    torch.manual_seed(0)
    equals_float64(Turned(OverSteps()).eval(), (4, 8))


@pytest.mark.parametrize("inner", [AcrossImages(), Numbered(), nn.Softmax(dim=1)])
def test_images_that_depend_on_others_or_on_their_place_are_refused(inner: nn.Module) -> None:
    with pytest.raises(ConversionError, match="mixes the images of a batch, or makes what one gives depend"):
        lava_meta.convert(Turned(inner).eval(), input_shape=(4, 8), raw=True)


class Keeping(nn.Module):
    """Potentials of neurons over three steps, which a call hands on to the next unless they are put to rest."""

    def __init__(self, *, rests: bool) -> None:
        super().__init__()
        self.front, self.readout, self.rests = nn.Linear(8, 12), nn.Linear(12, 3), rests
        self.potential: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if self.rests:
            self.potential = 0.0
        spikes = []
        for step in x:
            self.potential = self.potential + self.front(step)
            spikes.append((self.potential >= 1).to(x))
            self.potential = self.potential * (1 - spikes[-1])
        return self.readout(torch.stack(spikes))


def test_what_is_kept_from_call_to_call_is_named() -> None:
    torch.manual_seed(0)
    equals_float64(Sequence(Keeping(rests=True)).eval(), (3, 8))
    with pytest.raises(ConversionError, match=r"by what it has kept: let its forward begin with that at rest"):
        lava_meta.convert(Sequence(Keeping(rests=False)).eval(), input_shape=(3, 8), raw=True)


def test_a_sparse_parameter_is_refused_by_name() -> None:
    model = nn.Linear(4, 2).eval()
    model.register_buffer("edges", torch.eye(4).to_sparse())
    with pytest.raises(ConversionError, match=r"edges is sparse .* edges.to_dense"):
        lava_meta.convert(model, raw=True)
