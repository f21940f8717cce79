"""Binary layers, their activations, and the input convention."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lava_meta.nn.binary import BinaryLayer


class SignSTE(torch.autograd.Function):
    """`sign(x)` with `sign(0) = +1`, and a straight-through gradient inside the straight-through window.

    Forward: `y = +1 if x >= 0, else -1`. Backward: `dx = dy if |x| <= window, else 0`.

    Source: Courbariaux et al., Binarized Neural Networks, 2016 (arXiv 1602.02830).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: float) -> Tensor:
        ctx.window = window
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return torch.where(x.abs() <= ctx.window, grads[0], 0.0), None


class _AbsStep(torch.autograd.Function):
    """See `AbsStep`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, width: float) -> Tensor:
        ctx.width = width
        ctx.save_for_backward(x)
        return (x.abs() > width).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        near = (x.abs() - ctx.width).abs() <= ctx.width / 2
        return torch.where(near, grads[0] * x.sign(), 0.0), None


class _BinaryWeight(torch.autograd.Function):
    """`sign(h)`; the gradient of the binary weight reaches the hidden weight unchanged, whatever its size."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor) -> Tensor:
        return torch.where(hidden >= 0, 1.0, -1.0).to(hidden.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Tensor:
        grad: Tensor = grads[0]
        return grad


def sign_ste(x: Tensor, window: float = 1.0) -> Tensor:
    """`sign(x)` with a straight-through gradient if `|x| <= window`; see `SignSTE`."""
    signs: Tensor = SignSTE.apply(x, window)
    return signs


class Sign(nn.Module):
    """The sign activation: +1 if `x >= 0`, else -1, with the gradient of `SignSTE`."""

    def __init__(self, window: float = 1.0) -> None:
        super().__init__()
        self.window = window

    def distance(self, x: Tensor) -> Tensor:
        """From the edge at which the value changes, 0; the gradient passes if it is within `window`."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        return sign_ste(x, self.window)

    def extra_repr(self) -> str:
        return f"window={self.window}"


class AbsStep(nn.Module):
    """`y = 1 if |x| > width, else 0`; the gradient passes within half a width of both edges, with the edge's sign.

    Source: Cottart et al. 2026.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        if not (math.isfinite(width) and width > 0):
            raise ValueError(f"width is {width}; it must be finite and positive")
        self.width = width

    @property
    def window(self) -> float:
        """Half a width."""
        return self.width / 2

    def distance(self, x: Tensor) -> Tensor:
        """From the nearer edge, positive beyond it; the gradient passes if it is within `window`."""
        return x.abs() - self.width

    def forward(self, x: Tensor) -> Tensor:
        steps: Tensor = _AbsStep.apply(x, self.width)
        return steps

    def extra_repr(self) -> str:
        return f"width={self.width}"


class BinaryLinear(BinaryLayer, nn.Linear):
    """`y = sign(h) x`: a linear layer of binary weights, without bias.

    Shapes: x (..., in_features), h = `weight` (out_features, in_features), y (..., out_features). Hidden weights start
    uniform in (-init_width, init_width), and are never clipped.
    """

    def __init__(self, in_features: int, out_features: int, init_width: float = 0.05) -> None:
        self.init_width = init_width
        super().__init__(in_features, out_features, bias=False)

    def reset_parameters(self) -> None:
        """Draw new hidden weights, uniform in (-init_width, init_width)."""
        nn.init.uniform_(self.weight, -self.init_width, self.init_width)

    @property
    def binary_weight(self) -> Tensor:
        """`sign(h)`, +1 and -1, through which gradients reach `h` unchanged."""
        signs: Tensor = _BinaryWeight.apply(self.weight)
        return signs

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.binary_weight)


class BinaryConv2d(BinaryLayer, nn.Conv2d):
    """`y = sign(h) * x`: a two-dimensional convolution with binary weights, without bias; zero padding.

    Shapes: x (n, in_channels, height, width); h = `weight` (out_channels, in_channels / groups, *kernel_size). Hidden
    weights start uniform in (-init_width, init_width), and are never clipped.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        init_width: float = 0.05,
    ) -> None:
        self.init_width = init_width
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=False)

    def reset_parameters(self) -> None:
        """Draw new hidden weights, uniform in (-init_width, init_width)."""
        nn.init.uniform_(self.weight, -self.init_width, self.init_width)

    @property
    def binary_weight(self) -> Tensor:
        """`sign(h)`, +1 and -1, through which gradients reach `h` unchanged."""
        signs: Tensor = _BinaryWeight.apply(self.weight)
        return signs

    def forward(self, x: Tensor) -> Tensor:
        sums: Tensor = self._conv_forward(x, self.binary_weight, None)
        return sums


class Pixels(nn.Module):
    """Raw integers `p` in min_level .. max_level become `gain * (p - offset)`; offset and gain are in these levels.

    Unsigned pixels by default; signed features of n bits have a `min_level` of -2**(n - 1).

    A network that begins with it carries its own input convention. With an integer offset and a gain of 1 the products
    of the first layer are exact integers; `standardize` gives torchvision's `ToTensor` and `Normalize(mean, std)`.

    The numbers given are kept as they are beside the buffers, whose type they take on: `model.float().double()`
    computes with 33.3184, not with its float32 rounding.
    """

    offset: Tensor
    gain: Tensor

    def __init__(self, offset: float = 0.0, gain: float = 1.0, max_level: int = 255, min_level: int = 0) -> None:
        super().__init__()
        if not (math.isfinite(offset) and math.isfinite(gain) and gain > 0):
            raise ValueError(f"offset ({offset}) must be finite and gain ({gain}) finite and positive")
        if max_level < 1:
            raise ValueError(f"max_level is {max_level}; the brightest pixel must be at least 1")
        if min_level > 0:
            raise ValueError(f"min_level is {min_level}; it is 0 for pixels, negative for signed features")
        self.max_level, self.min_level = max_level, min_level
        self._given = {"offset": float(offset), "gain": float(gain)}
        self.register_buffer("offset", torch.tensor(float(offset)))
        self.register_buffer("gain", torch.tensor(float(gain)))

    @classmethod
    def standardize(cls, mean: float, std: float, max_level: int = 255, min_level: int = 0) -> Pixels:
        """`(p / max_level - mean) / std`, with mean and std as fractions of the greatest level."""
        if not std > 0:
            raise ValueError(f"std is {std}; it must be positive")
        return cls(mean * max_level, 1 / (std * max_level), max_level, min_level)

    @property
    def exact_offset(self) -> float:
        """The offset in levels, in float64."""
        return self._exact("offset")

    @property
    def exact_gain(self) -> float:
        """The gain per level, in float64."""
        return self._exact("gain")

    def _exact(self, name: str) -> float:
        """The number given, unless its buffer has got another since: from a file, or assigned."""
        given, held = self._given[name], getattr(self, name)
        if held.is_meta or held.item() == torch.tensor(given, dtype=held.dtype).item():
            return given
        return float(held.item())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Pixels:  # noqa: FBT001, FBT002  # torch's
        exact = {name: self._exact(name) for name in self._given}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch gives it no types
        for name, value in exact.items():
            getattr(self, name).fill_(value)
        self._given = exact
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        # A gain of 1 changes no bit, and to ask for it would make the host wait for a GPU.
        return (pixels.to(self.offset.dtype) - self.offset) * self.gain

    def extra_repr(self) -> str:
        levels = f"max_level={self.max_level}" + (f", min_level={self.min_level}" if self.min_level else "")
        return f"offset={self.offset:g}, gain={self.gain:g}, {levels}"
