"""What values become that are joined: `torch.cat` of maps."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from lava_meta.converters.acyclic import to_acyclic
from lava_meta.graph.nodes import Concat, Gather
from lava_meta.graph.packed.acyclic import PackedAcyclic
from lava_meta.nn import BinaryConv2d, Sign


class Joining(nn.Module):
    """Two streams of maps, one of twice as many channels, joined, through an activation, to signs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.more = nn.Sequential(Sign(), BinaryConv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16))
        self.last = nn.Sequential(nn.PReLU(24), Sign(), BinaryConv2d(24, 5, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        classes: torch.Tensor = self.last(torch.cat([x, self.more(x)], 1)).flatten(1)
        return classes


def test_maps_of_one_size_stay_maps() -> None:
    torch.manual_seed(0)
    model = Joining()
    model(torch.randn(50, 1, 6, 6))  # statistics
    model.eval()
    graph = to_acyclic(model, mean=0.5, std=0.25, input_shape=(1, 6, 6)).lowered.graph
    joined = [name for name, node in graph.nodes.items() if isinstance(node, Concat)]
    assert [graph.placed[name].output_shape for name in joined] == [(24, 6, 6)]
    assert all(
        graph.placed[node.sources[0]].output_shape == (5, 1, 1)
        for node in graph.nodes.values()
        if isinstance(node, Gather)
    )
    pixels = np.random.default_rng(1).integers(0, 256, (20, 36), dtype=np.uint8)
    np.testing.assert_array_equal(PackedAcyclic(graph).sums(pixels), graph.sums(pixels))
    given = (torch.from_numpy(pixels).reshape(-1, 1, 6, 6).double() / 255 - 0.5) / 0.25
    with torch.no_grad():
        np.testing.assert_array_equal(graph.predict(pixels), model.double()(given).argmax(1).numpy())
