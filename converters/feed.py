"""What the model that a network came from is fed: `x = (p / max_level - mean) / std` of raw levels p, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.errors import ConversionError, FormatError
from lava_meta.graph.given import Floats, whole
from lava_meta.graph.inputs import Domain, check_levels


@dataclass(frozen=True, eq=False)
class Feed:
    """How raw levels become the model's input: `x = (p / max_level - mean) / std`, or `x = p` without mean and std."""

    min_level: int  # the least raw level
    max_level: int  # the greatest
    mean: NDArray[Any] | None = None  # float64 (1,) or (channels,), as a fraction of max_level
    std: NDArray[Any] | None = None  # likewise

    @classmethod
    def given(cls, mean: Any, std: Any, shape: Sequence[int], max_level: int, min_level: int) -> Feed:
        """From the caller's mean and std for images of `shape`: both None, numbers, or one number for each channel.

        Raises:
            ConversionError: naming a value that is not a number, or not in its range, or another number of channels.
        """
        try:
            check_levels(min_level, max_level, signs=False)
        except ValueError as error:
            raise ConversionError(str(error)) from error
        if mean is None and std is None:
            return cls(min_level, max_level)
        if mean is None or std is None:
            missing, other = ("mean", "std") if mean is None else ("std", "mean")
            raise ConversionError(f"{other}= is given without {missing}=: pass both, as to torchvision's Normalize")
        means, stds = _numbers("mean", mean, shape), _numbers("std", std, shape)
        low = min_level / max_level
        for value in means:
            if not low <= value <= 1:
                raise ConversionError(
                    f"mean={value:g} lies outside the inputs' range, {low:g} to 1: it is a fraction of max_level="
                    f"{max_level} (a mean in levels is divided by it)"
                )
        for value in stds:
            if not (math.isfinite(value) and value > 0):
                raise ConversionError(f"std={value:g}; it must be positive and finite")
        return cls(min_level, max_level, means, stds)

    def __call__(self, images: NDArray[Any]) -> NDArray[Any]:
        """The model's inputs (n, ...) for floats (n, ...) of raw levels, computed in their own type."""
        if self.mean is None or self.std is None:
            return images
        shape = (-1, *(1 for _ in images.shape[2:]))
        mean, std = (value.astype(images.dtype).reshape(shape) for value in (self.mean, self.std))
        scaled: NDArray[Any] = (images / self.max_level - mean) / std
        return scaled

    def reader(self, domain: Domain) -> Floats:
        """What reads floats for a network of this domain: see `levels`."""
        return lambda floats: self.levels(floats, domain)

    def levels(self, floats: NDArray[Any], domain: Domain) -> NDArray[Any]:
        """The raw levels of floats (n, ...): whole levels, what `ToTensor` gives of them, or what the model is fed.

        Raises:
            TypeError: They are none of these, or could be two of them.
        """
        if floats.ndim < 2 or not len(floats) or floats[0].size != domain.n_in:
            return floats.astype(np.int64)  # its shape is refused by name
        found = {"whole levels": floats.astype(np.int64)} if whole(floats) else {}
        if self.mean is not None and self.std is not None:
            one, zero = np.ones(1), np.zeros(1)
            for name, mean, std in (("levels / max_level", zero, one), ("normalised", self.mean, self.std)):
                read = self._unscaled(floats, domain, mean, std)
                if read is not None:
                    found[name] = read
        inside = {
            name: read
            for name, read in found.items()
            if domain.min_level <= read.min() and read.max() <= domain.max_level
        }
        found = inside or found
        first = next(iter(found.values()), None)
        if first is None:
            fed = "" if self.mean is None else f", or floats that (p / {self.max_level} - mean) / std gives of them"
            raise TypeError(f"images are {floats.dtype}, not of levels; this network takes {domain.domain}{fed}")
        if any(not np.array_equal(first, read) for read in found.values()):
            raise TypeError(
                f"images are {floats.dtype} and could be {' or '.join(found)}: pass integers, which are always levels"
            )
        return first

    def _unscaled(
        self, floats: NDArray[Any], domain: Domain, mean: NDArray[Any], std: NDArray[Any]
    ) -> NDArray[Any] | None:
        """The levels of which `(p / max_level - mean) / std` gives these floats, up to the rounding of their type."""
        x = floats.reshape(len(floats), *domain.input_shape).astype(np.float64)
        channels = (-1, *(1 for _ in domain.input_shape[1:]))
        mean, std = mean.reshape(channels), std.reshape(channels)
        exact = (x * std + mean) * self.max_level
        read = np.rint(exact)
        eps = max(float(np.finfo(dtype).eps) for dtype in (np.float32, floats.dtype))  # made in float32, if kept wider
        rounding = 8 * eps * self.max_level * (np.abs(mean) + np.abs(x * std))
        fits = (np.abs(exact - read) <= rounding) & (rounding < 0.25)
        return read.astype(np.int64).reshape(floats.shape) if bool(fits.all()) else None


@dataclass(frozen=True, eq=False)
class ModelUse:
    """How the model that a network came from is called: what it is fed, and which of its tensors gives the classes."""

    feed: Feed
    output: int | None = None  # its place among the tensors that the model returns; None if it returns one

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it; the levels are the network's."""
        feed = self.feed
        numbers = {
            name: None if value is None else value.tolist() for name, value in (("mean", feed.mean), ("std", feed.std))
        }
        return numbers | {"output": self.output}

    @classmethod
    def from_dict(cls, record: Any, domain: Domain) -> ModelUse | None:
        """What `to_dict` gave; None for files without it. Raises `FormatError` for anything else."""
        if record is None:
            return None
        try:
            output = record["output"]
            feed = Feed.given(record["mean"], record["std"], domain.input_shape, domain.max_level, domain.min_level)
            return cls(feed, None if output is None else int(output))
        except (TypeError, KeyError, ValueError, ConversionError) as error:
            raise FormatError(f"the file's record of what the model is fed cannot be read: {error}") from error


def _numbers(name: str, value: Any, shape: Sequence[int]) -> NDArray[Any]:
    """A number, or one for each channel, in any container, float64; equal ones are one."""
    try:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        numbers = array.astype(np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise ConversionError(f"{name}={value!r}; expected a number, or one for each channel") from error
    if array.dtype.kind not in "iuf" or numbers.size == 0 or max(array.shape, default=1) != numbers.size:
        raise ConversionError(f"{name}={value!r}; expected a number, or one for each channel")
    if not np.isfinite(numbers).all():
        raise ConversionError(f"{name}={value!r}; expected finite numbers")
    equal = bool((numbers == numbers[0]).all())
    if numbers.size not in (1, shape[0]) and not (equal and len(shape) == 1):
        advice = "" if len(shape) > 1 else "; pass input_shape=(channels, rows, columns)"
        raise ConversionError(
            f"{name} has {numbers.size} numbers; inputs of shape {tuple(shape)} have {shape[0]} channels{advice}"
        )
    return numbers[:1] if equal else numbers
