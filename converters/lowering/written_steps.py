"""Operations as the simpler ones of which they are made, written when they are lowered.

The run that is recorded, and that which the self-check compares with, carry the operations out as PyTorch does. (What
must be written out in these runs already is in `lava_meta.converters.recording.written_out`.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lava_meta.converters.lowering import written_orders as orders
from lava_meta.converters.lowering import written_volumes as volumes
from lava_meta.converters.recording.steps import Ref, Step


def _std_mean(x: Tensor, dim: Any = None, *, correction: Any = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    return x.std(dim, correction=correction, keepdim=keepdim), x.mean(dim, keepdim)


def _var_mean(x: Tensor, dim: Any = None, *, correction: Any = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    return x.var(dim, correction=correction, keepdim=keepdim), x.mean(dim, keepdim)


def _filled_at(x: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    here = (torch.arange(x.shape[dim]).unsqueeze(1) == index.reshape(-1)).any(1)
    return torch.where(here.reshape([-1 if axis == dim % x.ndim else 1 for axis in range(x.ndim)]), value, x)


def _clamped(x: Tensor, min: Any = None, max: Any = None) -> Tensor:
    above = x if min is None else torch.maximum(x, torch.as_tensor(min))
    return above if max is None else torch.minimum(above, torch.as_tensor(max))


def _log_added(a: Tensor, b: Tensor) -> Tensor:
    return torch.maximum(a, b) + torch.log1p(torch.exp(-(a - b).abs()))


def _cross(a: Tensor, b: Tensor, *, dim: int = -1) -> Tensor:
    return a.roll(-1, dim) * b.roll(-2, dim) - a.roll(-2, dim) * b.roll(-1, dim)


def _over_time(x: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> Tensor:
    """`aten::conv_tbc`, of (time, images, channels)."""
    rows = x.permute(1, 2, 0)
    return torch.nn.functional.conv1d(rows, weight.permute(2, 1, 0), bias, padding=pad).permute(2, 0, 1)


def of_bits(a: Tensor, b: Tensor, join: Callable[[Tensor], Tensor], least: float, most: float) -> Tensor:
    """`a & b` and the like of integers between two ends, bit by bit, with a bit of the sign if there are negative ones.

    `join`: what becomes of two bits, of which so many are 1.
    """
    width = max(int(most), int(-least - 1)).bit_length() + (least < 0)
    places = 2.0 ** torch.arange(width, dtype=torch.float64)
    one, other = (torch.remainder(torch.floor(x.unsqueeze(-1) / places), 2) for x in (a, b))
    values = torch.where(torch.arange(width) == width - 1, -places, places) if least < 0 else places
    return (join(one + other).double() * values).sum(-1)


WRITTEN: dict[str, Callable[..., Any]] = {
    "max_pool3d_with_indices": volumes.greatest,
    "avg_pool3d": volumes.averaged,
    "_adaptive_avg_pool3d": volumes.adapted_mean,
    "adaptive_max_pool3d": volumes.adapted_greatest,
    "median": orders.median,
    "cummax": orders.highest_so_far,
    "cummin": orders.lowest_so_far,
    "cumprod": orders.product_so_far,
    "prod": orders.product,
    "logcumsumexp": orders.log_sum_so_far,
    "max_unpool2d": orders.unpooled,
    "max_unpool3d": orders.unpooled,
    "any": lambda x, *over, **named: (x != 0).double().amax(*over, **named) > 0,
    "all": lambda x, *over, **named: (x != 0).double().amin(*over, **named) > 0,
    "count_nonzero": lambda x, *over: (x != 0).double().sum(*over),
    "nansum": lambda x, *over, **named: x.sum(*over, **named),
    "aminmax": lambda x, *, dim, keepdim=False: (x.amin(dim, keepdim), x.amax(dim, keepdim)),
    "std_mean": _std_mean,
    "var_mean": _var_mean,
    "index_fill": _filled_at,
    "linalg_cross": _cross,
    "conv_tbc": _over_time,
    "floor_divide": lambda a, b: torch.floor(a / b),
}

_SHIFTS = {"__rshift__", "bitwise_right_shift"}

JOINED: dict[str, Callable[..., Any]] = {  # of values of several nodes; of one, they are functions of it
    "addcmul": lambda x, a, b, *, value=1: x + a * b * value,
    "addcdiv": lambda x, a, b, *, value=1: x + a / b * value,
    "lerp": lambda a, b, share: a + (b - a) * share,
    "clamp": _clamped,
    "clamp_min": lambda x, least: torch.maximum(x, least),
    "clamp_max": lambda x, most: torch.minimum(x, most),
    "masked_fill": lambda x, mask, value: torch.where(mask != 0, value, x),
    "rsub": lambda a, b, alpha=1: b - a * alpha,
    "remainder": lambda a, b: a - b * torch.floor(a / b),
    "fmod": lambda a, b: a - b * torch.trunc(a / b),
    "fmax": torch.maximum,
    "fmin": torch.minimum,
    "copysign": lambda a, b: a.abs() * torch.where(b >= 0, 1.0, -1.0),
    "xlogy": lambda a, b: a * torch.log(b),
    "hypot": lambda a, b: torch.sqrt(a * a + b * b),
    "logaddexp": _log_added,
}


def equation_of(step: Step) -> Callable[..., Any] | None:
    """What an operation is written out as, whatever it takes; None if it is lowered as it is."""
    if step.name == "div" and step.kwargs.get("rounding_mode"):
        return lambda a, b, *, rounding_mode: getattr(torch, rounding_mode)(a / b)  # `floor` or `trunc`
    if step.name in _SHIFTS and not isinstance(step.args[1], Ref):
        return lambda a, bits: torch.floor(a / 2**bits)
    return WRITTEN.get(step.name)


def grouped_product(images: int, a: Tensor, b: Tensor) -> Tensor:
    """`aten::bmm` of values with a constant matrix for each of several groups, the same for each image."""
    groups, count = len(a) // images, a.shape[1]
    rows = a.reshape(images, groups, count, -1).transpose(2, 3).flatten(1, 2).unsqueeze(2)
    kernels = b[:groups].transpose(1, 2).flatten(0, 1)[:, :, None, None]
    made = torch.nn.functional.conv2d(rows, kernels, groups=groups)
    return made.reshape(images, groups, -1, count).transpose(2, 3).flatten(0, 1)


def scaled_sum(x: Any, a: Tensor, b: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """`aten::addmm` and `aten::baddbmm`."""
    found: Tensor = x * beta + torch.matmul(a, b) * alpha
    return found
