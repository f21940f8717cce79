"""A model whose real weights are rounded to few bits on the way: `convert(model, bits=8, images=...)`.

    w' = scale_j * round(w / scale_j),   scale_j = max |w_j| / (2**(bits - 1) - 1)        of each output j

Weights that have so few bits already, binary ones among them, stay as they are. The first layer's are rounded as they
meet the levels of the images, with the deviation of each channel in them.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from lava_meta.converters.recording.exported import keeps_no_code
from lava_meta.converters.recording.unwrapping import unwrap
from lava_meta.converters.weights import decompose
from lava_meta.errors import ConversionError

LEAST, MOST = 2, 8  # bits
_WEIGHTED = {F.linear, F.conv1d, F.conv2d, F.conv3d, torch.conv1d, torch.conv2d, torch.conv3d}


@dataclass(frozen=True)
class Rounding:
    """How weights are rounded.

    Args:
        bits: of a weight, with its sign.
        std: of each channel of the input, if it was given.
    """

    bits: int
    std: Any = None

    def __post_init__(self) -> None:
        if isinstance(self.bits, bool) or not isinstance(self.bits, int) or not LEAST <= self.bits <= MOST:
            raise ValueError(f"bits is {self.bits!r}; a rounded weight has {LEAST} to {MOST} bits")

    def rounded(self, weight: Tensor, *, first: bool) -> Tensor:
        """The weights (outputs, ...), rounded; `first`: of the layer that takes the images."""
        gain = torch.ones(1, dtype=torch.float64)
        if first and np.size(self.std) == weight.shape[1] > 1:
            std = torch.as_tensor(np.ravel(self.std).astype(np.float64))
            gain = 1 / std.reshape(-1, *(1 for _ in weight.shape[2:]))
        largest = 2 ** (self.bits - 1) - 1
        real = weight.detach().double() * gain
        if np.abs(decompose(real.reshape(len(real), -1).numpy(), 1, 2**62).integers).max() <= largest:
            return weight
        scale = real.abs().amax(dim=tuple(range(1, real.ndim)), keepdim=True) / largest
        scale = torch.where(scale > 0, scale, 1.0)
        return (torch.round(real / scale) * scale / gain).to(weight.dtype)


def rounded(model: nn.Module, rounding: Rounding) -> nn.Module:
    """A copy of `model`, at any type, that computes with rounded weights.

    Raises:
        ConversionError: It is TorchScript, or was exported, so that no layers are called.
    """
    model = unwrap(model)
    if keeps_no_code(model):
        raise ConversionError(
            "bits= rounds the weights of layers that Python code calls: convert the module that was given to "
            "torch.jit.trace, torch.jit.script or torch.export"
        )
    clone: Any = copy.deepcopy(model)
    clone.rounding = rounding
    clone.forward = MethodType(_forward, clone)
    return clone  # type: ignore[no-any-return]


def _forward(self: Any, x: Tensor) -> Any:
    with _Rounding(self.rounding, x):
        return type(self).forward(self, x)


class _Rounding(TorchFunctionMode):
    def __init__(self, rounding: Rounding, x: Tensor) -> None:
        super().__init__()
        self.rounding, self.x = rounding, x

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _WEIGHTED and len(args) > 1:
            with torch._C.DisableTorchFunction():
                weight = self.rounding.rounded(args[1], first=args[0] is self.x)
            args = (args[0], weight, *args[2:])
        return func(*args, **(kwargs or {}))
