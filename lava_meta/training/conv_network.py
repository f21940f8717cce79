"""The training step of a binarized convolutional network, written out from its first binary units on.

    forward     s = W * x,  y = what follows, as pooling and norm,  x <- sign(y)        between two layers of units
    backward    ds from dy by autograd,  dW and dx from ds,  dy = dx where |y| <= window, else 0

`AbsStep` is the unit x <- (z > 0) of z = |y| - width, with half a width as the window of z.

Up to the first units, and wherever no binary layer follows them, the model's own modules compute, and autograd behind
them; so do pooling and norms. Binary layers take the products of `lava_meta.training.products` and of `conv_products`
or `conv_tables` there. Sums are exact, so the forward pass, the loss and the classes are those of the model itself, bit
for bit; gradients are rounded otherwise than autograd's, with products of bytes to 8 bits in each convolution.

A network fits if it is an `nn.Sequential` on the CPU, in float32, of which a `BinaryConv2d` follows a `Sign` or an
`AbsStep`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lava_meta.nn import AbsStep, BinaryConv2d, BinaryLinear, Pixels, Sign
from lava_meta.training import conv_products, products
from lava_meta.training.conv_products import ConvBytes, ConvFloats
from lava_meta.training.conv_tables import ConvTables
from lava_meta.training.cuda import is_watched
from lava_meta.training.written_out import WrittenOut

_Units = Sign | AbsStep
_POOLING = (nn.AvgPool2d, nn.MaxPool2d)  # much faster if channels lie last


class _MeansOfConv(nn.Module):
    """`nn.AvgPool2d(2)` of a convolution of whole levels: one of stride 2, with as few sums, and exact as both are.

    As a product of matrices: PyTorch's convolutions of one channel are slow, and so is their weights' gradient.
    """

    def __init__(self, conv: BinaryConv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        padding: Any = self.conv.padding
        weight = functional.avg_pool2d(functional.pad(self.conv.binary_weight, (1, 1, 1, 1)), 2, 1)
        kernel = weight.shape[2:]
        places = ((size + 2 * p - k) // 2 + 1 for size, p, k in zip(x.shape[2:], padding, kernel, strict=True))
        seen = functional.unfold(x, kernel, padding=padding, stride=2)
        means = torch.bmm(weight.flatten(1).expand(len(x), -1, -1), seen)
        return means.view(len(x), -1, *places)


class _Own:
    """Modules of the model itself, differentiated by autograd, up to the distances from the edge of `units`."""

    def __init__(self, modules: list[nn.Module], units: _Units | None) -> None:
        self.modules, self.units = modules, units
        self.parameters = [p for module in modules for p in module.parameters() if p.requires_grad]

    def forward(self, x: Tensor, *, first: bool, learning: bool) -> Tensor:
        """Of the first stretch, x is what comes in and needs no gradient."""
        self.x = x if first else x.requires_grad_(learning)
        with torch.set_grad_enabled(learning):
            y = self.x
            for module in self.modules:
                y = _applied(module, y)
            self.y = y if self.units is None else self.units.distance(y)
        return self.y

    @property
    def bits(self) -> Tensor:
        """The units behind the modules: True for +1 of signs, 1 of steps."""
        return self.y > 0 if isinstance(self.units, AbsStep) else self.y >= 0

    def backward(self, gradient: Tensor | None, of: Tensor | None = None) -> Tensor:
        """The gradient of x, given that of the result, or `of` what else; those of parameters are left in `grad`."""
        wanted = [*self.parameters, *([self.x] if self.x.requires_grad else [])]
        found = torch.autograd.grad(self.y if of is None else of, wanted, gradient, allow_unused=True)
        for parameter, value in zip(self.parameters, found, strict=False):
            parameter.grad = value
        return found[-1]


def _applied(module: nn.Module, y: Tensor) -> Tensor:
    """The module's result, in memory as torch computes it fastest to the same bits."""
    last = y.dim() == 4 and isinstance(module, _POOLING)
    y = y.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    result: Tensor = module(y.clone() if getattr(module, "inplace", False) else y)
    return result


def conv_form(layer: BinaryConv2d) -> type[ConvFloats]:
    """The form of a convolution's products for this processor."""
    if conv_products.has_bytes():
        return ConvBytes
    return ConvTables if layer.groups == 1 else ConvFloats  # a group has too few inputs and units to share a table


class _Values:
    """Units as the model's own modules take them, if no binary layer comes first."""

    def __init__(self, *, signs: bool) -> None:
        self.of_signs = signs

    def forward(self, bits: Tensor) -> Tensor:
        return _values(bits, torch.float32, signs=self.of_signs)

    def backward(self, d: Tensor, y: Tensor, window: float) -> Tensor:
        return _inside(d, y, window)


class _Conv:
    """A binary convolution of units."""

    def __init__(self, layer: BinaryConv2d, *, signs: bool) -> None:
        self.weight, self.products = layer.weight, conv_form(layer)(layer, signs=signs)

    def forward(self, bits: Tensor) -> Tensor:
        self.bits = bits.view(torch.uint8).contiguous(memory_format=torch.channels_last)
        return self.products.sums(self.bits)

    def backward(self, d: Tensor, y: Tensor, window: float) -> Tensor:
        return _inside(self.products.backward(d, self.bits, torch.empty_like(y)), y, window)


class _Dense:
    """A binary dense layer of units, flattened, some of them dropped."""

    def __init__(self, layer: BinaryLinear, dropout: nn.Dropout | None, *, signs: bool) -> None:
        self.of_signs = signs
        form = products.form()
        if dropout is not None:
            form = products.Bytes if issubclass(form, products.Bytes) else products.Dropped
        self.weight, self.dropout = layer.weight, dropout
        self.products = form(layer.out_features, layer.in_features)

    def forward(self, bits: Tensor) -> Tensor:
        self.x = _values(bits.flatten(1), self.products.signs_type, signs=self.of_signs)
        self.factor = 1.0
        if self.dropout is not None and self.dropout.training:
            self.kept = self.dropout(torch.ones(bits.shape)).flatten(1) > 0
            self.x *= self.kept
            self.factor = 1 / (1 - self.dropout.p)
        return self.products.sums(self.x, signs=self.of_signs).to(torch.float32).mul_(self.factor)

    def backward(self, d: Tensor, y: Tensor, window: float) -> Tensor:
        if self.factor != 1:
            d = d * self.factor
        self.products.outer(d, self.x)
        dy = self.products.back(d, y.flatten(1), window, 1.0)
        if self.factor != 1:
            dy *= self.kept
        return dy.view(y.shape)


_Layer = _Values | _Conv | _Dense


class ConvNetwork(WrittenOut):
    """A model's forward and backward pass, as `lava_meta.training.fast.FastNetwork` has it of a dense one."""

    def __init__(self, owns: list[_Own], layers: list[_Layer]) -> None:
        # The first of the model's own, then a layer behind the units of each and what follows.
        self.owns, self.layers = owns, layers
        super().__init__([layer for layer in layers if not isinstance(layer, _Values)])

    @classmethod
    def of(cls, model: nn.Module) -> ConvNetwork | None:
        """The fast form of `model`, or None if it does not fit."""
        if not _is_sequence(model) or is_watched(model):
            return None
        if any(p.device.type != "cpu" or p.dtype != torch.float32 for p in model.parameters()):
            return None
        owns: list[_Own] = []
        layers: list[_Layer] = []
        modules = _with_means(list(_in_order(model)))
        uses = [p for module in modules for p in module.parameters()]
        if len({*uses}) < len(uses):
            return None
        for units, between in _between_units(modules):
            if owns:
                flat = bool(layers) and isinstance(layers[-1], _Dense)
                layer, between = _layer(between, flat=flat, signs=isinstance(owns[-1].units, Sign))
                layers.append(layer)
            owns.append(_Own(between, units))
        fits = owns[-1].units is None and any(isinstance(layer, _Conv) for layer in layers)
        return cls(owns, layers) if fits else None

    def loss(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """The mean cross entropy of a batch, for `backward`. pixels: raw levels (n, ...)."""
        logits = self._forward(pixels, learning=True)
        with torch.enable_grad():
            self._loss = functional.cross_entropy(logits, labels)
        return self._loss.detach()

    @torch.no_grad()
    def logits(self, pixels: Tensor) -> Tensor:
        """The model's logits in its present mode, (n, classes)."""
        return self._forward(pixels, learning=False)

    @torch.no_grad()
    def _forward(self, pixels: Tensor, *, learning: bool) -> Tensor:
        y = self.owns[0].forward(pixels.to(torch.float32), first=True, learning=learning)
        for layer, (below, own) in zip(self.layers, pairwise(self.owns), strict=True):
            y = own.forward(layer.forward(below.bits), first=False, learning=learning)
        return y

    @torch.no_grad()
    def backward(self) -> None:
        """The gradients of the last `loss`."""
        d = self.owns[-1].backward(None, of=self._loss)
        for layer, below in zip(reversed(self.layers), reversed(self.owns[:-1]), strict=True):
            assert below.units is not None
            d = below.backward(layer.backward(d, below.y.detach(), below.units.window))


def _values(bits: Tensor, kind: torch.dtype, *, signs: bool) -> Tensor:
    """+1 and -1, or without `signs` 1 and 0."""
    values = bits.to(kind)
    return values.mul_(2).sub_(1) if signs else values


def _inside(d: Tensor, y: Tensor, window: float) -> Tensor:
    """D where |y| <= window, else 0."""
    edge = float(np.nextafter(np.float32(window), np.float32(np.inf)))  # of the open interval that torch takes
    inside: Tensor = torch.ops.aten.hardtanh_backward(d, y, -edge, edge)
    return inside


def _is_sequence(module: nn.Module) -> bool:
    return type(module).forward is nn.Sequential.forward


def _in_order(module: nn.Module) -> Iterator[nn.Module]:
    """The modules of a sequence, of sequences in it too."""
    if _is_sequence(module):
        for child in module.children():
            yield from _in_order(child)
    else:
        yield module


def _with_means(modules: list[nn.Module]) -> list[nn.Module]:
    """The same, with one module for a first convolution of whole levels and the means of 2x2 behind it."""
    if len(modules) < 3:
        return modules
    pixels, conv, pool, *rest = modules
    if type(pixels) is not Pixels or type(conv) is not BinaryConv2d or type(pool) is not nn.AvgPool2d:
        return modules
    whole = pixels.gain == 1 and pixels.offset == pixels.offset.round()
    plain = conv.stride == conv.dilation == (1, 1) and conv.groups == 1 and not isinstance(conv.padding, str)
    form = pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode, pool.divisor_override
    fits = whole and plain and form == (2, 2, 0, False, None)
    return [pixels, _MeansOfConv(conv), *rest] if fits else modules


def _between_units(modules: list[nn.Module]) -> Iterator[tuple[_Units | None, list[nn.Module]]]:
    """What lies in front of each sign or step, with it, and what lies behind the last, with None."""
    between: list[nn.Module] = []
    for module in modules:
        if type(module) in (Sign, AbsStep):
            yield cast(_Units, module), between
            between = []
        else:
            between.append(module)
    if between:
        yield None, between


def _layer(modules: list[nn.Module], *, flat: bool, signs: bool) -> tuple[_Layer, list[nn.Module]]:
    """How modules behind units begin, and the rest. flat: whether the units are (n, units); signs: or steps."""
    rest = list(modules)
    if rest and type(rest[0]) is BinaryConv2d and not isinstance(rest[0].padding, str):
        return _Conv(rest[0], signs=signs), rest[1:]
    if rest and type(rest[0]) is nn.Flatten:
        rest.pop(0)
        flat = True
    dropout = rest[0] if rest and isinstance(rest[0], nn.Dropout) and rest[0].p < 1 else None
    if dropout is not None:
        rest.pop(0)
    if flat and rest and type(rest[0]) is BinaryLinear:
        return _Dense(rest[0], dropout, signs=signs), rest[1:]
    return _Values(signs=signs), modules
