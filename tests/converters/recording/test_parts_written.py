"""Values written part by part into new memory, as results of time steps are; the first of them may be constants."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from values import equals_float64

import lava_meta
from lava_meta.errors import ConversionError


class Steps(nn.Module):
    """Bits of three steps; those of the first are 0 for all images, as the spikes of neurons at rest."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front, self.readout = nn.Linear(10, 8), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        spikes = torch.zeros_like(x[:, :8])
        record = torch.zeros(len(x), 3, 8).to(x)
        for step in range(3):
            record[:, step, :] = spikes
            spikes = (self.front(x) + spikes >= 0.1).to(x)
        return self.readout(record.flatten(1))


class Flat(nn.Module):
    """Writes by places counted over all images."""

    def __init__(self, accumulate: bool) -> None:
        super().__init__()
        self.front, self.readout, self.accumulate = nn.Linear(10, 8), nn.Linear(8, 4), accumulate

    def forward(self, x: Tensor) -> Tensor:
        bits = torch.sign(self.front(x))
        return self.readout(bits.put(torch.arange(bits.numel()), bits, accumulate=self.accumulate))


def test_a_first_step_that_is_the_same_for_all_images() -> None:
    equals_float64(Steps().eval(), (10,))


@pytest.mark.parametrize("accumulate", [False, True])
def test_writing_by_places_of_all_images_is_refused(accumulate: bool) -> None:
    with pytest.raises(ConversionError, match=r"writes at places of all images together: use torch\.scatter"):
        lava_meta.convert(Flat(accumulate).eval(), input_shape=(10,), raw=True)
