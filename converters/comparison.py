"""A network beside the user's own PyTorch model, on the user's own data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lava_meta.converters.calling import call, float_types, name_of
from lava_meta.converters.unwrapping import check_given, unwrap
from lava_meta.errors import ConversionError
from lava_meta.graph import Graph

_TOGETHER = 256  # images that the model takes at a time


@dataclass(frozen=True)
class Agreement:
    """Classes of a network and of a model, compared on the same images."""

    images: int  # images compared
    equal: int  # images of equal class
    differing: tuple[int, ...] = field(repr=False)  # places of the others
    own_type: str  # the model's floating type, such as float32

    @property
    def share(self) -> float:
        """Images of equal class, 0 to 1."""
        return self.equal / self.images

    def __str__(self) -> str:
        text = f"{self.equal:,} of {self.images:,} classes ({100 * self.share:.2f} %) equal the {self.own_type} model's"
        if not self.differing:
            return text
        first = ", ".join(map(str, self.differing[:5]))
        return f"{text}; images that differ: {first}{', ...' if len(self.differing) > 5 else ''}"


def compare(
    graph: Graph, model: nn.Module, images: Any, preprocess: Callable[[Tensor], Any] | None = None
) -> Agreement:
    """Compare the classes of `graph` and `model`; see `lava_meta.converters.LavaNetwork.compare`."""
    model = unwrap(model)
    check_given(model)
    ours = graph.predict(images)
    levels = images if isinstance(images, Tensor) else torch.from_numpy(_plain(np.asarray(images)))
    dtype = float_types(model)[0]
    theirs = []
    for start in range(0, len(levels), _TOGETHER):
        part = levels[start : start + _TOGETHER]
        theirs.append(call(model, _made(part, preprocess, dtype)).double().argmax(dim=1).numpy())
    return agreement(ours, np.concatenate(theirs), name_of(dtype))


def agreement(ours: NDArray[Any], theirs: NDArray[Any], own_type: str) -> Agreement:
    """Of classes (n,) of both."""
    differing = np.flatnonzero(theirs != ours)
    return Agreement(len(ours), len(ours) - len(differing), tuple(differing.tolist()), own_type)


def _plain(images: NDArray[Any]) -> NDArray[Any]:
    """Images in a type that torch computes with: of unsigned ones only 8 bits, and of byte orders this machine's."""
    return np.array(images) if images.dtype in (np.uint8, np.int8, np.int16, np.int32) else images.astype(np.int64)


def _made(images: Tensor, preprocess: Callable[[Tensor], Any] | None, dtype: torch.dtype) -> Tensor:
    if preprocess is None:
        return images.to(dtype)
    try:
        made = preprocess(images)
    except Exception as error:
        raise ConversionError(
            f"preprocess fails on {name_of(images.dtype)} images of shape {tuple(images.shape)}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, Tensor) or len(made) != len(images):
        what = f"a tensor of shape {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
        raise ConversionError(
            f"preprocess gives {what} for {len(images)} images; it must give a tensor of as many: it is called on "
            "several at a time"
        )
    return made
