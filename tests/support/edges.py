"""Units of 0 and 1 in a float64 model beside the two signs that each of them became, one per edge."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lava_meta.graph import BinaryGraph
from lava_meta.nn import AbsStep


def assert_two_signs_a_unit(model: nn.Sequential, graph: BinaryGraph, images: NDArray[np.int64], layers: int) -> None:
    """That all units of the `layers` layers that have such, and all classes, are equal."""
    signs = graph.activations(images)
    x: Tensor = torch.from_numpy(images).double()
    layer = 0
    for module in model:
        x = module(x)
        if isinstance(module, AbsStep):
            layer += 1
            rising, falling = np.split(signs[f"hidden{layer}"].astype(int), 2, axis=1)
            assert np.array_equal((rising + falling) // 2 + 1, x.flatten(1).numpy())
    assert layer == layers
    assert np.array_equal(graph.readout.classes(signs["readout"]), x.argmax(dim=1).numpy())
