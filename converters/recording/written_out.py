"""Operations as the equations that they stand for, where PyTorch has them for other types than float64 alone, or whole.

They are carried out inside the mode that asks for them, which sees each operation of the equation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only


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


def summed_at(x: Tensor, dim: int, index: Tensor, source: Tensor, alpha: float = 1) -> Tensor:
    """`x` and the parts of `source` added at places of one dimension: a product with a matrix of 0 and 1."""
    places = (index.unsqueeze(1) == torch.arange(x.shape[dim])).to(source.dtype)
    moved = source.movedim(dim, -1)
    summed = torch.mm(moved.reshape(-1, len(index)), places).reshape(*moved.shape[:-1], x.shape[dim])
    return x + alpha * summed.movedim(-1, dim)


def _in_place(equation: Callable[..., Any]) -> Callable[..., Any]:
    def written(x: Tensor, *given: Any, **options: Any) -> Any:
        made = equation(x, *given, **options)
        return made if made is NotImplemented else x.copy_(made)

    return written


def _trilinear(*given: Any) -> Tensor:
    """`sum(a b c)` over some dimensions, with new ones in each: `nn.Bilinear`."""
    parts = []
    for part, dims in zip(given[:3], given[3:6], strict=True):
        for dim in sorted(dims):
            part = part.unsqueeze(dim)
        parts.append(part)
    found: Tensor = (parts[0] * parts[1] * parts[2]).sum(given[6])
    return found


def _rrelu(x: Tensor, noise: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, *training: Any) -> Any:
    """Of `nn.RReLU` in eval mode, which draws nothing though it could."""
    return NotImplemented if any(training) else torch.nn.functional.leaky_relu(x, (lower + upper) / 2)


def _bags(weight: Tensor, indices: Tensor, offsets: Tensor, *given: Any) -> Any:
    """Sums, means or maxima of rows of a table, in bags of one length."""
    defaults: list[Any] = [False, 0, False, None]
    mode, weights = [*given, *defaults[len(given) :]][1:4:2]
    if len(indices) % len(offsets) or weights is not None:
        return NotImplemented
    rows = torch.embedding(weight, indices).reshape(len(offsets), -1, weight.shape[1])
    found = rows.amax(1) if mode == 2 else rows.mean(1) if mode == 1 else rows.sum(1)
    return found, *(torch.zeros(0),) * 3


def _distances(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: Any = None) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p, -1)
    return found


def _one_hot(x: Tensor, num_classes: int = -1) -> Any:
    """Bits, without a look at the numbers; unless these decide how many bits there are."""
    return NotImplemented if num_classes < 0 else (x.unsqueeze(-1) == torch.arange(num_classes)).long()


class Functions(TorchFunctionMode):
    """Inside, functions that do what depends on the number of images, or on their values, are equations."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        equation = _FUNCTIONS.get(func)
        found = NotImplemented if equation is None else equation(*args, **(kwargs or {}))
        if found is not NotImplemented:
            return found
        try:
            return func(*args, **(kwargs or {}))
        except RuntimeError:  # of types that differ, where PyTorch asks before it tells of the operation, as in `prelu`
            wide = tree_map_only(Tensor, _as_wide, (args, kwargs or {}))
            if tree_map_only(Tensor, _type, wide) == tree_map_only(Tensor, _type, (args, kwargs or {})):
                raise
            return func(*wide[0], **wide[1])


def _as_wide(part: Tensor) -> Tensor:
    return part.double() if part.is_floating_point() else part


def _type(part: Tensor) -> torch.dtype:
    return part.dtype


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
    "index_add": summed_at,
    "index_add_": _in_place(summed_at),
    "mv": lambda matrix, x: torch.mm(matrix, x.unsqueeze(1)).squeeze(1),
    "_trilinear": _trilinear,
    "rrelu_with_noise": _rrelu,
    "_embedding_bag": _bags,
    "_embedding_bag_forward_only": _bags,
}
SUMS_AT_PLACES = frozenset({"index_add", "index_add_", "scatter_add", "scatter_add_"})
_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    torch.cdist: _distances,
    torch.nn.functional.one_hot: _one_hot,
    torch.linalg.multi_dot: lambda matrices, **_: reduce(torch.matmul, matrices),  # in an order that sizes decide
}
