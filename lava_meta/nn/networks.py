"""Whole networks, from raw pixels to logits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from lava_meta.io.learned import Learned
from lava_meta.nn.engrams import Engrams
from lava_meta.nn.layers import AbsStep, BinaryConv2d, BinaryLinear, Pixels, Sign
from lava_meta.nn.norms import FixedNorm, SampleNorm, TaskBatchNorm, select_task

if TYPE_CHECKING:
    from lava_meta.data import Images

Norm = Literal["fixed", "batch", "layer"]
Activation = Literal["sign", "abs_step"]
# The units, and the root of their values' mean square if what they compare is of the standard normal distribution.
_WIDTH = 1.3  # chosen on held-out images: docs/results/rules.md
_ACTIVATIONS: dict[str, tuple[Callable[[], Sign | AbsStep], float]] = {
    "sign": (Sign, 1.0),
    "abs_step": (partial(AbsStep, _WIDTH), math.sqrt(math.erfc(_WIDTH / math.sqrt(2)))),
}


class _Network(nn.Sequential):
    """A sequence whose slices are plain sequences: `network[:4]` is its first four modules.

    `learned` says what it has learned, the oldest first (`lava_meta.io.learned`).
    """

    learned: tuple[Learned, ...] = ()

    def __getitem__(self, index: Any) -> Any:
        return nn.Sequential(*list(self)[index]) if isinstance(index, slice) else super().__getitem__(index)


class BinaryMLP(_Network):
    """A dense binarized network on raw pixels: sizes (pixels, hidden, ..., classes), binary weights everywhere.

    `pixel_mean` and `pixel_std` are in pixel levels and describe the images of the first task; `BinaryMLP.for_images`
    measures them. The mean is rounded to a whole level, so that the first layer's sums are exact integers.
    `activation` is `"sign"`, units of +1 and -1, or `"abs_step"`, units of 0 and 1 (`AbsStep` of width 1.3), which keep
    more of earlier tasks.
    `engrams` is the share of hidden units that each task draws (`Engrams`); None: all of them, for every task.
    `tasks`, `affine`, `statistics` and `gain` go to the batch norm (`TaskBatchNorm`) and to no other norm.

    Input: (n, ...) raw pixels of any numeric type. Output: logits (n, classes); with the fixed norm in eval mode they
    are the integer sums themselves.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        norm: Norm = "fixed",
        *,
        activation: Activation = "sign",
        engrams: float | None = None,
        pixel_mean: float = 0.0,
        pixel_std: float = 80.0,
        max_level: int = 255,
        init_width: float = 0.05,
        seed: int | None = None,
        **batch_norm: Any,
    ) -> None:
        check_dense(sizes, norm, ("fixed", "batch", "layer"), pixel_std, batch_norm)
        unit, input_size = unit_kind(activation)
        input_size *= math.sqrt(1 if engrams is None else engrams)
        layers: list[nn.Module] = [nn.Flatten(), Pixels(offset=round(pixel_mean), max_level=max_level)]
        last = len(sizes) - 2
        with seeded(seed):
            for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
                scale = 1 / (math.sqrt(fan_in) * (pixel_std if i == 0 else input_size))
                layers.append(BinaryLinear(fan_in, fan_out, init_width))
                layers.append(norm_module(norm, fan_out, scale, batch_norm, last=i == last))
                if i < last:
                    layers.append(unit())
                    layers += [] if engrams is None else [Engrams(fan_out, engrams)]
        super().__init__(*layers)
        self._settings = {
            "sizes": list(sizes),
            "norm": norm,
            "activation": activation,
            "engrams": engrams,
            "pixel_mean": pixel_mean,
            "pixel_std": pixel_std,
            "max_level": max_level,
            "init_width": init_width,
            **batch_norm,
        }

    @property
    def sizes(self) -> tuple[int, ...]:
        """(pixels, hidden, ..., classes)."""
        return tuple(self._settings["sizes"])

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that rebuild this network, JSON-ready, with the statistics that eval mode uses now."""
        norms = [module for module in self if isinstance(module, TaskBatchNorm)]
        return self._settings | ({"statistics": norms[0].statistics} if norms else {})

    def binary_layers(self) -> dict[str, BinaryLinear]:
        """The binary layers by the names that conversion gives them: hidden1, hidden2, ..., readout."""
        layers = [module for module in self if isinstance(module, BinaryLinear)]
        return {**{f"hidden{i}": layer for i, layer in enumerate(layers[:-1], 1)}, "readout": layers[-1]}

    @classmethod
    def for_images(cls, images: Images, hidden: Sequence[int], norm: Norm = "fixed", **options: Any) -> BinaryMLP:
        """A network for these images: their pixels, classes, mean, deviation and brightest level are measured."""
        return cls(
            (images.x[0].numel(), *hidden, images.classes),
            norm,
            **measured(images),
            **options,
        )

    def select_task(self, task: int) -> None:
        """Use the affine and statistics of `task` (batch norm; the other norms know no tasks), and its engrams."""
        select_task(self, task)


class BinaryConvNet(_Network):
    """A small binarized convolutional network on raw pixels (n, channels, height, width).

        convolutions 3x3, norm, 2x2 pooling of the normed sums, units      a block for each of `channels`
        dense, norm, units                                                 for each of `hidden`
        dense readout, norm

    All weights are binary. `convolutions` of a block follow each other, each with a norm and units; the last is pooled.
    `norm`, `activation` and the options of batch norm are those of `BinaryMLP`; `"layer"` norms the whole map of each
    image. Max pooling before a sign equals a logical OR after it, and stays exact in integers.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        channels: Sequence[int],
        classes: int,
        norm: Norm = "fixed",
        *,
        activation: Activation = "sign",
        hidden: Sequence[int] = (),
        convolutions: int = 1,
        pixel_mean: float = 0.0,
        pixel_std: float = 80.0,
        max_level: int = 255,
        init_width: float = 0.05,
        seed: int | None = None,
        **batch_norm: Any,
    ) -> None:
        depth, height, width = image_shape
        if not channels or min(*channels, depth, classes) < 1:
            raise ValueError(f"channels is {tuple(channels)}; give at least one positive number")
        if min(height, width) >> len(channels) < 1:
            raise ValueError(f"{len(channels)} poolings leave nothing of images of {height}x{width}")
        if convolutions < 1:
            raise ValueError(f"convolutions is {convolutions}; a block has at least one")
        features = channels[-1] * (height >> len(channels)) * (width >> len(channels))
        sizes = (features, *hidden, classes)
        check_dense(sizes, norm, ("fixed", "batch", "layer"), pixel_std, batch_norm)
        unit, input_size = unit_kind(activation)

        def layers() -> Iterator[nn.Module]:
            fan_in, size = depth, pixel_std
            for fan_out in channels:
                for place in range(convolutions):
                    yield BinaryConv2d(fan_in, fan_out, 3, padding=1, init_width=init_width)
                    yield norm_module(norm, fan_out, 1 / (math.sqrt(9 * fan_in) * size), batch_norm, maps=True)
                    if place == convolutions - 1:
                        yield nn.MaxPool2d(2)
                    yield unit()
                    fan_in, size = fan_out, input_size
            yield nn.Flatten()
            for i, (inputs, outputs) in enumerate(pairwise(sizes)):
                last = i == len(hidden)
                yield BinaryLinear(inputs, outputs, init_width)
                yield norm_module(norm, outputs, 1 / (math.sqrt(inputs) * size), batch_norm, last=last)
                if not last:
                    yield unit()

        with seeded(seed):
            super().__init__(Pixels(offset=round(pixel_mean), max_level=max_level), *layers())
        self.image_shape = (depth, height, width)

    @classmethod
    def for_images(cls, images: Images, channels: Sequence[int], norm: Norm = "fixed", **options: Any) -> BinaryConvNet:
        """A network for these images: their shape, classes, mean, deviation and brightest level are measured."""
        depth, height, width = images.shape
        return cls((depth, height, width), channels, images.classes, norm, **measured(images), **options)

    def select_task(self, task: int) -> None:
        """Use the affine and statistics of `task` (batch norm; the other norms know no tasks)."""
        select_task(self, task)


def unit_kind(activation: str) -> tuple[Callable[[], Sign | AbsStep], float]:
    """What makes a layer's units, and the root of their values' mean square. Raises `ValueError` for an unknown one."""
    if activation not in _ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; choose one of {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[activation]


def norm_module(
    norm: Norm, units: int, scale: float, batch_norm: dict[str, Any], *, maps: bool = False, last: bool = False
) -> nn.Module:
    """The norm behind a layer of `units` units, or of as many `maps`. scale: of the fixed norm; last: of logits."""
    if norm == "batch":
        return TaskBatchNorm(units, **batch_norm)
    if norm == "layer":
        return nn.GroupNorm(1, units, affine=False) if maps else SampleNorm()
    return SampleNorm(training_only=True) if last else FixedNorm(scale)


def measured(images: Images) -> dict[str, Any]:
    """What a network is told of images: mean, deviation and brightest level of their pixels."""
    return {"pixel_mean": images.mean_level, "pixel_std": images.std_level, "max_level": images.max_level}


def check_dense(
    sizes: Sequence[int], norm: str, norms: Sequence[str], pixel_std: float, batch_norm: dict[str, Any]
) -> None:
    """What dense networks ask of their arguments. Raises `ValueError` or `TypeError`, naming the one that is wrong."""
    if not isinstance(sizes, Sequence) or not all(hasattr(size, "__index__") for size in sizes):
        raise TypeError(f"sizes is {sizes!r}; give whole numbers, as (784, 512, 10)")
    if not pixel_std > 0:
        raise ValueError(f"pixel_std is {pixel_std}; it must be positive: are all pixels equal?")
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes is {tuple(sizes)}; give at least (pixels, classes), all positive")
    if norm not in norms:
        raise ValueError(f"norm is {norm!r}; choose one of {', '.join(norms)}")
    if batch_norm and norm != "batch":
        raise TypeError(f"{', '.join(batch_norm)}: only norm='batch' takes these options")


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Draw from torch's generator seeded with `seed` inside the block, and put its state back after it."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
