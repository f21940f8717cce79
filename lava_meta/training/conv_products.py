"""The three products of a binary convolution's training step, each in the fastest form that the processor has.

    sums       s = W * x                             exact integers
    back       the gradient of x, from d = ds
    outer      the gradient of W, from d and x

`ConvBytes`, on processors with VNNI or AMX, takes products of bytes (oneDNN) for the sums: x as bits b, of which
W * (2 b - 1) = 2 (W * b) - W * 1 gives the sums of signs, inside the image and at its zero padding; W * 1 comes from
one more image. Units of 0 and 1 are their bits. Both gradients are products of bfloat16: signs are exact in it; d is
rounded to 8 bits, and so are both results, whose sums have float32. As for `lava_meta.training.products.Bytes`, the sum
of d over the batch keeps 16 bits.

`lava_meta.training.conv_tables` has the form of other processors. `ConvFloats` does everything in PyTorch's float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional, grad

from lava_meta.nn import BinaryConv2d
from lava_meta.optim.threads import torch_threads
from lava_meta.training import products

_LAST = torch.channels_last


def has_bytes() -> bool:
    """Whether this processor and this torch multiply bytes and bfloat16."""
    return issubclass(products.form(), products.Bytes) and hasattr(torch.ops.onednn, "qconv2d_pointwise")


class ConvFloats:
    """One layer's products. signs: the binary weights, of the layer's shape; gradient: that of W after `backward`.

    Of signs +1 and -1, or without `signs` of units of 0 and 1.
    """

    signs_type = torch.int8
    gradient_type = torch.float32

    def __init__(self, layer: BinaryConv2d, *, signs: bool = True) -> None:
        self.of_signs = signs
        self.signs = torch.empty(layer.weight.shape, dtype=self.signs_type)
        self.gradient = torch.empty(layer.weight.shape, dtype=self.gradient_type)
        assert not isinstance(layer.padding, str)
        self.place = list(layer.stride), list(layer.padding), list(layer.dilation), layer.groups

    def sums(self, bits: Tensor) -> Tensor:
        """W * x, whole numbers in float32 (n, units, rows, columns).

        bits: uint8 (n, channels, rows, columns), channels last; 1 for +1 or 1.
        """
        return functional.conv2d(self._units(bits), self.signs.to(torch.float32), None, *self.place)

    def backward(self, d: Tensor, bits: Tensor, out: Tensor) -> Tensor:
        """Take `gradient`, and into `out` that of x, from d, the gradient of `sums(bits)`."""
        x = self._units(bits)
        self.gradient.copy_(grad.conv2d_weight(x, self.signs.shape, d, *self.place))
        return out.copy_(grad.conv2d_input(x.shape, self.signs.to(torch.float32), d, *self.place))

    def check(self, bits: Tensor) -> None:
        """Raise `RuntimeError`, as `ConvFloats.sums` does, if the channels of `bits` are not the layer's."""
        channels = self.signs.shape[1] * self.place[3]
        if bits.shape[1] != channels:
            raise RuntimeError(f"inputs {(*bits.shape,)} have {bits.shape[1]} channels, the weights {channels}")

    def _units(self, bits: Tensor) -> Tensor:
        return bits * 2.0 - 1.0 if self.of_signs else bits.to(torch.float32)


class ConvBytes(ConvFloats):
    """One layer's products in bytes and bfloat16."""

    gradient_type = torch.bfloat16

    def sums(self, bits: Tensor) -> Tensor:
        self.check(bits)
        n, units = len(bits), len(self.signs)
        x = _empty(n + 1, bits, torch.uint8)
        x[:n], x[n] = bits, 1
        (down, across), padding, dilation, groups = self.place
        narrow = x.shape[3] + 2 * padding[1] - dilation[1] * (self.signs.shape[3] - 1) <= across
        stride = [down, 1 if narrow else across]  # oneDNN miscounts strides towards a result of one column
        one, none = torch.ones(units), torch.zeros(units, dtype=torch.int32)
        onednn: Any = torch.ops.onednn
        weight = onednn.qconv_prepack(self.signs, one, 1.0, 0, stride, padding, dilation, groups, list(x.shape))
        scales = 1.0, 0, weight, one, none, None
        sums: Tensor = onednn.qconv2d_pointwise(
            x, *scales, stride, padding, dilation, groups, 1.0, 0, torch.float32, "none", [], ""
        )
        sums = sums[..., :1] if narrow else sums
        return sums[:n].mul_(2).sub_(sums[n]) if self.of_signs else sums[:n]

    def backward(self, d: Tensor, bits: Tensor, out: Tensor) -> Tensor:
        left, right = self._operands(d, bits)
        with torch_threads(1):  # oneDNN's own would spin for each other in here
            self.gradient.copy_(grad.conv2d_weight(right, self.signs.shape, left, *self.place))
        weight = self.signs.to(torch.bfloat16, memory_format=_LAST)
        return out.copy_(grad.conv2d_input(right[:-2].shape, weight, left[:-2], *self.place))

    def _operands(self, d: Tensor, bits: Tensor) -> tuple[Tensor, Tensor]:
        """D and x in bfloat16, and two more images for what rounding takes from d."""
        n = len(d)
        left, right = _empty(n + 2, d, torch.bfloat16), _empty(n + 2, bits, torch.bfloat16)
        left[:n], right[:n] = d, bits
        if self.of_signs:
            right[:n].mul_(2).sub_(1)
        # What rounding takes from d comes back times the mean image. It must: where an input never changes, the
        # gradients of a batch norm cancel to nothing, and what is left of rounding Adam would scale to full steps.
        every = 0, 2, 3
        lost = (d.sum(every) - left[:n].sum(every, dtype=torch.float32)) / d[0, 0].numel()
        left[n] = lost[:, None, None]
        left[n + 1] = (lost - left[n, :, 0, 0])[:, None, None]
        right[n:] = (right[:n].permute(0, 2, 3, 1).sum(0, dtype=torch.float32) / n).permute(2, 0, 1)
        return left, right


def _empty(n: int, like: Tensor, kind: torch.dtype) -> Tensor:
    """N images of the shape of `like`'s, channels last."""
    return torch.empty(n, *like.shape[1:], dtype=kind, memory_format=_LAST)
