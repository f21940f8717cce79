"""Operations as the equations that they stand for, where PyTorch has them for other types than float64 alone, or whole.

They are carried out inside the mode that asks for them, which sees each operation of the equation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def _fake_quantized(x: Tensor, scale: Any, zero_point: Any, least: int, most: int) -> tuple[Tensor, Tensor]:
    """`(clamp(round(x / scale) + z, least, most) - z) scale`, and a mask for gradients, which nobody asks for."""
    whole = torch.round(x * (1 / scale)) + zero_point
    return (torch.clamp(whole, least, most) - zero_point) * scale, torch.ones((), dtype=torch.bool)


def _per_channel(
    x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, least: int, most: int, *_: Any
) -> tuple[Tensor, Tensor]:
    shape = [1] * x.ndim
    shape[axis] = -1
    return _fake_quantized(x, scale.reshape(shape), zero_point.reshape(shape), least, most)


def _switched(
    x: Tensor, scale: Tensor, zero_point: Tensor, enabled: Tensor, least: int, most: int
) -> tuple[Tensor, Tensor]:
    if not bool(enabled):
        return x.clone(), torch.ones((), dtype=torch.bool)
    return _fake_quantized(x, scale, zero_point, least, most)


def _observed(x: Tensor, observes: Tensor, enabled: Tensor, *given: Any) -> tuple[Tensor, Tensor]:
    """Of an observer that is off, as `unwrapping.check_given` asks for."""
    _, _, scale, zero_point, _, least, most, axis, *per_channel = given
    if per_channel and per_channel[0] and bool(enabled):
        return _per_channel(x, scale, zero_point, axis, least, most)
    return _switched(x, scale, zero_point, enabled, least, most)


def _distances(a: Tensor, b: Tensor, order: float, _: Any = None) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(a.unsqueeze(-2) - b.unsqueeze(-3), order, -1)
    return found


def whole_numbers(func: Any, args: Any) -> Any:
    """The arguments of an operation; an embedding's numbers of rows as integers, though images are floats."""
    if func is torch.ops.aten.embedding.default and args[1].is_floating_point():
        return (args[0], args[1].long(), *args[2:])
    return args


EQUATIONS: dict[str, Callable[..., Any]] = {
    "fake_quantize_per_tensor_affine_cachemask": _fake_quantized,
    "fake_quantize_per_channel_affine_cachemask": _per_channel,
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams": _switched,
    "_fake_quantize_learnable_per_tensor_affine": lambda x, scale, zero_point, least, most, *_: _fake_quantized(
        x, scale, torch.round(zero_point).clamp(least, most), least, most
    )[0],
    "_fake_quantize_learnable_per_channel_affine": lambda x, scale, zero_point, axis, least, most, *_: _per_channel(
        x, scale, torch.round(zero_point).clamp(least, most), axis, least, most
    )[0],
    "_fused_moving_avg_obs_fq_helper": _observed,
    "_cdist_forward": _distances,
}
