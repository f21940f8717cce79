"""Labelled images as unsigned 8-bit tensors in memory, and the order in which they are learned.

Images stay raw: a network's first module turns levels into numbers, so that the network carries its own convention.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lava_meta.data.arrays import as_labels, as_levels
from lava_meta.errors import DataError


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images, checked when made.

    Arrays of numpy are taken too: levels of any integer type, (n, height, width) as one channel, labels of any integer
    type. Real numbers need a scale: `Dataset.from_arrays`.

    Raises `TypeError` for levels that are real numbers, and `DataError` when there are no images, when images and
    labels differ in number, or when a label is missing or a label or a pixel is out of range.
    """

    x: Tensor  # uint8 (n, features) or (n, channels, height, width), levels 0 .. max_level
    y: Tensor  # int64 (n,), classes 0 .. classes - 1
    name: str = "images"
    classes: int = 0  # width of the readout, not every class need be present; 0: up to the greatest label
    max_level: int = 255  # the brightest level that a pixel can have

    def __post_init__(self) -> None:
        if self.y is None:
            raise DataError(f"{self.name}: there are no labels; give y, one class per image")
        object.__setattr__(self, "x", as_levels(self.x, self.max_level, self.name))
        object.__setattr__(self, "y", as_labels(self.y, self.name))
        if len(self.x) != len(self.y):
            raise DataError(f"{self.name}: {len(self.x)} images but {len(self.y)} labels")
        if self.x.numel() == 0:
            raise DataError(f"{self.name}: there are no images (shape {tuple(self.x.shape)})")
        if not 1 <= self.max_level <= 255:
            raise ValueError(f"{self.name}: max_level is {self.max_level}; 8-bit levels end between 1 and 255")
        if self.classes == 0 and int(self.y.max()) >= max(len(self.y), 1000):
            raise DataError(
                f"{self.name}: labels go up to {int(self.y.max())} for {len(self.y)} images, as if there were so many "
                "classes: number them from 0 (np.unique(y, return_inverse=True)[1]), or say classes="
            )
        if self.classes == 0:
            object.__setattr__(self, "classes", int(self.y.max()) + 1)
        if self.classes < 1 or int(self.y.min()) < 0 or int(self.y.max()) >= self.classes:
            raise DataError(
                f"{self.name}: labels run from {int(self.y.min())} to {int(self.y.max())}; with {self.classes} classes "
                f"they must lie in 0..{self.classes - 1}"
            )
        if int(self.x.max()) > self.max_level:
            raise DataError(f"{self.name}: a pixel is {int(self.x.max())}, above max_level = {self.max_level}")

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"Images({self.name!r}, {len(self)} of {shape}, {self.classes} classes, levels 0..{self.max_level})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image: (features,) or (channels, height, width)."""
        return tuple(self.x.shape[1:])

    @property
    def features(self) -> int:
        """Pixels of one image."""
        return math.prod(self.shape)

    @property
    def mean_level(self) -> float:
        """Mean pixel, in levels (0 .. max_level): MNIST's is 33.3."""
        return self._moments[0]

    @property
    def std_level(self) -> float:
        """Standard deviation of all pixels about `mean_level`, in levels: MNIST's is 78.6."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[float, float]:
        # Exact integer sums over a histogram: no float copy of the images, and the same value on every machine.
        counts = torch.bincount(self.x.reshape(-1), minlength=256).tolist()
        total = sum(counts)
        first = sum(level * count for level, count in enumerate(counts))
        second = sum(level * level * count for level, count in enumerate(counts))
        return first / total, math.sqrt(total * second - first * first) / total

    def to(self, device: torch.device | str) -> Images:
        """The same images in the memory of `device`."""
        if self.x.device == self.y.device == torch.device(device):
            return self
        return replace(self, x=self.x.to(device), y=self.y.to(device))

    def take(self, indices: Tensor | NDArray[Any] | Sequence[int], name: str | None = None) -> Images:
        """The images at `indices`, in that order. Raises `IndexError` outside the data set."""
        index = torch.as_tensor(indices, dtype=torch.int64, device=self.x.device)
        if index.numel() and (int(index.min()) < 0 or int(index.max()) >= len(self)):
            raise IndexError(f"{self.name}: indices must lie in 0..{len(self) - 1}")
        return replace(self, x=self.x.index_select(0, index), y=self.y.index_select(0, index), name=name or self.name)

    def permuted(self, permutation: Tensor | NDArray[Any], name: str | None = None) -> Images:
        """Pixels rearranged, the shape kept: pixel i of the result is pixel `permutation[i]`, counted in C order.

        Raises `ValueError` unless `permutation` holds each of 0 .. features - 1 once.
        """
        order = torch.as_tensor(permutation, dtype=torch.int64, device=self.x.device)
        if order.dim() != 1 or not torch.equal(order.sort().values, torch.arange(self.features, device=order.device)):
            raise ValueError(f"{self.name}: not a permutation of the {self.features} pixels")
        x = self.x.reshape(len(self), -1).index_select(1, order).reshape(self.x.shape)
        return replace(self, x=x, name=name or f"{self.name} permuted")

    def classes_only(self, labels: Sequence[int], name: str | None = None) -> Images:
        """The images of these classes; labels and `classes` stay as they are.

        Raises `ValueError` for a label out of range or one that no image has.
        """
        wanted = torch.as_tensor(list(labels), dtype=torch.int64, device=self.y.device)
        missing = sorted(set(wanted.tolist()) - set(self.y.unique().tolist()))
        if missing or not len(wanted):
            raise ValueError(
                f"{self.name}: no images of class {', '.join(map(str, missing))}"
                if missing
                else f"{self.name}: give at least one class"
            )
        return self.take(torch.isin(self.y, wanted).nonzero().flatten(), name)

    def relabelled(self, offset: int, classes: int) -> Images:
        """Labels counted from `offset`, of so many classes."""
        return self if (offset, classes) == (0, self.classes) else replace(self, y=self.y + offset, classes=classes)

    def padded(self, height: int, width: int) -> Images:
        """Images centred on a black field of `height` x `width`; an odd rest goes below and to the right.

        Raises `ValueError` for flat images, or when the field is smaller than the images.
        """
        if self.x.dim() != 4:
            raise ValueError(f"{self.name}: flat images of shape {self.shape} cannot be padded")
        down, right = height - self.shape[1], width - self.shape[2]
        if down < 0 or right < 0:
            raise ValueError(f"{self.name}: images of {self.shape[1]}x{self.shape[2]} do not fit in {height}x{width}")
        sides = (right // 2, right - right // 2, down // 2, down - down // 2)
        return replace(self, x=torch.nn.functional.pad(self.x, sides))

    def split(self, fraction: float, seed: int) -> tuple[Images, Images]:
        """Two sets, (the rest, held out); of every class the rounded `fraction` is held out, drawn from `seed`.

        Raises `ValueError` unless 0 < fraction < 1 and both have images.
        """
        if not 0 < fraction < 1:
            raise ValueError(f"fraction is {fraction}; it must lie strictly between 0 and 1")
        rng = np.random.default_rng(seed)
        y = self.y.cpu().numpy()
        held = np.zeros(len(y), dtype=bool)
        for label in range(self.classes):
            members = rng.permutation(np.flatnonzero(y == label))
            held[members[: round(fraction * len(members))]] = True
        if held.all() or not held.any():
            raise ValueError(f"{self.name}: holding out {fraction:g} of {len(self)} images leaves one set empty")
        rest, out = np.flatnonzero(~held), np.flatnonzero(held)
        return self.take(rest, f"{self.name} training"), self.take(out, f"{self.name} held out")


def batches(images: Images, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Every image once, in an order drawn from `generator`: x uint8 (b, ...), y int64 (b,).

    The last batch is smaller if `batch_size` does not divide the number of images. Raises `ValueError` for a
    `batch_size` below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    order = torch.randperm(len(images), generator=generator, device=generator.device).to(images.x.device)
    for index in order.split(batch_size):
        yield images.x.index_select(0, index), images.y.index_select(0, index)
