"""Operations that compare the values of a row with each other, or take and put values at places that are values.

The place of a value in order is the number of values before it: those that are less, and those equal that stand before
it, as PyTorch's stable sort has them. What stands at a place is the sum over the row of the values times bits that are
1 at this place alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_MOST = 2**22  # comparisons or bits of an image, at most


def ordered(x: Tensor, dim: int = -1, descending: bool = False, *, stable: bool | None = None) -> tuple[Tensor, Tensor]:
    """`aten::sort`: values and places."""
    return _taken(x, dim, range(x.shape[dim]), descending=descending)


def greatest(x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Tensor, Tensor]:
    """`aten::topk`."""
    return _taken(x, dim, range(k), descending=largest)


def nth(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, ...]:
    """`aten::kthvalue`."""
    found = _taken(x, dim, range(k - 1, k), descending=False)
    return found if keepdim else tuple(part.squeeze(dim) for part in found)


def median(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, ...]:
    """`aten::median` over one dimension: of an even number, the lower of the two."""
    return nth(x, (x.shape[dim] + 1) // 2, dim, keepdim)


def _taken(x: Tensor, dim: int, places: Sequence[int], *, descending: bool) -> tuple[Tensor, Tensor]:
    """What stands at these places in order, and where it stood."""
    row = x.movedim(dim, -1)
    count = row.shape[-1]
    _check(row.numel() * count, f"puts {count} values in order, {row.numel() // len(x) // count} times for an image")
    apart = row.unsqueeze(-2) - row.unsqueeze(-1)  # [own, other]
    earlier = torch.ones(count, count, dtype=torch.bool).tril(-1)  # of equal ones
    before = torch.where(earlier, apart >= 0, apart > 0) if descending else torch.where(earlier, apart <= 0, apart < 0)
    rank = before.double().sum(-1)
    there = (rank.unsqueeze(-2) == torch.tensor(places).double().unsqueeze(-1)).double()  # [place, own]
    values = (row.unsqueeze(-2) * there).sum(-1)
    origins = torch.matmul(there, torch.arange(count).double().unsqueeze(-1)).squeeze(-1)
    return values.movedim(-1, dim), origins.movedim(-1, dim)


def gathered(x: Tensor, dim: int, index: Tensor, sparse_grad: bool = False) -> Tensor:
    """`aten::gather` at places that are values."""
    for axis in range(x.ndim):
        if axis != dim % x.ndim:
            x = x.narrow(axis, 0, index.shape[axis])
    row, places = x.movedim(dim, -1), index.movedim(dim, -1)
    return (row.unsqueeze(-2) * _bits(places, row.shape[-1])).sum(-1).movedim(-1, dim)


def scattered(x: Tensor, dim: int, index: Tensor, source: Any) -> Tensor:
    """`aten::scatter` to places that are values, each of them another."""
    row, places = x.movedim(dim, -1), index.movedim(dim, -1)
    if any(own < whole for own, whole in zip(places.shape[1:-1], row.shape[1:-1], strict=True)):
        raise ValueError("writes into parts of other dimensions, at places that depend on the image")
    bits = _bits(places, row.shape[-1])
    if not isinstance(source, Tensor) or not source.ndim:
        written = bits.amax(-2)
        return torch.where(written > 0, source, row).movedim(-1, dim)
    values = source.movedim(dim, -1)[tuple(slice(extent) for extent in places.shape)]
    written = (values.unsqueeze(-1) * bits).sum(-2)
    return (written + row * (1 - bits.amax(-2))).movedim(-1, dim)


def _bits(places: Tensor, size: int) -> Tensor:
    """1 where a place is the one of its column, (..., places, size); else 0."""
    _check(places.numel() * size, f"takes or writes values at {math.prod(places.shape[1:])} places of {size} each")
    return (places.unsqueeze(-1) == torch.arange(size).double()).double()


def _check(values: int, what: str) -> None:
    if values > 2 * _MOST:
        raise ValueError(f"{what}, with every comparison a value of the network: {_MOST:,} are supported")


def highest_so_far(x: Tensor, dim: int) -> tuple[Tensor, None]:
    """`aten::cummax`, without places."""
    return _so_far(x, dim, torch.maximum), None


def lowest_so_far(x: Tensor, dim: int) -> tuple[Tensor, None]:
    """`aten::cummin`, without places."""
    return _so_far(x, dim, torch.minimum), None


def product_so_far(x: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """`aten::cumprod`."""
    return _so_far(x, dim, torch.mul)


def _so_far(x: Tensor, dim: int, join: Any) -> Tensor:
    """Of each value and all before it, in steps that double how far they reach."""
    reach, extent = 1, x.shape[dim]
    while reach < extent:
        joined = join(x.narrow(dim, reach, extent - reach), x.narrow(dim, 0, extent - reach))
        x = torch.cat([x.narrow(dim, 0, reach), joined], dim)
        reach *= 2
    return x


def product(x: Tensor, dim: int, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """`aten::prod` over one dimension, of halves and their halves."""
    while (extent := x.shape[dim]) > 1:
        half = extent // 2
        joined = x.narrow(dim, 0, half) * x.narrow(dim, half, half)
        x = torch.cat([joined, x.narrow(dim, 2 * half, extent % 2)], dim) if extent % 2 else joined
    return x if keepdim else x.squeeze(dim)


def log_sum_so_far(x: Tensor, dim: int) -> Tensor:
    """`aten::logcumsumexp`: of each row, beside the greatest value in it."""
    row = x.movedim(dim, -1)
    most = _so_far(row, row.ndim - 1, torch.maximum)
    powers = torch.exp((row.unsqueeze(-2) - most.unsqueeze(-1)).clamp(max=0))
    seen = torch.ones(row.shape[-1], row.shape[-1]).tril()
    return (torch.log((powers * seen).sum(-1).clamp_min(1)) + most).movedim(-1, dim)


def unpooled(x: Tensor, places: Tensor, size: Sequence[int], *_: Any) -> Tensor:
    """`aten::max_unpool2d` and `max_unpool3d`, of windows that lie apart."""
    bits = _bits(places.flatten(2), math.prod(size))
    return (x.flatten(2).unsqueeze(-1) * bits).sum(-2).unflatten(-1, tuple(size))


def places_of_greatest(
    x: Tensor, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Tensor:
    """The places that `aten::max_pool2d_with_indices` gives: of each window's first value that is the greatest."""
    numbers = torch.arange(1, math.prod(x.shape[-2:]) + 1).double().reshape(1, 1, *x.shape[-2:])

    def pooled(values: Tensor) -> Tensor:
        return functional.max_pool2d(values, kernel, stride or None, padding, dilation, ceil_mode)

    # What lies in a window: the numbers whose own map gives something there.
    alone = torch.eye(numbers.numel()).double().reshape(-1, 1, *x.shape[-2:])
    inside = pooled(alone).flatten(1) > 0
    most = int(inside.sum(0).max())
    table = torch.stack([_padded(inside[:, window].nonzero().squeeze(1), most) for window in range(inside.shape[1])])
    seen = x.flatten(-2)[..., table.reshape(-1)].unflatten(-1, tuple(table.shape))
    first = (seen.argmax(-1).unsqueeze(-1) == torch.arange(most).double()).double()
    places = (first * table.double()).sum(-1)
    return places.unflatten(-1, tuple(pooled(numbers).shape[-2:]))


def _padded(places: Tensor, size: int) -> Tensor:
    return torch.cat([places, places[-1:].expand(size - len(places))])


def sampled(x: Tensor, grid: Tensor, *how: Any) -> Tensor:
    """`aten::grid_sampler_2d` and `3d` with a grid that is a constant: sums of few values, with its own weights."""
    op = torch.ops.aten.grid_sampler_2d if x.ndim == 4 else torch.ops.aten.grid_sampler_3d
    if not bool((grid == grid[:1]).all()):
        raise ValueError("samples each image at other places")
    size = math.prod(x.shape[2:])
    alone = torch.eye(size, dtype=torch.float64).reshape(1, size, *x.shape[2:])
    weights = op(alone, grid[:1], *how).reshape(size, -1)  # [place, sample]
    most = max(1, int((weights != 0).sum(0).max()))
    places = weights.abs().topk(most, 0).indices
    shares = weights.gather(0, places)
    padded = functional.pad(x.flatten(2), [0, 1])  # a 0, for samples outside
    taken = padded[..., torch.where(shares == 0, size, places).T.reshape(-1)].unflatten(-1, (-1, most))
    if most == 1 and bool((shares == 1).logical_or(shares == 0).all()):
        return taken.reshape(*x.shape[:2], *grid.shape[1:-1])
    return (taken * shares.T).sum(-1).reshape(*x.shape[:2], *grid.shape[1:-1])


def norm_of_order(x: Tensor, order: float, dim: Any, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """`aten::linalg_vector_norm` of any order above 0, or of 0: how many are not 0."""
    if math.isinf(order):
        return x.abs().amax(dim, keepdim) if order > 0 else x.abs().amin(dim, keepdim)
    if order == 0:
        return (x != 0).double().sum(dim, keepdim)
    if order < 0:
        raise ValueError(f"takes the norm of order {order:g}; orders above 0 are supported")
    return (x.abs() ** order).sum(dim, keepdim).clamp_min(0) ** (1 / order)
