"""Images as spikes over time, for learners whose units integrate (`over_time`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.data import Images
from lava_meta.io.memory import require_memory
from lava_meta.online_learning.encoding import Levels

CODINGS = ("rate", "constant")
_PART = 1000  # images drawn at once


@dataclass(frozen=True)
class SpikeTrains(Levels):
    """Spikes uint8 (n, steps * n_in) of images, the first step's before the next one's.

    rate       in every step a pixel spikes with the probability of its brightness: drawn from `seed`, the same for the
               same array of images
    constant   in every step those above half of the brightest level spike, as without time
    """

    steps: int = 1
    coding: str = "rate"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.coding not in CODINGS:
            raise ValueError(f"coding is {self.coding!r}; choose one of {', '.join(CODINGS)}")

    @property
    def levels(self) -> int:
        return self.steps

    def _encoded(self, flat: NDArray[Any]) -> NDArray[np.uint8]:
        require_memory(
            flat.size * self.steps, f"Spikes of {len(flat)} images over {self.steps} steps", "give fewer images"
        )
        if self.coding == "constant":
            return np.tile((flat > self.max_level // 2).astype(np.uint8), (1, self.steps))
        if flat.size and not (flat.min() >= 0 and flat.max() <= self.max_level):
            raise ValueError(
                f"pixels run from {flat.min()} to {flat.max()}; they spike as often as they are bright, from 0 to "
                f"max_level = {self.max_level}"
            )
        generator = np.random.default_rng([self.seed, 2])
        spikes = np.empty((len(flat), self.steps, self.n_in), np.uint8)
        for start in range(0, len(flat), _PART):
            part = flat[start : start + _PART, None]
            shape = (len(part), self.steps, self.n_in)
            spikes[start : start + _PART] = generator.integers(0, self.max_level, shape, np.int32) < part
        return spikes.reshape(len(flat), self.steps * self.n_in)

    def meet(self, images: Images) -> SpikeTrains:
        """The mean is that of a step's spikes."""
        mean = self.mean
        if mean is None:
            x = np.asarray(images.x)
            bright = x > images.max_level // 2 if self.coding == "constant" else x / images.max_level
            mean = float(bright.mean())
        return replace(self, max_level=images.max_level, mean=mean)

    def check(self, images: Images) -> None:
        """Any levels fit: they say how often pixels spike."""
