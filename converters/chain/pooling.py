"""PyTorch's pooling as windows: ceil_mode, padding, divisors at the border, adaptive extents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from lava_meta.converters.chain.reading import AVERAGES, MAXIMA, Stage
from lava_meta.converters.refusals import NotAChain
from lava_meta.errors import ConversionError
from lava_meta.graph.conv import Pair, Pool, Window

__all__ = ["MAXIMA", "Average", "fixed_pools", "pair"]


@dataclass(frozen=True)
class Average:
    """A window of sums and what PyTorch divides each by."""

    window: Window
    divisor: int | NDArray[Any]  # int64 (1, down, across) where not all are equal; only an int may be below 0

    @classmethod
    def of(cls, window: Window, size: Pair, *, count_include_pad: bool, divisor_override: int | None) -> Average:
        """The means of `window` over maps of `size`, divided by its places on the image, or on its padding too.

        Raises `ConversionError` for a divisor of 0.
        """
        if divisor_override == 0:
            raise ConversionError("has divisor_override=0: give it another divisor, or None for the mean")
        if divisor_override is not None:
            return cls(window, int(divisor_override))
        counts = []
        for extent, count, kernel, stride, padding in zip(
            size, window.positions(*size), window.kernel, window.stride, window.padding, strict=True
        ):
            start = np.arange(count) * stride - padding
            end = np.minimum(start + kernel, extent + padding)
            if not count_include_pad:
                start, end = np.maximum(start, 0), np.minimum(end, extent)
            counts.append(end - start)
        divisor = np.outer(*counts)[None]
        return cls(window, int(divisor[0, 0, 0]) if (divisor == divisor[0, 0, 0]).all() else divisor)


def pooling_window(kernel: Any, stride: Any, padding: Any, dilation: Any, *, ceil_mode: bool, size: Pair) -> Window:
    """PyTorch's window over maps of `size`; with `ceil_mode`, windows that begin on the image may reach outside."""
    window = Window(*(pair(value) for value in (kernel, stride, padding, dilation)))
    return replace(window, after=_reach(window, size)) if ceil_mode else window


def fixed_pools(stage: Stage, size: Pair) -> list[Pool | Average]:
    """The pooling of a stage whose convolution gives maps of `size`, in order.

    Raises `ConversionError` for adaptive pooling whose windows differ, `ValueError` for a window that does not fit.
    """
    found: list[Pool | Average] = []
    for label, module in (*stage.before, *stage.behind):
        if not isinstance(module, (*MAXIMA, *AVERAGES)):
            continue
        if isinstance(module, (nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)):
            kernel = _adaptive(label, module.output_size, size)
            window = Window(kernel, kernel)
            divisor: int | NDArray[Any] = math.prod(kernel)
        else:
            assert isinstance(module, (nn.MaxPool2d, nn.AvgPool2d))
            dilation = module.dilation if isinstance(module, nn.MaxPool2d) else 1
            window = pooling_window(
                module.kernel_size, module.stride, module.padding, dilation, ceil_mode=module.ceil_mode, size=size
            )
            divisor = 1
            if isinstance(module, nn.AvgPool2d):
                try:
                    divisor = Average.of(
                        window,
                        size,
                        count_include_pad=module.count_include_pad,
                        divisor_override=module.divisor_override,
                    ).divisor
                except ConversionError as error:
                    raise ConversionError(f"{label} {error}") from error
        if isinstance(module, MAXIMA):
            found.append(Pool(**vars(window)))
            if not window.views(np.ones((1, 1, *size), bool)).any(axis=(4, 5)).all():
                raise ConversionError(
                    f"{label} has windows that see nothing but padding, where PyTorch's maximum is -inf: give it less "
                    "padding or dilation"
                )
        else:
            found.append(Average(window, divisor))
        size = window.positions(*size)
    return found


def pair(value: int | Sequence[int]) -> Pair:
    """An extent for rows and columns alike, or one for each."""
    if isinstance(value, int):
        return value, value
    return (value[0], value[0]) if len(value) == 1 else (value[0], value[1])


def _adaptive(label: str, target: object, size: Pair) -> Pair:
    wanted = [
        extent if n is None else n
        for n, extent in zip(target if isinstance(target, tuple) else (target, target), size, strict=True)
    ]
    if any(extent % n for n, extent in zip(wanted, size, strict=True)):
        raise NotAChain(f"{label} makes {tuple(wanted)} of {size}, so that its windows differ; use extents that divide")
    return size[0] // wanted[0], size[1] // wanted[1]


def _reach(window: Window, size: Pair) -> Pair:
    """How far the windows of ceil_mode reach past the padding; one that would begin past the image is left out."""
    after = []
    for extent, kernel, stride, padding, dilation in zip(
        size, window.kernel, window.stride, window.padding, window.dilation, strict=True
    ):
        reach = dilation * (kernel - 1) + 1
        count = -(-(extent + 2 * padding - reach) // stride) + 1
        if (count - 1) * stride >= extent + padding:
            count -= 1
        after.append(max(0, (count - 1) * stride + reach - extent - 2 * padding))
    return after[0], after[1]
