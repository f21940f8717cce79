"""What a model takes, and what its first layer sees of raw levels p.

    x = (p / max_level - mean) / std     what the model is fed (`Feed`): the caller's mean and std, or x = p
    gain * (p - offset)                  what its first layer sees (`InputScale`): that, and the model's own scaling

Nothing is guessed: a model that scales floats by itself looks like one that scales raw levels, so the caller, `Pixels`
or a division by `max_level` says which it is. Scales are rationals, composed exactly; float64 rounds them once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from operator import add, mul
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from lava_meta.converters.chain.functions import Quotient
from lava_meta.converters.chain.reading import Front, Stage, norms_of
from lava_meta.converters.feed import Feed
from lava_meta.converters.options import Options
from lava_meta.converters.refusals import NotAChain
from lava_meta.converters.registry import Affine
from lava_meta.errors import ConversionError

if TYPE_CHECKING:
    from lava_meta.graph.conv import ConvLayer
    from lava_meta.graph.dense import DenseLayer, Readout

Numbers = tuple[Fraction, ...]  # one for all inputs, or one for each channel; behind Flatten, for each input

_CHUNK = 64  # offsets whose sums of weights are taken at a time


@dataclass(frozen=True)
class InputScale:
    """What the first layer sees of raw levels: `gain * (p - offset)`, with an offset for each channel or input."""

    offset: Numbers  # in levels
    gain: Fraction  # > 0; one for all, or the sums would be no integers
    min_level: int  # the least raw level
    max_level: int  # the greatest
    exact: bool  # whether float64 holds each step of it, and its sums, without rounding

    @classmethod
    def of(cls, feed: Feed, front: Front, shape: Sequence[int]) -> InputScale:
        """The caller's scale and the model's own, one after the other, for images of `shape`.

        Raises:
            ConversionError: for gains that are not positive, or not the same for all channels.
        """
        factor: Numbers = (Fraction(1),)
        addend: Numbers = (Fraction(0),)
        if feed.mean is not None and feed.std is not None:
            factor = tuple(1 / (Fraction(std) * feed.max_level) for std in feed.std.tolist())
            addend = _each(lambda mean, std: -Fraction(mean) / Fraction(std), feed.mean.tolist(), feed.std.tolist())
        elif front.pixels is not None:
            gain, offset = front.pixels.exact_gain, front.pixels.exact_offset
            if not (math.isfinite(gain) and math.isfinite(offset) and gain > 0):
                raise ConversionError(
                    f"Pixels has a gain of {gain:g} and an offset of {offset:g}; both are finite, the gain above 0"
                )
            factor, addend = (Fraction(gain),), (-Fraction(offset) * Fraction(gain),)
        exact, scaling, channels = _is_exact(factor, addend), "std", shape[0]
        for label, module in front.before:
            if isinstance(module, nn.Flatten):
                channels = math.prod(shape)
                factor, addend = _repeated(factor, channels), _repeated(addend, channels)
                continue
            assert isinstance(module, Affine)  # others need a sign behind them
            scaling, own, further = label, _factor(label, module), _fractions(label, module.offset)
            if len(own) not in (1, channels):
                raise ConversionError(
                    f"{label} takes {len(own)} numbers, but inputs of shape {tuple(shape)} have {channels} there; pass "
                    "input_shape=(channels, rows, columns) for one number a channel"
                )
            factor, addend = _each(mul, factor, own), _each(add, _each(mul, addend, own), further)
            if min(factor) <= 0:
                raise NotAChain(f"{label} turns the inputs round; scale them by a positive number")
            exact = exact and _is_exact(factor, addend)
        if min(factor) != max(factor):
            raise NotAChain(
                f"{scaling} scales each channel by a number of its own, {float(min(factor)):g} to "
                f"{float(max(factor)):g}: with several scales the first layer's sums are no integers. Train with the "
                "same std for all channels (means may differ), or binarize the inputs"
            )
        offsets = tuple(-value / factor[0] for value in addend)
        one = len(set(offsets)) == 1
        return cls(offsets[:1] if one else offsets, factor[0], feed.min_level, feed.max_level, exact)

    @property
    def largest(self) -> float:
        """The greatest size of what the first layer sees."""
        ends = (level - value for value in self.offset for level in (self.min_level, self.max_level))
        return float(self.gain * max(abs(end) for end in ends))

    def constant(self, layer: DenseLayer | ConvLayer | Readout) -> NDArray[Any]:
        """`sum_i w_i offset_i` of each of the layer's sums, float64 of the shape of one image's sums.

        Offsets times integers, added in one order: equal at all positions that see the same weights.
        """
        every = np.broadcast_to([float(value) for value in _repeated(self.offset, layer.n_in)], layer.n_in)
        offsets = np.unique(every)
        total: NDArray[Any] = np.zeros(())
        for begin in range(0, len(offsets), _CHUNK):
            chunk = offsets[begin : begin + _CHUNK]
            for value, rows in zip(chunk, layer.sums((every == chunk[:, None]).astype(np.int64)), strict=True):
                total = total + value * rows
        return total


# What a layer sees of the two signs s that stand for a unit of 0 and 1: a = sum of (s + 1) / 2 over both.
STEPS = InputScale((Fraction(-1),), Fraction(1, 2), -1, 1, exact=True)


def scale_of(stage: Stage, first: InputScale | None) -> InputScale | None:
    """What the inputs of a stage are to the model, `first` if it is the first one; None for signs."""
    return STEPS if stage.behind_steps else first


def feed_of(front: Front, shape: Sequence[int], options: Options) -> Feed:
    """What the model is fed, as the caller and the model say; see `lava_meta.convert` for the options.

    Raises:
        ConversionError: where nobody says it, or both say something else.
    """
    mean, std, raw = options.mean, options.std, options.raw
    min_level, max_level = options.min_level, options.max_level
    told = mean is not None or std is not None
    if raw and told:
        raise ConversionError(
            "raw=True says that the model takes raw levels, mean= and std= that it does not: pass one"
        )
    if front.pixels is not None:
        if told:
            raise ConversionError("the model normalises its own pixels (Pixels): mean= and std= do not apply")
        own_levels = (front.pixels.min_level, front.pixels.max_level)
        if (min_level, max_level) not in ((0, 255), own_levels):
            raise ConversionError(
                f"levels {min_level} to {max_level} are given, but the model's Pixels take {own_levels[0]} to "
                f"{own_levels[1]}: leave out max_level= and min_level="
            )
        return Feed.given(None, None, shape, *reversed(own_levels))
    feed = Feed.given(mean, std, shape, max_level, min_level)
    own = [(label, module) for label, module in norms_of(front.before) if isinstance(module, Affine)]
    named = [label for label, module in own if max_level > 1 and _divides(module, max_level)]
    if told and named:
        raise ConversionError(
            f"{named[0]} divides by max_level={max_level}, so the model takes raw levels: mean= and std= do not apply"
        )
    if told or raw or named:
        return feed
    if own:
        raise ConversionError(
            f"{own[0][0]} scales the inputs, but nothing says what they are: pass raw=True if the model takes raw "
            f"levels {min_level} to {max_level} (max_level= for others), or mean= and std= as given to torchvision's "
            f"Normalize if it takes what that gives (mean=0, std=1 for ToTensor alone, which divides by {max_level})"
        )
    raise ConversionError(
        "the model has no Pixels module, so its input scaling is unknown: pass mean= and std= as given to "
        "torchvision's Normalize (mean=0, std=1 for ToTensor alone), raw=True if it takes raw levels, signs=True if it "
        "takes +1 and -1, or put lava_meta.nn.Pixels first"
    )


def _divides(module: Affine, max_level: int) -> bool:
    """Whether a module divides by max_level, or multiplies with its float32 inverse."""
    return all(abs(value * max_level - 1) < 1e-6 for value in module.factor.tolist())


def _factor(label: str, module: Affine) -> Numbers:
    """What a module multiplies with; a quotient's is not rounded."""
    values = _fractions(label, module.scale)
    if not isinstance(module, Quotient):
        return values
    if 0 in values:
        raise ConversionError(f"{label} divides by 0")
    return tuple(1 / value for value in values)


def _fractions(label: str, values: Tensor) -> Numbers:
    if not values.isfinite().all():
        raise ConversionError(f"{label} scales the inputs by a number that is not finite")
    return tuple(Fraction(value) for value in values.tolist())


def _is_exact(factor: Numbers, addend: Numbers) -> bool:
    """Whether `factor * p + addend` has so few binary digits that float64 rounds neither it nor its sums."""
    return all(2**16 % value.denominator == 0 and abs(value) < 2**16 for value in (*factor, *addend))


def _each(function: Callable[[Any, Any], Fraction], left: Sequence[Any], right: Sequence[Any]) -> Numbers:
    """A function of two sequences of numbers, of which one may stand for all."""
    count = max(len(left), len(right))
    both = (list(numbers) * count if len(numbers) == 1 else numbers for numbers in (left, right))
    return tuple(function(a, b) for a, b in zip(*both, strict=True))


def _repeated(numbers: Numbers, n_in: int) -> Numbers:
    """For each input in the order (channels, rows, columns), from one for each channel; one for all stays one."""
    return numbers if len(numbers) == 1 else tuple(value for value in numbers for _ in range(n_in // len(numbers)))
