"""The training step of a binarized network, written out: the same mathematics as autograd's, in far less time.

    forward     s = W x,  y = norm(s),  x <- sign(y)            for each layer; the last one's y are the logits
    backward    ds from dy by the norm,  dW = ds^T x,  dx = ds W,  dy = dx where |y| <= window, else 0

`AbsStep` is the unit x <- (z > 0) of z = |y| - width, with half a width as the window of z.

The products take the form that the processor does fastest (`lava_meta.training.products`). Sums are exact, so the
forward pass, the loss and the classes are those of the model itself, bit for bit; gradients are rounded otherwise than
autograd's, to 8 bits at worst, so the course of a training is the same only in distribution. The norms are the model's
own modules, differentiated by autograd, except for the fixed norm, which is a factor.

A network fits if it is an `nn.Sequential` on the CPU of [Flatten], [Pixels], then (BinaryLinear, norm, activation) any
number of times, and last (BinaryLinear, norm), as `BinaryMLP` is. For any other model the optimizer alone can be fast.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lava_meta.nn import AbsStep, BinaryLinear, FixedNorm, Pixels, Sign
from lava_meta.training import backward, products
from lava_meta.training.cuda import is_watched
from lava_meta.training.written_out import WrittenOut


@dataclass
class _Layer:
    weight: Tensor  # hidden, (units, inputs)
    norm: nn.Module
    activation: Any  # Sign or AbsStep; None for the readout
    products: products.Floats
    # What the backward pass needs of the forward one:
    x: Tensor = field(init=False)
    sums: Tensor = field(init=False)
    y: Tensor = field(init=False)  # the distance from the activation's edge

    @property
    def scale(self) -> float | None:
        """Of a fixed norm before a sign, which are one compiled pass; None for any others."""
        return self.norm.scale if isinstance(self.norm, FixedNorm) and isinstance(self.activation, Sign) else None


class FastNetwork(WrittenOut):
    """A model's forward and backward pass.

    Its hidden weights are the model's own; call `refresh` after anything but an optimizer step that writes `signs`
    has changed them.
    """

    def __init__(self, layers: list[_Layer], offset: int, *, flattens: bool) -> None:
        self.layers, self.offset, self.flattens = layers, offset, flattens
        super().__init__(layers)

    @classmethod
    def of(cls, model: nn.Module, form: type[products.Floats] | None = None) -> FastNetwork | None:
        """The fast form of `model`, or None if it does not fit. form: of the products; by default the processor's."""
        if (
            not isinstance(model, nn.Sequential)
            or type(model).forward is not nn.Sequential.forward
            or is_watched(model)
        ):
            return None
        modules: list[Any] = list(model)
        offset = 0
        flattens = bool(modules) and type(modules[0]) is nn.Flatten
        if flattens:
            modules.pop(0)
        if modules and type(modules[0]) is Pixels:
            pixels = modules.pop(0)
            level = pixels.offset.item()
            if pixels.gain != 1 or level not in range(256):
                return None
            offset = int(level)
        layers = []
        while modules:
            layer = _first(modules, form or products.form())
            if layer is None or (layer.activation is None) != (not modules):
                return None
            layers.append(layer)
        distinct = len({id(layer.weight) for layer in layers}) == len(layers)
        return cls(layers, offset, flattens=flattens) if layers and distinct else None

    def loss(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """The mean cross entropy of a batch, for `backward`. pixels: uint8 (n, ...)."""
        sums = self._forward(pixels, learning=True)
        with torch.enable_grad():
            logits = self.layers[-1].norm(sums)
            self._loss = functional.cross_entropy(logits, labels)
        return self._loss.detach()

    @torch.no_grad()
    def logits(self, pixels: Tensor) -> Tensor:
        """The model's logits in its present mode, (n, classes)."""
        logits: Tensor = self.layers[-1].norm(self._forward(pixels, learning=False))
        return logits

    @torch.no_grad()
    def _forward(self, pixels: Tensor, *, learning: bool) -> Tensor:
        x = pixels.flatten(1) if self.flattens else pixels
        for i, layer in enumerate(self.layers):
            if i == 0:
                sums = layer.products.sums_of_pixels(x, self.offset)
            else:
                sums = layer.products.sums(x, signs=isinstance(self.layers[i - 1].activation, Sign))
            layer.x = x
            if layer.activation:
                x = self._activate(layer, sums, learning=learning)
            else:
                layer.sums = sums.to(torch.float32).requires_grad_(learning)
        return layer.sums

    def _activate(self, layer: _Layer, sums: Tensor, *, learning: bool) -> Tensor:
        values = torch.empty(sums.shape, dtype=layer.products.signs_type)
        if layer.scale is not None:
            layer.y = torch.empty(sums.shape)
            backward.signs_of_sums(sums.numpy(), np.float32(layer.scale), layer.y.numpy(), values.numpy())
            return values
        layer.sums = sums.to(torch.float32).requires_grad_(learning)
        with torch.set_grad_enabled(learning):
            layer.y = layer.activation.distance(layer.norm(layer.sums))
        if isinstance(layer.activation, AbsStep):
            return values.copy_(layer.y > 0)
        return torch.sub((layer.y >= 0).to(values.dtype) * 2, 1, out=values)

    @torch.no_grad()
    def backward(self) -> None:
        """The gradients of the last `loss`."""
        last = self.layers[-1]
        d = _through(last.norm, self._loss, last.sums)
        for i in reversed(range(len(self.layers))):
            layer = self.layers[i]
            layer.products.outer(d, layer.x, self.offset if i == 0 else None)
            if i == 0:
                break
            below = self.layers[i - 1]
            if below.scale is not None:
                d = layer.products.back(d, below.y, below.activation.window, below.scale)
            else:
                dy = layer.products.back(d, below.y.detach(), below.activation.window, 1.0)
                d = _through(below.norm, below.y, below.sums, dy)


def _through(norm: nn.Module, output: Tensor, sums: Tensor, gradient: Tensor | None = None) -> Tensor:
    """The gradient of `sums`, given that of `output`; those of the norm's parameters are left in their `grad`."""
    parameters = [parameter for parameter in norm.parameters() if parameter.requires_grad]
    d, *found = torch.autograd.grad(output, [sums, *parameters], gradient, allow_unused=True)
    for parameter, value in zip(parameters, found, strict=True):
        parameter.grad = value
    return d


def _first(modules: list[Any], form: type[products.Floats]) -> _Layer | None:
    """Take a layer off the front, or give None if that is none of the known form."""
    kinds = [type(module) for module in modules[:3]]
    if len(kinds) < 2 or kinds[0] is not BinaryLinear:
        return None
    linear, norm = modules.pop(0), modules.pop(0)
    if linear.weight.device.type != "cpu" or linear.weight.dtype != torch.float32:
        return None
    activation = modules.pop(0) if kinds[2:] in ([Sign], [AbsStep]) else None
    return _Layer(linear.weight, norm, activation, form(linear.out_features, linear.in_features))
