"""Brevitas' binary layers, as the converter's own modules. Nothing of Brevitas is imported: its layers bring all.

A layer's weights are what it multiplies with in eval mode, `quant_weight()`: +c and -c for its binary quantizers. An
activation is binary if it gives -1 below 0 and +1 from 0 on.

Source: Pappalardo, Brevitas (Xilinx/AMD), brevitas.nn of version 0.13.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn

from lava_meta.converters.refusals import NotAChain
from lava_meta.nn import Sign

Plain = TypeVar("Plain", nn.Linear, nn.Conv2d)

_PROBE = (-1e3, -1.0, -1e-6, 0.0, 1e-6, 1.0, 1e3)


def linear(layer: Any) -> nn.Linear:
    """A `QuantLinear` as PyTorch's layer with the same weights."""
    return _with_weights_of(layer, nn.Linear(layer.in_features, layer.out_features, layer.bias is not None))


def convolution(layer: Any) -> nn.Conv2d:
    """A `QuantConv2d` as PyTorch's layer with the same weights."""
    options = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups", "padding_mode")}
    same = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, bias=layer.bias is not None, **options)
    return _with_weights_of(layer, same)


def _with_weights_of(layer: Any, same: Plain) -> Plain:
    for name in ("input_quant", "output_quant", "bias_quant"):
        if getattr(layer, name).is_quant_enabled:
            raise NotAChain(f"has an {name} of its own; leave it out, and put a QuantIdentity in front or behind")
    _check_plain_tensors(layer)
    with torch.no_grad():
        weight = layer.quant_weight()
    same.weight.data = getattr(weight, "value", weight).detach()
    if same.bias is not None:
        same.bias.data = layer.bias.detach()
    return same


def activation(layer: Any) -> list[nn.Module]:
    """A `QuantIdentity` or `QuantHardTanh` as a sign, if it is one."""
    _check_plain_tensors(layer)
    at = next((p for p in layer.parameters()), torch.zeros(()))
    probe = torch.tensor(_PROBE, dtype=at.dtype, device=at.device)[None]
    with torch.no_grad():
        found = layer(probe)
    signs = torch.where(probe >= 0, 1.0, -1.0).to(found)
    size = found.abs().max()
    if torch.equal(found, signs):
        return [Sign()]
    if size > 0 and torch.equal(found / size, signs):
        raise NotAChain(f"gives +-{float(size):g}; only +-1 is supported: SignedBinaryActPerTensorConst of scale 1")
    raise NotAChain("is no binary activation: use act_quant=SignedBinaryActPerTensorConst")


def _check_plain_tensors(layer: Any) -> None:
    if getattr(layer, "return_quant_tensor", False):
        raise NotAChain("has return_quant_tensor=True; only plain tensors go on")
