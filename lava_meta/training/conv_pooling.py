"""Means of 2x2 where the rows of each map lie together: torch's own passes are several times slower there."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lava_meta.jit import njit
from lava_meta.optim.threads import in_parts

_F = np.float32
_options: dict[str, Any] = {"error_model": "numpy", "nogil": True, "cache": True}


def fits(pool: nn.Module) -> bool:
    """Whether this is `nn.AvgPool2d(2)`."""
    return (
        type(pool) is nn.AvgPool2d
        and {pool.kernel_size, pool.stride} <= {2, (2, 2)}
        and pool.padding in (0, (0, 0))
        and not (pool.ceil_mode or pool.divisor_override)
    )


class MeanPool(torch.autograd.Function):
    """`nn.AvgPool2d(2)` of a contiguous (n, channels, rows, columns) on the CPU, to the same bits."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        n, channels, rows, columns = ctx.shape = x.shape
        out = torch.empty(n, channels, rows // 2, columns // 2)
        _over_maps(_mean, x, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Tensor:
        d = torch.empty(ctx.shape)
        _over_maps(_spread, d, grads[0].contiguous())
        return d


def _over_maps(function: Any, image: Tensor, pooled: Tensor) -> None:
    maps = [tensor.detach().flatten(0, 1).numpy() for tensor in (image, pooled)]
    each = maps[0][0].size
    in_parts(
        lambda start, end: function(*(array[start // each : end // each] for array in maps)),
        image.numel(),
        align=each,
    )


@njit(**_options)
def _mean(image, pooled):  # type: ignore[no-untyped-def]
    """The mean of each window; `image` and `pooled` are (maps, rows, columns)."""
    for i in range(len(image)):
        for j in range(pooled.shape[1]):
            above, below, means = image[i, 2 * j], image[i, 2 * j + 1], pooled[i, j]
            for k in range(means.size):
                total = above[2 * k] + above[2 * k + 1] + below[2 * k] + below[2 * k + 1]
                means[k] = total * _F(0.25)
    return True


@njit(**_options)
def _spread(image, pooled):  # type: ignore[no-untyped-def]
    """The gradient of `image`, given that of `pooled`."""
    for i in range(len(image)):
        for j in range(pooled.shape[1]):
            above, below, means = image[i, 2 * j], image[i, 2 * j + 1], pooled[i, j]
            for k in range(means.size):
                value = means[k] * _F(0.25)
                above[2 * k] = above[2 * k + 1] = below[2 * k] = below[2 * k + 1] = value
        image[i, 2 * pooled.shape[1] :] = _F(0)
        image[i, :, 2 * pooled.shape[2] :] = _F(0)
    return True
