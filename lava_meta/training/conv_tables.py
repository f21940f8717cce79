"""The products of a binary convolution's training step on processors that multiply neither bytes nor bfloat16.

Sums are those of packed signs (`lava_meta.graph.packed.sums`), gradients products by tables in float32
(`lava_meta.training.by_tables`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lava_meta.graph.bits import pack
from lava_meta.graph.conv import Window
from lava_meta.graph.packed.sums import SignSums
from lava_meta.nn import BinaryConv2d
from lava_meta.training import by_tables
from lava_meta.training.conv_products import ConvFloats


class ConvTables(ConvFloats):
    """One layer's products, of one group."""

    def __init__(self, layer: BinaryConv2d, *, signs: bool = True) -> None:
        super().__init__(layer, signs=signs)
        places: Any = layer.kernel_size, layer.stride, layer.padding, layer.dilation
        self._window = Window(*places)
        self._kernels: dict[tuple[int, int], SignSums] = {}  # by rows and columns of an image

    def sums(self, bits: Tensor) -> Tensor:
        self.check(bits)
        n, _, rows, columns = bits.shape
        kernel = self._kernel(rows, columns)
        x = bits.permute(0, 2, 3, 1).numpy()
        if not self.of_signs:  # W * b = (W * (2 b - 1) + W * 1) / 2, with W * 1 from one more image
            x = np.concatenate([x, np.ones_like(x[:1])])
        packed = pack(x)
        sums = torch.empty(len(x), *kernel.places, kernel.units)
        out = sums.numpy()

        def some(begin: int, end: int) -> bool:
            out[begin:end] = kernel.sums(packed[begin:end])
            return True

        by_tables.shared(some, len(x), bits[0].numel() * kernel.units)
        sums = sums.permute(0, 3, 1, 2)
        return sums if self.of_signs else sums[:n].add_(sums[n]).mul_(0.5)

    def backward(self, d: Tensor, bits: Tensor, out: Tensor) -> Tensor:
        d = d.contiguous(memory_format=torch.channels_last)
        low = -1 if self.of_signs else 0
        by_tables.outer(d, bits, low, self._window, self.gradient)
        return by_tables.back(d, self.signs, self._window, out)

    def _kernel(self, rows: int, columns: int) -> SignSums:
        """For images of this size, with the present signs."""
        positive = self.signs.numpy() > 0
        kernel = self._kernels.get((rows, columns))
        if kernel is None:
            kernel = self._kernels[rows, columns] = SignSums(positive, self._window, (rows, columns))
        else:
            kernel.take(positive)
        return kernel
