"""The gradients of a binary layer, and sums of levels, by `lava_meta.training.tables` on torch's threads.

A dense layer is a convolution of images of one pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lava_meta.graph.conv import Window
from lava_meta.graph.packed.sums import fields
from lava_meta.optim.threads import in_parts
from lava_meta.training import tables
from lava_meta.training.tables import BITS, LANES

ONE_PIXEL = Window((1, 1))  # what a dense layer sees of an image


def as_image(x: Tensor) -> Tensor:
    """(n, inputs) as images of one pixel."""
    return x[:, :, None, None]


def check_inputs(x: Tensor, signs: Tensor) -> None:
    """Raise `RuntimeError`, as PyTorch does, if x (n, inputs) does not fit signs (units, inputs).

    What is compiled would read past the end of one of them.
    """
    if x.dim() != 2 or x.shape[1] != signs.shape[1]:
        raise RuntimeError(f"inputs {(*x.shape,)} and weights {(*signs.shape,)}: the shapes cannot be multiplied")


def back(d: Tensor, signs: Tensor, window: Window, out: Tensor) -> Tensor:
    """The gradient of the input, into `out`, float32 (n, channels, height, width).

    d: float32 (n, units, rows, columns), that of the sums; signs: int8 (units, channels, *kernel), +1 and -1.
    """
    return _times_signs(d, _indices(signs.flatten(2).permute(0, 2, 1)), window, out)


def sums_of_levels(x: Tensor, signs: Tensor) -> Tensor:
    """W x, float32 (n, units), exact for whole numbers. x: float32 (n, inputs); signs: int8 (units, inputs)."""
    check_inputs(x, signs)
    sums = torch.empty(len(x), len(signs))
    index = np.packbits(signs.numpy() > 0, axis=1, bitorder="little").T
    _times_signs(as_image(x), np.ascontiguousarray(index)[:, None], ONE_PIXEL, as_image(sums))
    return sums


def _times_signs(d: Tensor, index: NDArray[Any], window: Window, out: Tensor) -> Tensor:
    last = out.contiguous(memory_format=torch.channels_last)  # itself, if it is
    given, made = (x.permute(0, 2, 3, 1).numpy() for x in (d.contiguous(memory_format=torch.channels_last), last))
    arrays = given, index, fields(window)
    blocks, work = -(-len(d) // LANES), LANES * BITS * d[0].numel() * index[0].size
    shared(lambda begin, end: tables.back(*arrays, begin, end, made), blocks, work)
    return out if last is out else out.copy_(last)


def outer(d: Tensor, bits: Tensor, low: int, window: Window, out: Tensor) -> None:
    """The gradient of the weights, into `out`, float32 (units, channels, *kernel).

    d: as for `back`; bits: uint8 (n, channels, height, width), 1 for an input of 1 and 0 for one of `low`.
    """
    units = d.shape[1]
    blocks = -(-units // LANES)
    given = functional.pad(d.permute(0, 2, 3, 1), (0, blocks * LANES - units)).contiguous().numpy()
    arrays = given, _indices(bits.permute(0, 2, 3, 1)), np.float32(low), fields(window)
    made = out.flatten(2).numpy()
    work = LANES * d[:, 0].numel() * out[0].numel()
    shared(lambda begin, end: tables.outer(*arrays, begin, end, made), blocks, work)


def shared(function: Callable[[int, int], bool], parts: int, products: int) -> None:
    """`function(begin, end)` over 0 .. parts on torch's threads. products: multiplications of a part."""
    size = max(1, products // BITS)
    in_parts(lambda start, end: function(start // size, -(-end // size)), parts * size, align=size)


def _indices(values: Tensor) -> NDArray[Any]:
    """Of tables, uint8 (groups, ...): bit i of group g is values[8 g + i] > 0. values: bytes (n, ...)."""
    joined = np.zeros((-(-len(values) // BITS), *values.shape[1:]), np.uint8)
    tables.indices(values.flatten(1).numpy().view(np.int8), joined.reshape(len(joined), -1))
    return joined
