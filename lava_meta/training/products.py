"""The three products of a binary layer's training step, each in the fastest form that the processor has.

    sums       s = W x          exact integers
    back       W^T d            d real
    outer      d^T x            the gradient of W

`Bytes` multiplies signed bytes (oneDNN, on VNNI or AMX) into exact integers and gradients as pairs of bytes
(`lava_meta.training.backward`), and the outer product in bfloat16: x (signs, or whole levels up to 256) is exact in it,
d is rounded to 8 bits, its sum over the batch kept to 16. `Bits` is `Bytes`, except for signs from signs:
it packs 64 of them to a word and counts bits (AVX-512 VPOPCNTDQ), to the same integers. `Tables`, on other processors,
counts bits as well and takes gradients, and sums of pixels, by tables of sums in float32
(`lava_meta.training.by_tables`). `Floats` does everything in PyTorch's float32. Which one is used depends on the
processor's features alone, so that a run goes on as it began.

Binary weights lie in memory once, as the operand itself; the optimizer's pass writes them there.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lava_meta.graph.bits import pack
from lava_meta.graph.packed import loops
from lava_meta.jit import compiles_for
from lava_meta.optim.threads import in_parts
from lava_meta.training import backward, by_tables
from lava_meta.training.by_tables import ONE_PIXEL, as_image

PIXEL_SHIFT = 128  # pixels 0 .. 255 as signed bytes


def form() -> type[Floats]:
    """The form for this processor."""
    if not compiles_for("avx512vnni") or not (compiles_for("avx512bf16") or compiles_for("amx-bf16")):
        return Tables
    return Bits if compiles_for("avx512vpopcntdq") else Bytes


class Floats:
    """One layer's products in float32. signs: the binary weights (units, inputs); gradient: what `outer` writes."""

    weight_type = signs_type = gradient_type = torch.float32

    def __init__(self, units: int, inputs: int) -> None:
        self.signs = torch.empty(units, inputs, dtype=self.signs_type)
        self.gradient = torch.empty(units, inputs, dtype=self.gradient_type)

    def sums_of_pixels(self, pixels: Tensor, offset: int) -> Tensor:
        """W (p - offset), float32 (n, units). pixels: uint8 (n, inputs)."""
        return (pixels.to(torch.float32) - offset) @ self.signs.T

    def sums(self, x: Tensor, *, signs: bool = True) -> Tensor:
        """W x, whole numbers (n, units). x: +1 and -1, or without `signs` 0 and 1, (n, inputs) in `signs_type`."""
        return x @ self.signs.T

    def back(self, d: Tensor, y: Tensor, window: float, factor: float) -> Tensor:
        """Compute factor * (d W) where |y| <= window, else 0.

        d: float32 (n, units); y and the result: float32 (n, inputs).
        """
        return torch.where(y.abs() <= window, (d @ self.signs) * factor, 0.0)

    def outer(self, d: Tensor, x: Tensor, offset: int | None = None) -> None:
        """`gradient` = d^T x, for signs x or, with an offset, pixels."""
        x = x.to(torch.float32)
        torch.mm(d.T, x if offset is None else x - offset, out=self.gradient)


class Bytes(Floats):
    """One layer's products in bytes and bfloat16."""

    signs_type = torch.int8
    gradient_type = torch.bfloat16

    def _times_weights(self, x: Tensor) -> Tensor:
        """W x, int32 (n, units). x: int8 (n, inputs)."""
        # A transposed matrix of one column has both strides 1, for which torch._int_mm leaves its result unwritten.
        transposed = self.signs.T if self.signs.shape[1] > 1 else self.signs.view(1, -1)
        return torch._int_mm(x, transposed)

    def sums_of_pixels(self, pixels: Tensor, offset: int) -> Tensor:
        # W (p - c) = W (p - 128) + (128 - c) W 1, with W 1 from a row of ones: also exact.
        shifted = torch.ones(len(pixels) + 1, pixels.shape[1], dtype=torch.int8)
        torch.bitwise_xor(pixels, PIXEL_SHIFT, out=shifted[:-1].view(torch.uint8))
        sums = self._times_weights(shifted)
        return sums[:-1].add_(sums[-1], alpha=PIXEL_SHIFT - offset)

    def sums(self, x: Tensor, *, signs: bool = True) -> Tensor:
        return self._times_weights(x)

    def back(self, d: Tensor, y: Tensor, window: float, factor: float) -> Tensor:
        digits, scales = torch.empty(2 * len(d), d.shape[1], dtype=torch.int8), torch.empty(len(d))
        backward.split_rows(d.numpy(), digits.numpy(), scales.numpy())
        products = torch._int_mm(digits, self.signs)
        out = torch.empty_like(y)
        backward.join_rows(
            products.numpy(), scales.numpy(), y.numpy(), np.float32(window), np.float32(factor), out.numpy()
        )
        return out

    def outer(self, d: Tensor, x: Tensor, offset: int | None = None) -> None:
        n = len(d)
        left, right = (torch.empty(n + 2, y.shape[1], dtype=torch.bfloat16) for y in (d, x))
        left[:n], right[:n] = d, x
        if offset is not None:
            right[:n] -= offset
        # What rounding takes from d comes back times the mean input. It must: where an input never changes, the
        # gradients of a batch norm cancel to nothing, and what is left of rounding Adam would scale to full steps.
        lost = (d - left[:n]).sum(dim=0)
        left[n] = lost
        left[n + 1] = lost - left[n]
        right[n:] = right[:n].to(torch.float32).mean(dim=0)
        torch.mm(left.T.contiguous(), right, out=self.gradient)


class Bits(Bytes):
    """As `Bytes`, with the sums of signs counted on packed bits."""

    def sums(self, x: Tensor, *, signs: bool = True) -> Tensor:
        if len(self.signs) < loops.BLOCK or not signs:
            return super().sums(x)
        return _counted(self.signs, x)


class Tables(Floats):
    """One layer's products by counted bits and by tables of sums; the gradient of pixels' weights as in `Floats`."""

    signs_type = torch.int8

    def sums_of_pixels(self, pixels: Tensor, offset: int) -> Tensor:
        return by_tables.sums_of_levels(pixels.to(torch.float32) - offset, self.signs)

    def sums(self, x: Tensor, *, signs: bool = True) -> Tensor:
        if signs:
            return _counted(self.signs, x)
        sums = _counted(self.signs, torch.cat([x * 2 - 1, torch.ones_like(x[:1])]))
        return sums[:-1].add_(sums[-1]).div_(2, rounding_mode="floor")  # W b = (W (2 b - 1) + W 1) / 2, whole

    def back(self, d: Tensor, y: Tensor, window: float, factor: float) -> Tensor:
        out = torch.empty(y.shape)
        by_tables.back(as_image(d), as_image(self.signs), ONE_PIXEL, as_image(out))
        return torch.where(y.abs() <= window, out.mul_(factor), 0.0)

    def outer(self, d: Tensor, x: Tensor, offset: int | None = None) -> None:
        if offset is not None:
            super().outer(d, x, offset)
            return
        low = min(int(x.min()), 0)  # signs, or units of 0 and 1
        bits = (x > 0).view(torch.uint8)
        by_tables.outer(as_image(d), as_image(bits), low, ONE_PIXEL, as_image(self.gradient))


class Dropped(Tables):
    """As `Tables`, of inputs of which some are 0 instead of a sign: these are no bits."""

    def sums(self, x: Tensor, *, signs: bool = True) -> Tensor:
        return by_tables.sums_of_levels(x.to(torch.float32), self.signs)

    def outer(self, d: Tensor, x: Tensor, offset: int | None = None) -> None:
        Floats.outer(self, d, x, offset)


def _counted(signs: Tensor, x: Tensor) -> Tensor:
    """W x, int32 (n, units), by counting bits. signs: int8 (units, inputs); x: +1 and -1, int8 (n, inputs)."""
    by_tables.check_inputs(x, signs)
    units, inputs = signs.shape
    sums = torch.empty(len(x), units, dtype=torch.int32)
    weights, packed, out = signs.numpy(), pack(x.numpy() > 0), sums.numpy()
    in_parts(
        lambda start, end: loops.sums_of_signs(weights, packed, start // inputs, end // inputs, out),
        weights.size,
        align=loops.BLOCK * inputs,
    )
    return sums
