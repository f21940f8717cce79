"""Convolutions and pooling of volumes, (channels, depth, rows, columns), as those of maps that they are.

A convolution sees `deep` frames at a time. These are laid side by side as channels, and what each of them gives one
below the other in one tall map: a single convolution of maps with the same weights, without a row that lies in two.
Windows of pooling are taken within each frame, then across the frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def convolved(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    after: Sequence[int],
    groups: int,
) -> Tensor:
    """`aten::convolution` of a volume."""
    stride, padding, dilation, after = (_three(value) for value in (stride, padding, dilation, after))
    if transposed:  # inputs apart by the stride, zeros between and around them, and the kernels turned
        weight = weight.flip(2, 3, 4).unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
        x = _apart(x, stride)
        edges = [d * (k - 1) - p for d, k, p in zip(dilation, weight.shape[2:], padding, strict=True)]
        around = [(edge, edge + more) for edge, more in zip(edges, after, strict=True)]
        stride, padding = [1, 1, 1], [0, 0, edges[2]]
        x = functional.pad(x, [0, after[2], *around[1], *around[0]])
    else:
        x = functional.pad(x, [0, 0, *(padding[1],) * 2, *(padding[0],) * 2])
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    frames, rows, _ = ((extent - r) // s + 1 for extent, r, s in zip(x.shape[2:], reach, stride, strict=True))
    x = functional.pad(x, [0, 0, 0, -x.shape[3] % stride[1]])  # each frame begins at a row that a window begins at
    seen = stride[0] * torch.arange(frames).unsqueeze(1) + dilation[0] * torch.arange(weight.shape[2])
    side_by_side = x.index_select(2, seen.reshape(-1)).unflatten(2, tuple(seen.shape)).transpose(2, 3)
    tall = side_by_side.flatten(3, 4).flatten(1, 2)
    made = functional.conv2d(tall, weight.flatten(1, 2), bias, stride[1:], (0, padding[2]), dilation[1:], groups)
    kept = x.shape[3] // stride[1] * torch.arange(frames).unsqueeze(1) + torch.arange(rows)
    return _apart_again(made.index_select(2, kept.reshape(-1)), 2, (frames, rows))


def _apart_again(x: Tensor, axis: int, extents: Sequence[int]) -> Tensor:
    """With one axis as several."""
    made: Tensor = x.unflatten(axis, tuple(extents))
    return made


def _apart(x: Tensor, stride: Sequence[int]) -> Tensor:
    """With zeros between the elements."""
    for axis, step in zip((2, 3, 4), stride, strict=True):
        between = functional.pad(x.unsqueeze(axis + 1), [0, 0] * (4 - axis) + [0, step - 1])
        x = between.flatten(axis, axis + 1).narrow(axis, 0, (x.shape[axis] - 1) * step + 1)
    return x


def greatest(
    x: Tensor, kernel: Sequence[int], stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> tuple[Tensor, None]:
    """`aten::max_pool3d_with_indices`, without the indices."""
    size = _three(kernel)
    each = [size, _three(stride or size), _three(padding), _three(dilation)]

    def pooled(x: Tensor, shape: list[list[int]]) -> Tensor:
        kernel, stride, padding, dilation = shape
        made: Tensor = functional.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode=ceil_mode)
        return made

    return _twice(x, each, (1, 1, 0, 1), pooled), None


def _twice(x: Tensor, each: list[list[int]], ones: Sequence[int], pooled: Callable[..., Tensor]) -> Tensor:
    """Pooled within each frame, and then across the frames; `ones`: what the shape of a window is where it is one."""
    frames = _apart_again(pooled(x.flatten(-4, -3), [value[1:] for value in each]), -3, x.shape[-4:-2])
    if [value[0] for value in each] == list(ones):  # one frame at a time
        return frames
    across = [[value[0], one] for value, one in zip(each, ones, strict=True)]
    return _apart_again(pooled(frames.flatten(-2), across), -1, frames.shape[-2:])


def averaged(
    x: Tensor,
    kernel: Sequence[int],
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """`aten::avg_pool3d`: sums, divided once."""
    size = _three(kernel)
    each = [size, _three(stride or size), _three(padding)]

    def pooled(x: Tensor, shape: list[list[int]], **options: Any) -> Tensor:
        kernel, stride, padding = shape
        return functional.avg_pool2d(x, kernel, stride, padding, ceil_mode=ceil_mode, **options)

    def sums(x: Tensor) -> Tensor:
        return _twice(x, each, (1, 1, 0), partial(pooled, divisor_override=1))

    if divisor_override is not None:
        return sums(x) / divisor_override
    ones = torch.ones(1, *x.shape[-3:])  # of these the mean is 1, or less where the padding counts
    means = _twice(ones, each, (1, 1, 0), partial(pooled, count_include_pad=count_include_pad))
    return sums(x) / (sums(ones) / means).round().squeeze(0)


def adapted_mean(x: Tensor, wanted: Sequence[int]) -> Tensor:
    """`aten::_adaptive_avg_pool3d`."""
    if all(extent % own == 0 for extent, own in zip(x.shape[-3:], wanted, strict=True)):
        return averaged(x, [extent // own for extent, own in zip(x.shape[-3:], wanted, strict=True)])
    return _adapted(x, wanted, functional.adaptive_avg_pool2d)


def adapted_greatest(x: Tensor, wanted: Sequence[int]) -> tuple[Tensor, None]:
    """`aten::adaptive_max_pool3d`, without the indices."""
    return _adapted(x, wanted, functional.adaptive_max_pool2d), None


def _adapted(x: Tensor, wanted: Sequence[int], pooled: Any) -> Tensor:
    within = _apart_again(pooled(x.flatten(-4, -3), tuple(wanted[1:])), -3, x.shape[-4:-2])
    return _apart_again(pooled(within.flatten(-2), (wanted[0], math.prod(wanted[1:]))), -1, wanted[1:])


def _three(value: Any) -> list[int]:
    given = [value] if isinstance(value, int) else [int(extent) for extent in value]
    return given * 3 if len(given) == 1 else given
