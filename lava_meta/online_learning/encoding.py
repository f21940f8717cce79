"""From raw images to what a learning network takes: spikes, pixels, or what a frozen front makes of them.

An encoding is a value: `meet` gives another one, which has taken the levels and the mean of the first images.
"""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lava_meta.data import Images
from lava_meta.graph import BinaryGraph
from lava_meta.online_learning.options import LearnerOptions

_PLACEHOLDER_MEAN = 0.125  # of the inputs, until the first images are seen


class Encoding(Protocol):
    """How a network sees images."""

    @property
    def n_in(self) -> int:
        """Pixels of an image."""

    @property
    def levels(self) -> int:
        """The greatest value that the first layer which learns takes; 1 for spikes and signs."""

    @property
    def input_mean(self) -> float:
        """The mean of these values as a share of the greatest, which sets thresholds; 0 for signs."""

    def __call__(self, images: Any) -> NDArray[Any]:
        """What the network takes, (n, n_in), of images (n, ...) with levels 0 .. max_level, numpy or torch.

        Raises TypeError or ValueError for images that do not fit.
        """

    def check(self, images: Images) -> None:
        """Raise ValueError for images whose levels the network's thresholds do not fit."""

    def meet(self, images: Images) -> Encoding:
        """The encoding that has seen `images`: the first ones give it their levels and mean."""


@dataclass(frozen=True)
class Levels(ABC):
    """Images of levels 0 .. `max_level`; `mean` is that of what the network takes, None until images are met."""

    n_in: int
    max_level: int = 255
    mean: float | None = None

    @property
    @abstractmethod
    def levels(self) -> int:
        """As `Encoding` says, like all of its members."""

    @abstractmethod
    def check(self, images: Images) -> None: ...

    @property
    def input_mean(self) -> float:
        return _PLACEHOLDER_MEAN if self.mean is None else self.mean

    def __call__(self, images: Any) -> NDArray[Any]:
        array = np.asarray(images)
        if array.dtype.kind not in "ui" or array.ndim < 2:
            raise TypeError(f"images are {array.dtype} of shape {array.shape}; give unsigned levels (n, ...)")
        flat = array.reshape(len(array), math.prod(array.shape[1:]))
        if flat.shape[1] != self.n_in:
            raise ValueError(f"images have {flat.shape[1]} pixels; this network takes {self.n_in}")
        return self._encoded(flat)

    @abstractmethod
    def _encoded(self, flat: NDArray[Any]) -> NDArray[np.uint8]:
        """Of levels (n, pixels)."""

    def meet(self, images: Images) -> Encoding:
        known = replace(self, max_level=images.max_level)
        return replace(known, mean=float(known(images.x).mean()) / known.levels if self.mean is None else self.mean)


@dataclass(frozen=True)
class Spikes(Levels):
    """1 if a pixel is above half of the brightest level, else 0."""

    levels = 1

    def _encoded(self, flat: NDArray[Any]) -> NDArray[np.uint8]:
        return (flat > self.max_level // 2).astype(np.uint8)

    def check(self, images: Images) -> None:
        """Any levels fit: the images' own set the threshold."""


@dataclass(frozen=True)
class Pixels(Levels):
    """The levels themselves, graded spikes of up to 8 bits."""

    @property
    def levels(self) -> int:
        return self.max_level

    def _encoded(self, flat: NDArray[Any]) -> NDArray[np.uint8]:
        low, high = (int(flat.min()), int(flat.max())) if flat.size else (0, 0)
        if low < 0 or high > self.max_level:
            raise ValueError(f"pixels run from {low} to {high}; this network takes levels 0 to {self.max_level}")
        return flat.astype(np.uint8)

    def check(self, images: Images) -> None:
        if self.mean is not None:
            _check_levels(images, self.max_level)


@dataclass(frozen=True, eq=False)
class Front:
    """The first `depth` layers of a converted network, frozen: they compute what the graph computes.

    The network above them takes what the graph takes, and its first layer that learns sees the signs that come out.
    Raises `ValueError` for a depth that the graph does not have.
    """

    graph: BinaryGraph
    depth: int

    levels = 1
    input_mean = 0.0

    def __post_init__(self) -> None:
        if not 1 <= operator.index(self.depth) <= len(self.graph.layers):
            raise ValueError(f"depth is {self.depth}; the network has {len(self.graph.layers)} hidden layers to freeze")

    @property
    def name(self) -> str:
        """Of the layer whose signs come out."""
        return f"hidden{self.depth}"

    @property
    def n_in(self) -> int:
        """Inputs of the graph."""
        return self.graph.n_in

    def __call__(self, images: Any) -> NDArray[Any]:
        """The inputs as the graph takes them: its layers are computed where the network is."""
        return self.graph.check_images(images)

    def check(self, images: Images) -> None:
        """Raise ValueError for images of other levels."""
        _check_levels(images, self.graph.max_level)

    def meet(self, images: Images) -> Encoding:
        """Nothing is left open."""
        return self

    def signs(self, *, compiled: bool) -> Callable[[NDArray[Any]], NDArray[Any]]:
        """From pixels (n, pixels) to signs int8 (n, units): the graph's reference, or its compiled form."""
        if not compiled:
            return lambda pixels: self.graph.activations(pixels)[self.name]
        from lava_meta.graph.packed.network import PackedNetwork

        packed = PackedNetwork(self.graph)
        return lambda pixels: packed.activations(pixels.astype(packed.dtype), [self.name])[self.name]


def encoding_of(n_in: int, options: LearnerOptions) -> Encoding:
    """Spikes or pixels, as the options have it."""
    return (Pixels if options.inputs == "pixels" else Spikes)(n_in, options.max_level, options.input_mean)


def _check_levels(images: Images, max_level: int) -> None:
    if images.max_level != max_level:
        raise ValueError(
            f"{images.name} has levels up to {images.max_level}; this network's thresholds are for levels up to "
            f"{max_level}"
        )
