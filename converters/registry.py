"""Layers from elsewhere, said in the converter's own modules.

A layer that this package does not know converts once it is registered with a function that gives modules which compute
the same, one after the other. PyTorch's own `nn.Linear` and `nn.Conv2d` are registered here: with weights of +c and -c
(a c for each unit, as XNOR-Net scales them) they are a binary layer and a scale. Brevitas' layers of binary weights are
that too, and its binary activations are signs.

Source of the scales: Rastegari et al., XNOR-Net, 2016 (arXiv 1603.05279).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lava_meta.converters import brevitas
from lava_meta.converters.refusals import NotAChain
from lava_meta.errors import ConversionError
from lava_meta.nn import BinaryConv2d, BinaryLinear

Parts = Callable[[Any], Sequence[nn.Module]]


class Affine(nn.Module):
    """`y = scale * x + offset`, with a scale and an offset for each unit or channel."""

    scale: Tensor
    offset: Tensor

    def __init__(self, scale: Tensor, offset: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("scale", scale.detach().clone())
        self.register_buffer("offset", torch.zeros_like(scale) if offset is None else offset.detach().clone())

    @property
    def factor(self) -> Tensor:
        """What x is multiplied with."""
        return self.scale

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, *(1 for _ in x.shape[2:]))
        return x * self.scale.reshape(shape).to(x.dtype) + self.offset.reshape(shape).to(x.dtype)


def register(kind: type[nn.Module], parts: Parts) -> None:
    """Convert modules of exactly `kind` as the supported modules that `parts(module)` gives; see `lava_meta.convert`.

    Raises `TypeError` for something that is not a class of modules.
    """
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise TypeError(f"{kind!r} is not a class of modules")
    _PARTS[kind] = parts


def is_registered(module: nn.Module) -> bool:
    """Whether a module's own kind is registered; kinds derived from it are not."""
    return type(module) in _PARTS or _full_name(module) in _BY_NAME


def _full_name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def parts_of(label: str, module: nn.Module) -> list[nn.Module]:
    """What a registered module is made of, in float64 and eval mode; another module is itself."""
    if not is_registered(module):
        return [module]
    try:
        parts = _PARTS.get(type(module)) or _BY_NAME[_full_name(module)]
        return [part.double().eval() for part in parts(module)]
    except ConversionError as error:
        raise NotAChain(f"{label} {error}") from error


def _linear(layer: nn.Linear) -> list[nn.Module]:
    return _scaled(layer, BinaryLinear(layer.in_features, layer.out_features))


def _convolution(layer: nn.Conv2d) -> list[nn.Module]:
    options: dict[str, Any] = {
        name: getattr(layer, name) for name in ("kernel_size", "stride", "padding", "dilation", "groups")
    }
    binary = BinaryConv2d(layer.in_channels, layer.out_channels, **options)
    binary.padding_mode = layer.padding_mode
    return _scaled(layer, binary)


def _scaled(layer: nn.Linear | nn.Conv2d, binary: BinaryLinear | BinaryConv2d) -> list[nn.Module]:
    sizes = layer.weight.detach().abs().flatten(1)
    scale = sizes[:, 0]
    if not torch.equal(sizes, scale[:, None].expand_as(sizes)) or not (scale > 0).all():
        raise NotAChain(
            "has weights other than +c and -c, with one c for each unit; train with lava_meta.nn."
            f"{type(binary).__name__}, or register your own layer"
        )
    binary.weight.data = layer.weight.detach().clone()
    return [binary, Affine(scale, layer.bias)]


_PARTS: dict[type[nn.Module], Parts] = {nn.Linear: _linear, nn.Conv2d: _convolution}
# Kinds of packages that need not be installed.
_BY_NAME: dict[str, Parts] = {
    "brevitas.nn.quant_linear.QuantLinear": lambda layer: _linear(brevitas.linear(layer)),
    "brevitas.nn.quant_conv.QuantConv2d": lambda layer: _convolution(brevitas.convolution(layer)),
    "brevitas.nn.quant_activation.QuantIdentity": brevitas.activation,
    "brevitas.nn.quant_activation.QuantHardTanh": brevitas.activation,
}
