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

from lava_meta.converters.recording.written_out import summed_at

_ALONE = 256  # places of a map whose weights are asked for at a time
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


def indexed(x: Tensor, places: Sequence[Tensor | None], *, by_image: bool) -> Tensor:
    """`aten::index` at places of which some are values: products of bits with the rows that they choose among.

    Args:
        x: What is taken from.
        places: For each dimension, or None where all of it is taken.
        by_image: Whether the first of them are the numbers of the images.
    """
    taken = [axis for axis, place in enumerate(places) if place is not None]
    chosen = torch.broadcast_tensors(*(place for place in places if place is not None))
    beside = taken == [*range(taken[0], taken[-1] + 1)]
    shape, images = chosen[0].shape, len(x) if by_image else 1
    if by_image:
        taken, chosen = taken[1:], chosen[1:]
    extents = [x.shape[axis] for axis in taken]
    strides = [math.prod(extents[i + 1 :]) for i in range(len(extents))]
    number = sum(place * stride for place, stride in zip(chosen, strides, strict=True))
    rest = [axis for axis in range(by_image, x.ndim) if axis not in taken]
    table = x.permute(*range(by_image), *taken, *rest).reshape(images, math.prod(extents), -1)
    found = torch.bmm(_bits(number.reshape(images, -1), math.prod(extents)), table)
    made = found.reshape(*shape, *(x.shape[axis] for axis in rest))
    first = taken[0] if beside and not by_image else 0
    return made.movedim([*range(len(shape))], [*range(first, first + len(shape))])


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


def put_at(x: Tensor, places: Sequence[Tensor | None], source: Tensor, accumulate: bool = False) -> Tensor:
    """`aten::index_put` of each row's own places, as in `x[torch.arange(len(x))[:, None], index] = 0`."""
    *rows, index = places
    grid = torch.broadcast_shapes(*(place.shape for place in places if place is not None))
    extents = x.shape[: len(rows)]
    for axis, row in enumerate(rows):
        own = torch.arange(extents[axis]).reshape(-1, *(1,) * (len(grid) - axis - 1))
        if row is None or grid[: len(rows)] != extents or not torch.equal(row.expand(grid), own.expand(grid)):
            raise ValueError("writes at places that depend on the image, of other rows than their own: use scatter")
    if index is None or len(grid) < len(rows):
        raise ValueError("writes at places that depend on the image: use torch.scatter")
    beside = (1,) * (x.ndim - len(places))
    bits = _bits(index.expand(grid).reshape(*extents, -1), x.shape[len(rows)])  # [..., places, own]
    bits = bits.reshape(*bits.shape, *beside)
    written = bits.amax(len(rows))
    if source.numel() == 1:
        return torch.where(written > 0, source.reshape(()), x)
    values = source.expand(*grid, *x.shape[len(places) :]).reshape(*extents, -1, 1, *x.shape[len(places) :])
    return (values * bits).sum(len(rows)) + x * (1 - written)


def added(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """`aten::scatter_add` at places that are values, of which several may be one."""
    if any(own < whole for own, whole in zip(index.shape[1:], x.shape[1:], strict=True) if own != index.shape[dim]):
        raise ValueError("adds to parts of other dimensions, at places that depend on the image")
    values = source.movedim(dim, -1)[tuple(slice(extent) for extent in index.movedim(dim, -1).shape)]
    bits = _bits(index.movedim(dim, -1), x.shape[dim])
    return x + (values.unsqueeze(-1) * bits).sum(-2).movedim(-1, dim)


def added_at(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """`aten::scatter_add` at places that are constants."""
    rows = index.movedim(dim, 0).reshape(index.shape[dim], -1)
    if source.shape == index.shape and bool((rows == rows[:, :1]).all()):
        return summed_at(x, dim, rows[:, 0], source)
    return added(x, dim, index, source)  # places that differ from feature to feature


def reduced_at(x: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True) -> Tensor:
    """`aten::scatter_reduce` and `index_reduce` at places that are constants, the same for all else."""
    rows = index.movedim(dim, 0).reshape(index.shape[dim], -1) if index.ndim > 1 else index.unsqueeze(1)
    if not bool((rows == rows[:, :1]).all()) or reduce not in _REDUCED:
        raise ValueError(f"reduces by {reduce}, or at places that differ from feature to feature")
    own = [(rows[:, 0] == target).nonzero().squeeze(1) for target in range(x.shape[dim])]
    count = torch.tensor([len(places) for places in own]).double()
    most = int(count.max())
    table = torch.stack([functional.pad(places, [0, most - len(places)]) for places in own])
    inside = torch.arange(most) < count.unsqueeze(1)
    taken = source.movedim(dim, -1)[..., table.reshape(-1)].unflatten(-1, (-1, most))
    before = x.movedim(dim, -1)
    join, none, over = _REDUCED[reduce]
    found = over(torch.where(inside, taken, none if math.isfinite(none) else taken[..., :1]))
    if include_self:
        found = join(before, found)
    if reduce == "mean":
        found = found / (count + include_self).clamp_min(1)
    return torch.where(count > 0, found, before).movedim(-1, dim)


_REDUCED: dict[str, tuple[Any, float, Any]] = {  # how two are joined, what changes nothing, how a row is
    "sum": (torch.add, 0.0, lambda row: row.sum(-1)),
    "mean": (torch.add, 0.0, lambda row: row.sum(-1)),
    "prod": (torch.mul, 1.0, lambda row: product(row, row.ndim - 1)),
    "amax": (torch.maximum, -math.inf, lambda row: row.amax(-1)),
    "amin": (torch.minimum, math.inf, lambda row: row.amin(-1)),
}


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
    return (x.flatten(2).unsqueeze(-1) * bits).sum(-2).reshape(*x.shape[:2], *size)


def places_of_greatest(
    x: Tensor, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Tensor:
    """The places that `aten::max_pool2d_with_indices` gives: of each window's first value that is the greatest."""
    size, step, padding, dilation = (_two(given) for given in (kernel, stride or kernel, padding, dilation))
    numbers = torch.arange(1, math.prod(x.shape[-2:]) + 1).double().reshape(1, 1, *x.shape[-2:])
    made = functional.max_pool2d(numbers, size, step, padding, dilation, ceil_mode).shape[-2:]
    reach = [(n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(made, step, dilation, size, strict=True)]
    after = [r - extent - p for r, extent, p in zip(reach, x.shape[-2:], padding, strict=True)]
    around = functional.pad(numbers, [padding[1], after[1], padding[0], after[0]])
    table = functional.unfold(around, size, dilation, 0, step)[0].T - 1  # [window, place in it], -1 outside
    table = torch.where(table < 0, table.amax(1, keepdim=True), table).sort(dim=1).values  # outside: the last again
    seen = x.flatten(-2)[..., table.long().reshape(-1)].reshape(*x.shape[:-2], *table.shape)
    first = (seen.argmax(-1).unsqueeze(-1) == torch.arange(table.shape[1]).double()).double()
    return (first * table).sum(-1).reshape(*x.shape[:-2], *made)


def _two(value: Any) -> tuple[int, ...]:
    given = (value,) if isinstance(value, int) else tuple(int(extent) for extent in value)
    return given * 2 if len(given) == 1 else given


def sampled(x: Tensor, grid: Tensor, *how: Any) -> Tensor:
    """`aten::grid_sampler_2d` and `3d` with a grid that is a constant: sums of few values, with its own weights."""
    if not bool((grid == grid[:1]).all()):
        raise ValueError("samples each image at other places")
    size, shape = math.prod(x.shape[2:]), (*x.shape[:2], *grid.shape[1:-1])
    place, sample, share = _shares(x.shape[2:], grid[:1], how)
    counts = torch.bincount(sample, minlength=math.prod(shape[2:]))
    nth = torch.arange(len(sample)) - (counts.cumsum(0) - counts)[sample]  # of its sample
    most = max(1, int(counts.max()))
    places = torch.full((len(counts), most), size)
    shares = torch.ones(len(counts), most, dtype=torch.float64)
    places[sample, nth], shares[sample, nth] = place, share
    padded = functional.pad(x.flatten(2), [0, 1])  # a 0, for what lies outside
    taken = padded[..., places.reshape(-1)].reshape(*x.shape[:2], *places.shape)
    if bool((shares == 1).all()):
        return taken.sum(-1).reshape(shape) if most > 1 else taken.reshape(shape)
    return (taken * shares).sum(-1).reshape(shape)


def _shares(extents: Sequence[int], grid: Tensor, how: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Place, sample and weight of all that a sample takes of a map, sample by sample."""
    op = torch.ops.aten.grid_sampler_2d if len(extents) == 2 else torch.ops.aten.grid_sampler_3d
    size = math.prod(extents)
    found = []
    for start in range(0, size, _ALONE):
        rows = torch.arange(start, min(start + _ALONE, size))
        alone = torch.zeros(1, len(rows), size, dtype=torch.float64)
        alone[0, rows - start, rows] = 1
        weights = op(alone.reshape(1, len(rows), *extents), grid, *how).reshape(len(rows), -1)
        near, sample = weights.nonzero().unbind(1)
        found.append(torch.stack([near + start, sample, weights[near, sample]]))
    place, sample, share = torch.cat(found, 1)
    order = torch.argsort(sample, stable=True)
    return place[order].long(), sample[order].long(), share[order]


def norm_of_order(x: Tensor, order: float, dim: Any, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """`aten::linalg_vector_norm` of any order above 0, or of 0: how many are not 0."""
    if math.isinf(order):
        return x.abs().amax(dim, keepdim) if order > 0 else x.abs().amin(dim, keepdim)
    if order == 0:
        return (x != 0).double().sum(dim, keepdim)
    if order < 0:
        raise ValueError(f"takes the norm of order {order:g}; orders above 0 are supported")
    return (x.abs() ** order).sum(dim, keepdim).clamp_min(0) ** (1 / order)
