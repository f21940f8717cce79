"""Whether a model computes each image alone, on whatever axis of its values the images lie.

In time-first layers, as recurrent ones and attention of PyTorch are by default, images lie on the second axis, or among
the heads. Such a model is read from a run of one image, which shows nothing of what it does to several. So it is tried
out: NaN instead of the other images must change no digit of an image's result, and its place among them nothing either.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lava_meta.converters.recording.calling import as_tree, untouched
from lava_meta.converters.recording.operations import Float64
from lava_meta.converters.recording.written_out import SUMS_AT_PLACES, Functions

ALONE = 8  # images with which it is tried out
_ROUNDED = 1e-9  # relative difference that another order of sums may make
_TIED = 1 / 4  # share of images whose results differ by more, as where a sum ties with a threshold


class _Apart(Float64):
    """Sums over the edges of graphs add what is there: as products with 0 and 1, NaN would reach all of them."""

    by_kernels = SUMS_AT_PLACES


def computed_alone(model: nn.Module, images: Tensor, place: int) -> bool:
    """Whether each row of the tensor number `place` that a model returns depends on its own image alone.

    Args:
        model: A copy in float64, left as it was.
        images: What it takes, float64 (ALONE, ...).
        place: Among the tensors that it returns.
    """

    def given(x: Tensor) -> Tensor:
        found: Tensor = [leaf for leaf in tree_leaves(as_tree(model(x.clone()))) if leaf is not None][place]
        return found

    half = len(images) // 2
    with untouched(model), _Apart(), Functions():
        try:
            together = given(images)
            if together.shape[:1] != images.shape[:1]:
                return False
            for own in (slice(None, half), slice(half, None)):
                if not torch.equal(_beside_others(given, images, own)[own], together[own]):
                    return False
            alone = torch.cat([given(image[None]) for image in images])
        except (RuntimeError, ValueError, IndexError):  # it takes no single image
            return False
    if alone.shape != together.shape:
        return False
    size = float(together.abs().max())
    differ = ((alone - together).abs().reshape(len(images), -1) > _ROUNDED * size).any(dim=1)
    return float(differ.double().mean()) <= _TIED


def _beside_others(given: Callable[[Tensor], Tensor], images: Tensor, own: slice) -> Tensor:
    """What a model gives where all but its own images are NaN; or others, if these are numbers of rows of a table."""
    others = torch.full_like(images, torch.nan)
    others[own] = images[own]
    try:
        return given(others)
    except (RuntimeError, IndexError):
        others = images.flip(0).roll(1, -1)
        others[own] = images[own]
        return given(others)


def changes(model: nn.Module, images: Tensor) -> bool:
    """Whether a model gives something else when it is called with the same images again, as by what it has kept."""
    with untouched(model), Float64(), Functions():
        first, again = (
            [leaf for leaf in tree_leaves(as_tree(model(images.clone()))) if isinstance(leaf, Tensor)] for _ in range(2)
        )
    return len(first) != len(again) or not all(map(torch.equal, first, again))
