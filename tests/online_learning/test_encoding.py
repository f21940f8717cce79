"""What a network sees of an image: spikes, pixels, or what frozen layers make of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lava_meta.data import Images
from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.online_learning.encoding import Front, Pixels, Spikes

LEVELS = torch.tensor([[0, 8, 9, 16], [16, 16, 0, 1]], dtype=torch.uint8)
IMAGES = Images(LEVELS, torch.tensor([0, 1]), "four pixels", 2, 16)


def test_the_first_images_set_levels_and_mean() -> None:
    spikes, pixels = Spikes(4).meet(IMAGES), Pixels(4).meet(IMAGES)
    assert (spikes.max_level, spikes.levels, spikes.mean) == (16, 1, 4 / 8)  # type: ignore[attr-defined]
    assert (pixels.max_level, pixels.levels, pixels.mean) == (16, 16, 66 / 8 / 16)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(spikes(LEVELS), [[0, 0, 1, 1], [1, 1, 0, 0]])
    np.testing.assert_array_equal(pixels(LEVELS), LEVELS)


def test_later_images_leave_the_mean_and_pixels_their_levels() -> None:
    others = Images(LEVELS, IMAGES.y, "brighter", 2, 200)
    assert Spikes(4, 16, 0.25).meet(others) == Spikes(4, 200, 0.25)
    Spikes(4, 16, 0.25).check(others)
    assert Pixels(4, 16, 0.25).meet(IMAGES) == Pixels(4, 16, 0.25)
    with pytest.raises(ValueError, match=r"brighter has levels up to 200; .* levels up to 16"):
        Pixels(4, 16, 0.25).check(others)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_front_takes_what_its_network_takes_and_gives_signs(compiled: bool) -> None:
    weights = np.array([[1, -1, 1, 1], [-1, -1, 1, -1], [1, 1, -1, -1]])
    layer = DenseLayer.from_weights(weights, np.array([10, -3, 5]))
    front = Front(BinaryGraph((layer,), Readout.from_weights(np.ones((2, 3))), 16, (4,)), 1)
    assert front.meet(IMAGES) is front
    sums = LEVELS.numpy().astype(int) @ weights.T
    np.testing.assert_array_equal(front.signs(compiled=compiled)(front(LEVELS)), np.where(sums >= [10, -3, 5], 1, -1))
    with pytest.raises(ValueError, match="depth is 2; the network has 1 hidden layers"):
        Front(front.graph, 2)
