"""Binarized networks in the forms in which they are published, small; each written here, from its paper's equations.

`FORMS` names them: what makes the model, the shape of an image, and what `convert` has to be told. `made` gives one
with random weights and batch-norm statistics of random images, gains of both signs among them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

NORMAL: dict[str, Any] = {"mean": 0.1307, "std": 0.3081}
COLOUR: dict[str, Any] = {"mean": (0.49, 0.48, 0.44), "std": (0.25, 0.24, 0.26)}


@dataclass(frozen=True)
class Form:
    """One published form."""

    kind: str  # for the table
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=lambda: dict(NORMAL))


# Signs, as they are often written.


class SignWithDetach(nn.Module):
    """Straight-through by `(sign - clamp).detach() + clamp`."""

    def forward(self, x: Tensor) -> Tensor:
        clipped = x.clamp(-1, 1)
        return (torch.sign(x) - clipped).detach() + clipped


class SignFunction(torch.autograd.Function):
    """A sign by writing in place, with a clipped gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        out = x.clone()
        out[out >= 0] = 1
        out[out < 0] = -1
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * (x.abs() <= 1)


class PolynomialSign(nn.Module):
    """A sign whose gradient is that of a piecewise polynomial, which the forward computes and cancels."""

    def forward(self, x: Tensor) -> Tensor:
        signs = torch.sign(x)
        below, low, high = x < -1, x < 0, x < 1
        first = (-1) * below.type(torch.float32) + (x * x + 2 * x) * (1 - below.type(torch.float32))
        second = first * low.type(torch.float32) + (-x * x + 2 * x) * (1 - low.type(torch.float32))
        third = second * high.type(torch.float32) + 1 * (1 - high.type(torch.float32))
        return signs.detach() - third.detach() + third


def signed(x: Tensor) -> Tensor:
    return torch.where(x >= 0, torch.ones_like(x), -torch.ones_like(x))


# Dense networks.


class PaperLinear(nn.Linear):
    """Binarizes what it gets unless that is the image."""

    def __init__(self, inputs: int, outputs: int, image: int = 64) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.image = image

    def forward(self, x: Tensor) -> Tensor:
        if x.size(1) != self.image:
            x = SignWithDetach()(x)
        return F.linear(x, SignWithDetach()(self.weight))


class PaperDense(nn.Module):
    def __init__(self, width: int = 40) -> None:
        super().__init__()
        self.layers = nn.ModuleList([PaperLinear(64, width), PaperLinear(width, width), PaperLinear(width, 10)])
        self.norms = nn.ModuleList([nn.BatchNorm1d(n, affine=i != 1) for i, n in enumerate((width, width, 10))])

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(x.size(0), -1)
        for i, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            x = norm(layer(x))
            if i < 2:
                x = F.hardtanh(x)
        return x


class MasterLinear(nn.Linear):
    """Keeps the real weights beside the parameter, and writes signs into it, and into its input, as it runs."""

    def forward(self, x: Tensor) -> Tensor:
        if x.size(1) != 64:
            x.data = x.data.sign()
        if not hasattr(self.weight, "org"):
            self.weight.org = self.weight.data.clone()  # type: ignore[attr-defined]
        self.weight.data = self.weight.org.sign()  # type: ignore[attr-defined]
        out = F.linear(x, self.weight)
        if self.bias is not None:
            self.bias.org = self.bias.data.clone()  # type: ignore[attr-defined]
            out += self.bias.view(1, -1).expand_as(out)
        return out


class BinaryNetDense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.infl_ratio = 1
        self.fc1, self.bn1, self.htanh1 = MasterLinear(64, 48), nn.BatchNorm1d(48), nn.Hardtanh(inplace=True)
        self.fc2, self.bn2, self.htanh2 = MasterLinear(48, 32), nn.BatchNorm1d(32), nn.Hardtanh(inplace=True)
        self.fc3, self.logsoftmax = nn.Linear(32, 10), nn.LogSoftmax(dim=1)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(-1, 8 * 8)
        x = self.htanh1(self.bn1(self.fc1(x)))
        x = self.drop(self.fc2(x))
        x = self.htanh2(self.bn2(x))
        return self.logsoftmax(self.fc3(x))


class RealEnds(nn.Module):
    """Real first and last layers with biases; spikes of 0 and 1 between."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Linear(64, 30), nn.BatchNorm1d(30)
        self.hidden, self.norm2 = nn.Linear(30, 30, bias=False), nn.BatchNorm1d(30)
        self.last = nn.Linear(30, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.heaviside(self.norm1(self.first(x.flatten(1))), torch.ones(()))
        x = (self.norm2(F.linear(x, signed(self.hidden.weight))) > 0).float()
        return F.log_softmax(self.last(x), dim=1)


class SharedLayer(nn.Module):
    """One layer used twice, on signs made by an autograd function."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.last = nn.Linear(64, 24), nn.Linear(24, 24), nn.Linear(24, 5, bias=False)
        self.norm = nn.BatchNorm1d(24)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x.flatten(1)))
        for _ in range(2):
            x = F.linear(SignFunction.apply(x), SignFunction.apply(self.shared.weight), self.shared.bias)
        return self.last(SignFunction.apply(x))


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.norm = PaperLinear(64, 32), nn.BatchNorm1d(32)
        self.head1, self.head2 = PaperLinear(32, 4), nn.Linear(32, 6)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = signed(self.norm(self.body(x.flatten(1))))
        return {"head1": self.head1(x), "head2": self.head2(x)}


class TupleHeads(TwoHeads):
    def forward(self, x: Tensor) -> Any:
        found = super().forward(x)
        return found["head1"], (found["head2"],)


class Mixer(nn.Module):
    """Layers over tokens and over channels in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(16, 12)
        self.norm1, self.norm2 = nn.BatchNorm1d(12), nn.BatchNorm1d(12)
        self.tokens, self.channels, self.head = nn.Linear(4, 4), nn.Linear(12, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.reshape(x.shape[0], 4, 16)).transpose(1, 2)
        x = x + F.linear(signed(self.norm1(x)), signed(self.tokens.weight))
        x = self.norm2(x).transpose(1, 2)
        x = F.linear(signed(x), signed(self.channels.weight), self.channels.bias)
        return self.head(x.mean(dim=1))


# Convolutions.


class PaperConv(nn.Conv2d):
    """Binarizes what it gets unless that has the channels of an image."""

    def forward(self, x: Tensor) -> Tensor:
        if x.size(1) not in (1, 3):
            x = SignWithDetach()(x)
        return self._conv_forward(x, SignWithDetach()(self.weight), self.bias)


def paper_conv() -> nn.Module:
    return nn.Sequential(
        *(PaperConv(1, 8, 3), nn.BatchNorm2d(8), nn.MaxPool2d(2), nn.Hardtanh()),
        *(PaperConv(8, 12, 3, padding=1), nn.MaxPool2d(2), nn.BatchNorm2d(12), nn.Hardtanh()),
        *(nn.Flatten(), PaperLinear(48, 20), nn.BatchNorm1d(20), PaperLinear(20, 10), nn.BatchNorm1d(10)),
    )


def paper_vgg() -> nn.Module:
    modules: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate([(3, 8), (8, 8), (8, 12), (12, 12)]):
        modules.append(PaperConv(inputs, outputs, 3, padding=1, bias=False))
        if i % 2:
            modules.append(nn.MaxPool2d(2))
        modules += [nn.BatchNorm2d(outputs), nn.Hardtanh(inplace=True)]
    return nn.Sequential(*modules, nn.Flatten(), PaperLinear(48, 32), nn.BatchNorm1d(32), PaperLinear(32, 10))


class MasterConv(nn.Conv2d):
    """As `MasterLinear`."""

    def forward(self, x: Tensor) -> Tensor:
        if x.size(1) != 3:
            x.data = x.data.sign()
        if not hasattr(self.weight, "org"):
            self.weight.org = self.weight.data.clone()  # type: ignore[attr-defined]
        self.weight.data = self.weight.org.sign()  # type: ignore[attr-defined]
        out = F.conv2d(x, self.weight, None, self.stride, self.padding, self.dilation, self.groups)
        if self.bias is not None:
            self.bias.org = self.bias.data.clone()  # type: ignore[attr-defined]
            out += self.bias.view(1, -1, 1, 1).expand_as(out)
        return out


class BinaryNetVGG(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(MasterConv(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Hardtanh(inplace=True)),
            *(MasterConv(8, 8, 3, padding=1), nn.MaxPool2d(2, 2), nn.BatchNorm2d(8), nn.Hardtanh(inplace=True)),
            *(MasterConv(8, 16, 3, padding=1), nn.MaxPool2d(2, 2), nn.BatchNorm2d(16), nn.Hardtanh(inplace=True)),
        )
        self.classifier = nn.Sequential(
            *(MasterLinear(64, 30), nn.BatchNorm1d(30), nn.Hardtanh(inplace=True), MasterLinear(30, 10)),
            *(nn.BatchNorm1d(10, affine=False), nn.LogSoftmax(dim=1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.classifier(x.view(-1, 16 * 2 * 2))


class XnorConv(nn.Module):
    """Norm, sign, convolution with `mean|w|` scales, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(inputs, eps=1e-4, momentum=0.1, affine=True)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(x).sign()
        w = self.conv.weight
        w = (w - w.mean(1, keepdim=True)).clamp(-1.0, 1.0)
        scale = w.abs().mean(dim=(1, 2, 3), keepdim=True)
        return self.relu(F.conv2d(x, w.sign() * scale, self.conv.bias, self.conv.stride, self.conv.padding))


class XnorNiN(nn.Module):
    """Real ends, binary middle; the last convolution gives a map for each class, whose mean is its value."""

    def __init__(self) -> None:
        super().__init__()
        self.xnor = nn.Sequential(
            *(nn.Conv2d(3, 12, 5, padding=2), nn.BatchNorm2d(12, eps=1e-4), nn.ReLU(inplace=True)),
            *(XnorConv(12, 10, 1), nn.MaxPool2d(3, stride=2, padding=1)),
            *(XnorConv(10, 12, 3, padding=1), nn.AvgPool2d(3, stride=2, padding=1)),
            *(nn.BatchNorm2d(12, eps=1e-4), nn.Conv2d(12, 10, 1), nn.ReLU(inplace=True), nn.AvgPool2d(2)),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.xnor(x)
        return x.view(x.size(0), 10)


class XnorScaledInputs(nn.Module):
    """XNOR-Net's K: each sum times the mean size of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv, self.last = nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x))
        size = x.abs().mean(1, keepdim=True)
        k = F.conv2d(size, torch.full((1, 1, 3, 3), 1 / 9), padding=1)
        alpha = self.conv.weight.abs().mean((1, 2, 3)).view(1, -1, 1, 1)
        y = F.conv2d(x.sign(), self.conv.weight.sign(), padding=1) * k * alpha
        return self.last(F.adaptive_avg_pool2d(F.relu(y), 1).flatten(1))


class ScaledConv(nn.Module):
    """A convolution whose real weights are a bare parameter, scaled by their mean size, straight-through by detach."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.stride, self.padding, self.groups = stride, kernel // 2, groups
        self.weights = nn.Parameter(torch.randn(outputs, inputs // groups, kernel, kernel) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        w = self.weights
        scale = w.abs().mean(3, keepdim=True).mean(2, keepdim=True).mean(1, keepdim=True).detach()
        hard = scale * torch.sign(w)
        clipped = torch.clamp(w, -1.0, 1.0)
        return F.conv2d(
            x, hard.detach() - clipped.detach() + clipped, stride=self.stride, padding=self.padding, groups=self.groups
        )


class BiRealBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.sign, self.conv, self.bn = (
            PolynomialSign(),
            ScaledConv(inputs, outputs, 3, stride),
            nn.BatchNorm2d(outputs),
        )
        self.downsample: nn.Module | None = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.AvgPool2d(stride, stride), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        out = self.bn(self.conv(self.sign(x)))
        out += residual
        return out


class BiReal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(8)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layers = nn.Sequential(BiRealBlock(8, 8), BiRealBlock(8, 12, 2), BiRealBlock(12, 12))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.maxpool(self.bn1(self.conv1(x))))
        x = self.avgpool(x)
        return self.fc(x.view(x.size(0), -1))


class Bias(nn.Module):
    """A learned shift of each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(1, channels, 1, 1) * 0.2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias.expand_as(x)


class ReActBlock(nn.Module):
    """Shifted signs, RPReLU, shortcuts pooled or doubled."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.move11, self.conv3, self.bn1 = Bias(inputs), ScaledConv(inputs, inputs, 3, stride), nn.BatchNorm2d(inputs)
        self.move12, self.prelu1, self.move13 = Bias(inputs), nn.PReLU(inputs), Bias(inputs)
        self.move21 = Bias(inputs)
        self.points = nn.ModuleList([ScaledConv(inputs, inputs, 1) for _ in range(outputs // inputs)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(inputs) for _ in range(outputs // inputs)])
        self.move22, self.prelu2, self.move23 = Bias(outputs), nn.PReLU(outputs), Bias(outputs)
        self.pool = nn.AvgPool2d(2, 2) if stride == 2 else None
        self.sign = PolynomialSign()

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv3(self.sign(self.move11(x))))
        out = (x if self.pool is None else self.pool(x)) + out
        out = self.move13(self.prelu1(self.move12(out)))
        signs = self.sign(self.move21(out))
        parts = [norm(conv(signs)) + out for conv, norm in zip(self.points, self.norms, strict=True)]
        return self.move23(self.prelu2(self.move22(torch.cat(parts, dim=1))))


def react() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), ReActBlock(6, 12, 1), ReActBlock(12, 24, 2)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10)),
    )


class PadShortcut(nn.Module):
    """A residual block whose shortcut takes every second place and pads channels with zeros."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv, self.bn, self.extra = ScaledConv(inputs, outputs, 3, 2), nn.BatchNorm2d(outputs), outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2))
        return F.hardtanh(self.bn(self.conv(signed(x))) + shortcut)


def resnet_padded() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.Hardtanh(), PadShortcut(8, 12), PadShortcut(12, 16)),
        *(nn.AvgPool2d(3), nn.Flatten(), nn.Linear(16, 10), nn.LogSoftmax(-1)),
    )


class DenseBlock(nn.Module):
    """What it computes is joined to what it got."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.bn, self.conv = nn.BatchNorm2d(inputs), ScaledConv(inputs, growth)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(signed(self.bn(x)))], 1)


def densenet() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 3, padding=1), DenseBlock(6, 4), DenseBlock(10, 4), nn.MaxPool2d(2), nn.BatchNorm2d(14)),
        *(
            nn.ReLU(),
            nn.Conv2d(14, 8, 1),
            DenseBlock(8, 4),
            nn.AdaptiveAvgPool2d((1, 1)),
            nn.Flatten(),
            nn.Linear(12, 10),
        ),
    )


class Improvement(nn.Module):
    """A dense block whose new channels are then improved by a residual of their own."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.dense, self.bn, self.conv, self.growth = (
            DenseBlock(inputs, growth),
            nn.BatchNorm2d(inputs + growth),
            ScaledConv(inputs + growth, growth),
            growth,
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.dense(x)
        improved = self.conv(signed(self.bn(x)))
        kept, new = x[:, : -self.growth], x[:, -self.growth :]
        return torch.cat((kept, new + improved), dim=1)


def melius() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), Improvement(6, 4), Improvement(10, 4)),
        *(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(14, 10)),
    )


class Separable(nn.Module):
    """Depthwise and pointwise binary convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.depth, self.bn1 = ScaledConv(inputs, inputs, 3, stride, groups=inputs), nn.BatchNorm2d(inputs)
        self.point, self.bn2 = ScaledConv(inputs, outputs, 1), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.depth(signed(x)))
        return self.bn2(self.point(signed(x)))


def mobilenet() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), Separable(8, 12, 1), Separable(12, 16, 2)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)),
    )


class Shuffle(nn.Module):
    """Half of the channels pass; the others are convolved in groups; then channels are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv, self.bn = ScaledConv(half, half, 3, groups=2), nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        x = torch.cat((a, self.bn(self.conv(signed(b)))), 1)
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


def shufflenet() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, 1, 1), nn.BatchNorm2d(8), Shuffle(8), Shuffle(8), nn.AdaptiveMaxPool2d(1)),
        *(nn.Flatten(), nn.Linear(8, 5)),
    )


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = PaperConv(8, 4, 1), PaperConv(8, 4, 3, padding=1), PaperConv(8, 4, 5, padding=2)
        self.bn, self.pool = nn.BatchNorm2d(20), nn.MaxPool2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(torch.cat([self.a(x), self.b(x), self.c(x), self.pool(x)], 1))


def inception() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Hardtanh(), Inception(), nn.Hardtanh(), PaperConv(20, 10, 1)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )


class NiN(nn.Module):
    """Binary to the end: the mean of a map is the value of its class."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.c3 = PaperConv(1, 12, 3), PaperConv(12, 12, 1), PaperConv(12, 10, 1)
        self.b1, self.b2, self.b3 = nn.BatchNorm2d(12), nn.BatchNorm2d(12), nn.BatchNorm2d(10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b3(self.c3(self.b2(self.c2(self.b1(self.c1(x))))))
        return torch.mean(x, dim=(2, 3))


class Gated(nn.Module):
    """Sums times a gate that looks at the whole image (squeeze and excite)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.conv = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), ScaledConv(8, 8)
        self.down, self.up, self.last = nn.Linear(8, 4), nn.Linear(4, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x))
        gate = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))
        x = x + self.conv(signed(x)) * gate[:, :, None, None]
        return self.last(F.adaptive_avg_pool2d(x, 1).flatten(1))


class InfoRetaining(nn.Module):
    """Standardised weights, scaled by a power of two."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.b1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv, self.b2, self.fc = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardtanh(self.b1(self.first(x)))
        w = self.conv.weight
        w = w - w.view(w.size(0), -1).mean(-1).view(-1, 1, 1, 1)
        w = w / w.view(w.size(0), -1).std(-1).view(-1, 1, 1, 1)
        scale = torch.pow(2.0, torch.round(torch.log2(w.abs().mean((1, 2, 3))))).view(-1, 1, 1, 1)
        x = self.b2(F.conv2d(torch.sign(x), torch.sign(w) * scale, padding=1))
        return self.fc(F.avg_pool2d(F.hardtanh(x), 4).flatten(1))


class SkipNet(nn.Module):
    """Down, up again, and joined to what was there before."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.b1, self.down, self.b2 = (
            PaperConv(1, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            PaperConv(6, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
        )
        self.last, self.b3, self.fc = PaperConv(14, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        a = F.hardtanh(self.b1(self.first(x)))
        b = F.interpolate(F.hardtanh(self.b2(self.down(a))), scale_factor=2, mode="nearest")
        x = self.b3(self.last(torch.cat((a, b), 1)))
        return self.fc(F.adaptive_avg_pool2d(F.leaky_relu(x, 0.1), 1).squeeze(-1).squeeze(-1))


# Weights and activations of a few bits.


def rounded(x: Tensor, bits: int) -> Tensor:
    levels = 2**bits - 1
    return torch.round(x * levels) / levels


class DoReFa(nn.Module):
    """w-bit weights by tanh, a-bit activations between 0 and 1."""

    def __init__(self, weights: int, activations: int) -> None:
        super().__init__()
        self.weights, self.activations = weights, activations
        self.first, self.b1 = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8)
        self.conv, self.b2, self.fc = nn.Conv2d(8, 10, 3, bias=False), nn.BatchNorm2d(10), nn.Linear(40, 10)

    def few(self, w: Tensor) -> Tensor:
        if self.weights == 1:
            return w.sign() * w.abs().mean()
        w = torch.tanh(w)
        w = w / (2 * w.abs().max()) + 0.5
        return 2 * rounded(w, self.weights) - 1

    def forward(self, x: Tensor) -> Tensor:
        x = rounded(torch.clamp(self.b1(self.first(x)), 0, 1), self.activations)
        x = F.max_pool2d(self.b2(F.conv2d(x, self.few(self.conv.weight))), 2)
        x = rounded(torch.clamp(x, 0, 1), self.activations)
        return self.fc(x.flatten(1))


class LearnedSteps(nn.Module):
    """Steps of their own: for each channel of weights, and for the activations; signed and unsigned."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.most = 2 ** (bits - 1) - 1
        self.first, self.b1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv, self.b2, self.fc = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Linear(8 * 9, 10)
        self.step_w = nn.Parameter(0.02 + 0.05 * torch.rand(8, 1, 1, 1))
        self.step_a, self.step_b = nn.Parameter(torch.tensor(0.31)), nn.Parameter(torch.tensor(0.27))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.clamp(torch.round(self.b1(self.first(x)) / self.step_a), -self.most - 1, self.most) * self.step_a
        w = torch.clamp(torch.round(self.conv.weight / self.step_w), -self.most - 1, self.most) * self.step_w
        x = F.max_pool2d(F.conv2d(x, w, self.conv.bias), 2)
        x = torch.clamp(torch.round(F.relu(self.b2(x)) / self.step_b), 0, 2 * self.most + 1) * self.step_b
        return self.fc(x.flatten(1))


class Ternary(nn.Module):
    """Weights of -c, 0 and c by a threshold of their mean size; activations of -1, 0 and 1."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(64, 40), nn.Linear(40, 40), nn.Linear(40, 10)
        self.b1, self.b2 = nn.BatchNorm1d(40), nn.BatchNorm1d(40)

    def few(self, w: Tensor) -> Tensor:
        limit = 0.7 * w.abs().mean(1, keepdim=True)
        kept = (w.abs() > limit).float()
        scale = (w.abs() * kept).sum(1, keepdim=True) / kept.sum(1, keepdim=True)
        return scale * kept * w.sign()

    def forward(self, x: Tensor) -> Tensor:
        x = self.b1(F.linear(x.flatten(1), self.few(self.fc1.weight)))
        x = torch.sign(x) * (x.abs() > 0.5).float()
        x = self.b2(F.linear(x, self.few(self.fc2.weight), self.fc2.bias))
        x = torch.round(x.clamp(-1, 1))
        return F.linear(x, self.few(self.fc3.weight), self.fc3.bias)


class Clipped(nn.Module):
    """Activations clipped at a learned height, then of 2 bits; weights of 8 bits."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(1.7))
        self.fc1, self.b1, self.fc2 = nn.Linear(64, 32), nn.BatchNorm1d(32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b1(self.fc1(x.flatten(1)))
        x = 0.5 * (x.abs() - (x - self.alpha).abs() + self.alpha)
        x = torch.round(x * 3 / self.alpha) * self.alpha / 3
        scale = self.fc2.weight.abs().max() / 127
        return F.linear(x, torch.round(self.fc2.weight / scale) * scale, self.fc2.bias)


# Series.


class Keywords(nn.Module):
    """Convolutions over time."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.b1 = nn.Conv1d(4, 8, 5, stride=2, padding=2), nn.BatchNorm1d(8)
        self.c2, self.b2 = nn.Conv1d(8, 12, 3, padding=1, bias=False), nn.BatchNorm1d(12)
        self.c3, self.b3 = nn.Conv1d(12, 12, 3, dilation=2, padding="same", bias=False), nn.BatchNorm1d(12)
        self.fc = nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = signed(self.b1(self.c1(x)))
        x = F.max_pool1d(self.b2(F.conv1d(x, signed(self.c2.weight), padding=1)), 2)
        x = F.prelu(self.b3(self.c3._conv_forward(signed(x), signed(self.c3.weight), None)), torch.tensor(0.25)) + x
        return self.fc(F.adaptive_avg_pool1d(x, 1).flatten(1))


class _Signs(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return w.abs().mean() * signed(w)


def parametrized() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.PReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
    for place in (0, 3):
        parametrize.register_parametrization(model[place], "weight", _Signs())
    return nn.Sequential(model, SignWithDetach(), nn.Flatten(), nn.Linear(128, 10))


class RawLevels(nn.Module):
    """Divides by 255 itself, shifts and scales, and pools before it binarizes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Linear(8 * 9, 10, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = 2 * (x / 255.0) - 1
        x = self.norm(F.avg_pool2d(F.conv2d(x, signed(self.conv.weight), self.conv.bias), 2))
        return F.linear(torch.where(x > 0, 1.0, -1.0).flatten(1), signed(self.fc.weight)) / 8


class Functional(nn.Module):
    """Everything from bare parameters and buffers, with groups and reflected edges."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Parameter(torch.randn(8, 1, 3, 3)), nn.Parameter(torch.randn(8, 4, 3, 3))
        self.register_buffer("mean", 0.5 * torch.randn(8))
        self.register_buffer("var", 0.5 + torch.rand(8))
        self.gain, self.shift, self.w3 = (
            nn.Parameter(torch.randn(8)),
            nn.Parameter(torch.randn(8)),
            nn.Parameter(torch.randn(10, 8)),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), signed(self.w1)) / 9
        x = F.batch_norm(x, self.mean, self.var, self.gain, self.shift)  # type: ignore[arg-type]
        x = F.conv2d(F.pad(signed(x), (1, 1, 1, 1), value=0), signed(self.w2), groups=2)
        x = torch.maximum(F.max_pool2d(x, 2), F.avg_pool2d(x, 2)).sum((-1, -2))
        return torch.tanh(x / 10) @ self.w3.t()


class LayerNormed(nn.Module):
    """Norms over the features of each token, and a residual: a block of a binary transformer without its attention."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm1, self.norm2 = nn.Linear(16, 12), nn.LayerNorm(12), nn.LayerNorm(12)
        self.up, self.down, self.head = nn.Linear(12, 24), nn.Linear(24, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.reshape(-1, 4, 16))
        y = F.linear(signed(self.norm1(x)), signed(self.up.weight), self.up.bias)
        x = x + F.linear(signed(y), signed(self.down.weight), self.down.bias)
        return self.head(signed(self.norm2(x)).mean(1))


class SignLinear(nn.Linear):
    """Signs of inputs and of centred weights, times the mean size of these."""

    def forward(self, x: Tensor) -> Tensor:
        made = x.new(x.size())
        made[x >= 0], made[x < 0] = 1, -1
        centred = self.weight - self.weight.mean(-1, keepdim=True)
        return F.linear(made, centred.sign() * self.weight.abs().mean(1, keepdim=True), self.bias)


class WrittenNorm(nn.Module):
    """A layer norm as BERT's code has it, or by the root of the mean square alone."""

    def __init__(self, width: int, *, centred: bool = True) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.centred = centred

    def forward(self, x: Tensor) -> Tensor:
        if not self.centred:
            return F.normalize(x, dim=-1) * x.shape[-1] ** 0.5 * self.weight
        mean = x.mean(-1, keepdim=True)
        spread = (x - mean).pow(2).mean(-1, keepdim=True)
        return self.weight * ((x - mean) / torch.sqrt(spread + 1e-12)) + self.bias


class AttentionBlock(nn.Module):
    """Attention of two heads, its shares as bits or as they are; a residual network of two layers behind it."""

    def __init__(self, width: int, *, bits: bool) -> None:
        super().__init__()
        self.bits = bits
        self.into, self.out = SignLinear(width, 3 * width), SignLinear(width, width)
        self.up, self.down = SignLinear(width, 2 * width), SignLinear(2 * width, width)
        self.first, self.second = WrittenNorm(width), WrittenNorm(width, centred=False)

    def forward(self, x: Tensor) -> Tensor:
        images, tokens, width = x.shape
        parts = self.into(self.first(x)).view(images, tokens, 2, -1).transpose(1, 2).chunk(3, dim=-1)
        query, key, value = (signed(part) for part in parts) if self.bits else parts
        shares = F.softmax(query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5, dim=-1)
        if self.bits:
            shares = (shares / 0.1).round().clamp(0, 1) * 0.1
        x = x + self.out((shares @ value).transpose(1, 2).reshape(images, tokens, width))
        return x + self.down(F.gelu(self.up(self.second(x))))


class Transformer(nn.Module):
    """Patches as tokens, one more that is learned, and blocks of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 16, 4, stride=4)
        self.token, self.place = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 5, 16))
        self.blocks = nn.Sequential(AttentionBlock(16, bits=True), AttentionBlock(16, bits=False))
        self.last = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), tokens], dim=1) + self.place
        return self.last(self.blocks(x)[:, 0])


class PointCloud(nn.Module):
    """Points turned by a matrix that is computed from all of them; the greatest of each feature."""

    def __init__(self) -> None:
        super().__init__()
        self.turn1, self.turn2 = nn.Linear(3, 32), SignLinear(32, 9)
        self.first, self.second = nn.Linear(3, 32), SignLinear(32, 48)
        self.norm, self.last = nn.BatchNorm1d(48), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        images, _, points = x.shape
        x = x.transpose(1, 2)
        turned = self.turn2(F.hardtanh(self.turn1(x)).max(1)[0]).view(-1, 3, 3) + torch.eye(3)
        x = torch.bmm(x, turned).reshape(-1, 3)
        x = self.norm(self.second(self.first(x) * x.abs().mean(-1).view(-1, 1)))
        return F.log_softmax(self.last(x.view(images, points, -1).max(dim=1)[0]), dim=-1)


class GroupNormed(nn.Module):
    """Norms over groups of channels of each image; edges that wrap round."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm1, self.norm2 = nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True)
        self.conv, self.fc = nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular", bias=False), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = signed(self.norm1(self.first(x)))
        x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), signed(self.conv.weight))
        return self.fc(F.relu(self.norm2(x)).amax((2, 3)))


class Recurrent(nn.Module):
    """A binary recurrent layer, unrolled over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.norm, self.fc = nn.Linear(8 + 12, 12), nn.BatchNorm1d(12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.ones(x.shape[0], 12)
        for row in range(x.shape[2]):
            inputs = torch.cat([signed(x[:, 0, row]), h], dim=1)
            h = signed(self.norm(F.linear(inputs, signed(self.cell.weight), self.cell.bias)))
        return self.fc(h)


class Bases(nn.Module):
    """Several binary activations and weights instead of one, summed with factors of their own (ABC-Net)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.bn, self.conv, self.fc = (
            nn.Conv2d(1, 6, 3),
            nn.BatchNorm2d(6),
            nn.Conv2d(6, 6, 3),
            nn.Linear(6, 5),
        )
        self.alphas, self.betas, self.shifts = (
            nn.Parameter(torch.rand(3)),
            nn.Parameter(torch.rand(2)),
            nn.Parameter(torch.randn(2) * 0.5),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.first(x))
        w, total = self.conv.weight, 0
        spread = w.std()
        for beta, shift in zip(self.betas, self.shifts, strict=True):
            bits = signed((x + shift).clamp(0, 1) - 0.5)
            total = total + beta * sum(
                alpha * F.conv2d(bits, signed(w - w.mean() + u * spread))
                for alpha, u in zip(self.alphas, (-1, 0, 1), strict=True)
            )
        return self.fc(F.relu(total).mean((2, 3)))


class Unfolded(nn.Module):
    """A convolution as a matrix product with unfolded windows; parts of a tensor are written."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.norm, self.fc = nn.Parameter(torch.randn(8, 9)), nn.BatchNorm2d(8), nn.Linear(128, 5)

    def forward(self, x: Tensor) -> Tensor:
        windows = F.unfold(x, 3, stride=2, padding=1)
        y = self.norm((signed(self.weight) @ windows).view(x.size(0), 8, 4, 4))
        y = signed(y)
        y[:, ::2] = 2 * y[:, ::2]
        y[:, :, 0] += 1
        return self.fc(y.flatten(1))


class TimeFirst(nn.Module):
    """Rows as time steps in front of the images: a recurrent layer and attention, as PyTorch has them by default."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.attention, self.norm = nn.GRU(8, 6), nn.MultiheadAttention(6, 2), nn.LayerNorm(6)
        self.last = SignLinear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        steps, _ = self.cell(x.squeeze(1)[:, ::4].permute(1, 0, 2))
        later = torch.full((len(steps), len(steps)), -torch.inf).triu(1)
        steps = self.norm(steps + self.attention(steps, steps, steps, attn_mask=later, need_weights=False)[0])
        return self.last(steps[-1]) + steps.mean(dim=0).sum(dim=1, keepdim=True)


class Frames(nn.Module):
    """The same convolutions for each frame of a series, and cells that run over what these give."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.line = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv1d(4, 4, 3, bias=False)
        self.cell, self.last = nn.LSTMCell(4, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        images, frames = x.shape[:2]
        x = signed(F.max_pool2d(self.norm(self.conv(x.flatten(0, 1))), 2)).flatten(2)
        x = F.conv1d(x, signed(self.line.weight)).mean(-1).view(images, frames, 4)
        state = torch.zeros(images, 6), torch.zeros(images, 6)
        for frame in range(frames):
            state = self.cell(x[:, frame] / 4, state)
        return self.last(signed(state[0]))


class Volumes(nn.Module):
    """A video: binary convolutions over space and over time, a real stream beside them, pools over both."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv3d(1, 4, 3, stride=(1, 2, 2), padding=1), nn.BatchNorm3d(4)
        self.space, self.norm2 = nn.Parameter(torch.randn(4, 4, 1, 3, 3)), nn.BatchNorm3d(4)
        self.time, self.norm3 = nn.Parameter(torch.randn(4, 4, 3, 1, 1)), nn.BatchNorm3d(4)
        self.pool, self.mean, self.fc = nn.MaxPool3d((1, 2, 2)), nn.AdaptiveAvgPool3d((2, 1, 1)), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.first(x))
        y = self.norm2(F.conv3d(signed(x), signed(self.space), padding=(0, 1, 1)))
        x = self.pool(x + self.norm3(F.conv3d(signed(y), signed(self.time), padding=(1, 0, 0))))
        return self.fc(self.mean(F.hardtanh(x)).flatten(1))


class Codes(nn.Module):
    """The greatest few of the hidden values, each part of them as its nearest code; straight through."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.table = nn.Linear(64, 24), nn.BatchNorm1d(12), nn.Embedding(6, 4)
        self.hidden, self.last = SignLinear(24, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.hidden(signed(self.first(x.flatten(1)))))
        x = x * (x >= x.topk(4, 1).values[:, -1:])
        near = torch.cdist(x.view(-1, 4), self.table.weight).argmin(1)
        return self.last(x + (self.table(near).view_as(x) - x).detach())


class NearestLevels(nn.Module):
    """Weights and activations of the nearest of sums of powers of two; others by the interval that they lie in."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.hidden, self.last = nn.Linear(64, 24), nn.Linear(24, 24), nn.Linear(24, 6)
        self.norm1, self.norm2 = nn.BatchNorm1d(24), nn.BatchNorm1d(24)
        self.register_buffer("levels", torch.tensor([0, 1, 2, 3, 4, 6, 8, 12]) / 12)
        self.register_buffer("ends", torch.tensor([-0.5, 0.25, 1.0]))
        self.register_buffer("values", torch.tensor([-1.0, 0.0, 0.625, 1.25]))

    def nearest(self, x: Tensor) -> Tensor:
        distance = (x.reshape(-1).unsqueeze(0) - self.levels.unsqueeze(1)).abs()  # type: ignore[operator]
        return self.levels[distance.min(dim=0)[1]].view(x.shape)  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        x = self.nearest(self.norm1(self.first(x.flatten(1))).clamp(0, 1))
        weight = self.hidden.weight.sign() * self.nearest(self.hidden.weight.abs() / self.hidden.weight.abs().max())
        x = self.norm2(F.linear(x, weight))
        return self.last(self.values[torch.bucketize(x, self.ends)])  # type: ignore[index, arg-type]


class Categories(nn.Module):
    """Columns of categories in tables and as bits, others as numbers; two halves joined by a bilinear form."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.bag, self.norm = nn.Embedding(10, 6), nn.EmbeddingBag(10, 6), nn.BatchNorm1d(20)
        self.hidden, self.pairs = SignLinear(20, 16), nn.Bilinear(8, 8, 5)

    def forward(self, x: Tensor) -> Tensor:
        whole = x.long()
        bits = F.one_hot(whole[:, 1], 10)[:, :6].to(x)
        parts = [self.table(whole[:, 0]), self.bag(whole[:, 2:4]), bits, x[:, 4:] / 4]
        a, b = signed(self.hidden(self.norm(torch.cat(parts, dim=1)))).chunk(2, dim=1)
        return self.pairs(a, b)


class FixedGraph(nn.Module):
    """Sums over the edges of a fixed graph; classes by the cosine to a vector of each."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.classes = nn.Linear(4, 12), SignLinear(12, 12), nn.Parameter(torch.randn(5, 12))
        self.mix = nn.Parameter(torch.randn(12))
        self.register_buffer("edges", torch.randint(0, 8, (2, 20)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        start, end = self.edges  # type: ignore[misc]
        x = self.second(x + torch.zeros_like(x).index_add_(1, end, x[:, start]))
        x = (x * (x @ self.mix).sigmoid().unsqueeze(-1)).mean(1)
        return F.normalize(x) @ F.normalize(self.classes).t()


class FixedPoint(nn.Module):
    """A gated recurrent network all of whose values have 5 binary digits behind the point, at each image in turn."""

    def __init__(self, features: int = 2, units: int = 4) -> None:
        super().__init__()
        self.units = units
        self.of_x, self.of_h = nn.Linear(features, 3 * units), nn.Linear(units, 3 * units)
        self.last = nn.Linear(units, 3)

    @staticmethod
    def rounded(x: Tensor) -> Tensor:
        return torch.clamp(torch.round(x * 32) / 32, -8, 8 - 1 / 32)

    def linear(self, layer: nn.Linear, x: Tensor) -> Tensor:
        return self.rounded(self.rounded(x @ self.rounded(layer.weight).T) + self.rounded(layer.bias))

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros(len(x), 3)
        for i, image in enumerate(x):
            h = torch.zeros(1, self.units)
            for row in image.split(1):
                xs, hs = self.linear(self.of_x, row).chunk(3, 1), self.linear(self.of_h, h).chunk(3, 1)
                reset, keep = (
                    self.rounded((a + b) * 0.25 + 0.5).clamp(0, 1) for a, b in zip(xs[:2], hs[:2], strict=True)
                )
                new = self.rounded((xs[2] + reset * hs[2]).clamp(-1, 1))
                h = self.rounded((1 - keep) * new + keep * h)
            out[i] = self.linear(self.last, h)[0]
        return out


class GraphsInOneList(nn.Module):
    """The nodes of all graphs of a batch in one list, and their edges in another, with loops behind them."""

    def __init__(self, nodes: int = 8, features: int = 4) -> None:
        super().__init__()
        self.nodes, self.norm = nodes, nn.BatchNorm1d(features, affine=False)
        self.layers = nn.ModuleList([SignLinear(features, 16), SignLinear(16, 5)])
        self.register_buffer("edges", torch.randint(0, nodes, (2, 20)))

    def forward(self, x: Tensor) -> Tensor:
        images = len(x)
        loops = torch.arange(images * self.nodes)
        start, end = torch.cat([*(self.edges + self.nodes * i for i in range(images)), loops.expand(2, -1)], 1)
        x = self.norm(x.flatten(0, 1))
        for layer in self.layers:
            x = layer(x.norm(1, 1, keepdim=True).div(x.shape[1]) * signed(x))
            sums = x.new_zeros(x.shape).index_add_(0, end, x.index_select(0, start))
            count = x.new_zeros(len(x)).scatter_add_(0, end, x.new_ones(len(end)))
            x = sums / count.clamp(min=1).view(-1, 1)
        return x.view(images, self.nodes, -1).transpose(1, 2)


def hooked() -> nn.Module:
    """Layers that hooks make binary: what they are given, and what they give."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.BatchNorm1d(20), nn.Linear(20, 20), nn.Linear(20, 5))
    model[1].register_forward_hook(lambda layer, given, made: made * torch.linspace(-1, 2, 20))
    for place in (3, 4):
        model[place].register_forward_pre_hook(lambda layer, given: (signed(given[0]),))
    return model


class Segmenter(nn.Module):
    """Down by strides, up again by interpolation, joined; a class for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.down, self.deep, self.norm2 = ScaledConv(6, 8, stride=2), ScaledConv(8, 8), nn.BatchNorm2d(8)
        self.join, self.norm3, self.last = ScaledConv(22, 8), nn.BatchNorm2d(8), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x))
        y = signed(self.norm2(self.down(signed(x))))
        ups = [F.interpolate(y, scale_factor=2.0, mode="bilinear")]
        ups.append(F.interpolate(self.deep(y), size=x.shape[2:], mode="bicubic", align_corners=True))
        joined = torch.cat([*(signed(up - 0.1) for up in ups), signed(x)], 1)
        return self.last(F.leaky_relu(self.norm3(self.join(joined))))


class SuperResolution(nn.Module):
    """An image of twice the size: what a real image resized lacks."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.body = nn.Conv2d(1, 8, 3, padding=1), ScaledConv(8, 8)
        self.last = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.glu(self.first(x).repeat_interleave(2, dim=1), dim=1)
        y = y + self.body(signed(y))
        return F.pixel_shuffle(self.last(y), 2) + F.interpolate(x, scale_factor=2, mode="bicubic")


class Experts(nn.Module):
    """Convolutions whose weights each image chooses among several."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.norm2 = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.choice, self.last = nn.Linear(8, 3), nn.Linear(8, 5)
        self.experts, self.biases = nn.Parameter(torch.randn(3, 8, 4, 3, 3)), nn.Parameter(torch.randn(3, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x))
        n, channels, rows, columns = x.shape
        gates = torch.sigmoid(4 * self.choice(x.mean((2, 3))))
        chosen = (gates == gates.max(dim=1, keepdim=True)[0]).to(x.dtype)
        weight, bias = (chosen @ part.flatten(1) for part in (signed(self.experts), self.biases))
        y = F.conv2d(
            signed(x).view(1, n * channels, rows, columns),
            weight.view(n * 8, 4, 3, 3),
            bias.flatten(),
            padding=1,
            groups=2 * n,
        )
        return self.last(F.relu(self.norm2(y.view(n, 8, rows, columns))).mean((2, 3)))


class Logic(nn.Module):
    """Counts of equal bits, and gates of pairs of bits."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(64, 24), nn.BatchNorm1d(24), nn.Linear(24, 5)
        self.weight = nn.Parameter(torch.randn(8, 24))

    def forward(self, x: Tensor) -> Tensor:
        bits = self.norm(self.first(x.flatten(1))) > 0
        counts = (~(bits[:, None] ^ (self.weight > 0))).sum(-1) - 12
        a, b = bits.chunk(2, dim=1)
        gates = torch.cat([(a & ~b) | (counts > 0).repeat(1, 2)[:, :12], a ^ b], dim=1)
        return self.last(gates.to(x.dtype)) + counts[:, :5]


class Patches(nn.Module):
    """A layer over patches that overlap, put together again; sums over areas, pools of uneven windows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm, self.last = nn.Linear(16, 18), nn.BatchNorm2d(2), nn.Linear(38, 5)

    def forward(self, x: Tensor) -> Tensor:
        patches = F.unfold(x.cumsum(2).cumsum(-1) - 2, 4, stride=2, padding=1).transpose(1, 2)
        sums = F.linear(signed(patches), signed(self.layer.weight)).transpose(1, 2)
        y = self.norm(F.fold(sums, (8, 8), 3, stride=2, padding=1)).transpose(2, 3)
        y = torch.where(y > 0.3, y, self.norm.bias.view(2, 1, 1))
        pooled = [F.adaptive_avg_pool2d(y, 3), F.adaptive_max_pool2d(F.logsigmoid(y), 3)]
        return self.last(torch.cat([part.flatten(1) for part in pooled] + [y.flatten(2).logsumexp(2)], dim=1))


class Ranged(nn.Module):
    """Levels between the least and the greatest value that training saw."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.top = 2**bits - 1
        self.register_buffer("least", torch.zeros(1))
        self.register_buffer("reach", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.least, self.reach = x.detach().min()[None], (x.max() - x.min()).detach()[None]
        return self.levels(x, self.least, self.reach, self.top)

    @staticmethod
    def levels(x: Tensor, least: Any, reach: Any, top: int) -> Tensor:
        """`top` + 1 of them, of which the least is no multiple of their distance."""
        scale = reach / top
        rounded = x.clone().add_(-least).div_(scale).clamp_(0, top).round_().mul_(scale).add_(least)
        return x + (rounded - x).detach()


class RangedConv(nn.Conv2d):
    def __init__(self, inputs: int, outputs: int, bits: int, **options: Any) -> None:
        super().__init__(inputs, outputs, 3, padding=1, **options)
        self.of_inputs = Ranged(bits)

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight.detach()
        rounded = Ranged.levels(self.weight, w.min(), w.max() - w.min(), self.of_inputs.top)
        x = self.of_inputs(x)
        products = (self._conv_forward(a, b, None) for a, b in ((x, rounded.detach()), (x.detach(), rounded)))
        first, second = products  # each for one of the two gradients
        return first + second - second.detach()


class RangeNorm(nn.Module):
    """Divides by the range of each channel instead of its deviation, and takes few-bit inputs."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.of_inputs = Ranged(8)
        self.gain, self.offset = nn.Parameter(torch.randn(channels, 1, 1)), nn.Parameter(torch.randn(channels, 1, 1))
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("reach", torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.of_inputs(x)
        if self.training:
            x_ = x.detach().transpose(0, 1).flatten(1)
            self.mean, self.reach = x_.mean(1)[:, None, None], (x_.amax(1) - x_.amin(1))[:, None, None]
        return (x - self.mean) / (self.reach + 1e-5) * self.gain + self.offset


def ranges() -> nn.Module:
    blocks = [(1, 6, 8), (6, 8, 4), (8, 8, 1)]
    layers = [part for a, b, bits in blocks for part in (RangedConv(a, b, bits), RangeNorm(b), nn.ReLU())]
    return nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), Ranged(8), nn.Linear(128, 10))


SMALL, IMAGE, COLOURS = (1, 8, 8), (1, 10, 10), (3, 12, 12)
_COLOUR8 = (3, 8, 8)

FORMS: dict[str, Form] = {
    "paper dense": Form("dense, a test of the input's width, hardtanh", PaperDense, SMALL),
    "paper conv": Form("convolution, pooling before and behind the norm", paper_conv, IMAGE),
    "paper VGG": Form("convolution, hardtanh, a deviation per channel", paper_vgg, _COLOUR8, COLOUR),
    "BinaryNet dense": Form("dense, assignments of weight.data and x.data", BinaryNetDense, SMALL),
    "BinaryNet VGG": Form("convolution, assignments of weight.data and x.data", BinaryNetVGG, _COLOUR8, COLOUR),
    "real ends": Form("dense, real ends with biases, 0/1 spikes", RealEnds, SMALL),
    "shared layer": Form("dense, one layer used twice, writing in place", SharedLayer, SMALL),
    "two heads": Form("one of several heads by its key", TwoHeads, SMALL, NORMAL | {"output": "head2"}),
    "nested heads": Form("one of several heads by its module", TupleHeads, SMALL, NORMAL | {"output": "head1"}),
    "mixer": Form("layers over tokens and channels, a residual", Mixer, SMALL),
    "XNOR NiN": Form("norm, sign, convolution, ReLU; mean|w|; real ends", XnorNiN, _COLOUR8, COLOUR),
    "XNOR with K": Form("sums times the mean size of their inputs", XnorScaledInputs, SMALL),
    "Bi-Real": Form("residual, polynomial sign, real pooled shortcut", BiReal, (3, 16, 16), COLOUR),
    "ReAct": Form("residual, shifted signs, RPReLU, doubled channels", react, COLOURS, COLOUR),
    "ResNet with padded shortcuts": Form("residual, strided and zero-padded shortcut", resnet_padded, COLOURS, COLOUR),
    "DenseNet": Form("concatenation, a real transition", densenet, SMALL),
    "MeliusNet": Form("concatenation, slices improved", melius, COLOURS, COLOUR),
    "MobileNet": Form("depthwise and pointwise", mobilenet, COLOURS, COLOUR),
    "ShuffleNet": Form("groups, channel shuffle", shufflenet, SMALL),
    "Inception": Form("parallel branches", inception, SMALL),
    "NiN": Form("binary to the end, global mean as head", NiN, SMALL),
    "Real-to-binary": Form("a sigmoid gate from the whole image", Gated, SMALL),
    "IR-Net": Form("standardised weights, powers of two", InfoRetaining, _COLOUR8, COLOUR),
    "skip connection": Form("strided down, nearest up, joined", SkipNet, SMALL),
    "DoReFa 1W2A": Form("1-bit weights, 2-bit activations", lambda: DoReFa(1, 2), SMALL),
    "DoReFa 2W2A": Form("2-bit weights and activations", lambda: DoReFa(2, 2), SMALL),
    "DoReFa 4W4A": Form("4-bit weights and activations", lambda: DoReFa(4, 4), SMALL),
    "LSQ 3 bits": Form("learned steps per channel", lambda: LearnedSteps(3), _COLOUR8, COLOUR),
    "ranges": Form("levels from the least to the greatest value, of inputs, weights and norms", ranges, SMALL),
    "ternary": Form("ternary weights and activations", Ternary, SMALL),
    "PACT": Form("clipped 2-bit activations, 8-bit weights", Clipped, SMALL),
    "keywords": Form("Conv1d, dilation, PReLU, residual", Keywords, (4, 32)),
    "parametrized": Form("weights by torch.nn.utils.parametrize", parametrized, SMALL),
    "data parallel": Form("wrapped in nn.DataParallel", lambda: nn.DataParallel(PaperDense()), SMALL),
    "raw levels": Form("divides by 255 itself, mean pooling before the sign", RawLevels, SMALL, {}),
    "layer norm": Form("norms of each token, residual", LayerNormed, SMALL),
    "transformer": Form("attention, shares as bits or real, written norms, GELU", Transformer, SMALL),
    "point cloud": Form("points times a matrix of the image's own, scales of each, maxima", PointCloud, (3, 12)),
    "group norm": Form("norms of each image, edges that wrap", GroupNormed, SMALL),
    "recurrent": Form("unrolled over time, first value constant", Recurrent, SMALL),
    "ABC-Net": Form("several binary bases", Bases, SMALL),
    "unfolded": Form("unfold and matrix product, parts written", Unfolded, SMALL),
    "time first": Form("GRU and masked attention, images on the second axis", TimeFirst, SMALL),
    "fixed point": Form("a GRU of fixed point, image by image, each result written in place", FixedPoint, (2, 2)),
    "frames": Form("layers for each frame of a series, LSTM cells over them", Frames, (3, 1, 8, 8)),
    "volumes": Form("videos: convolutions and pools over space and time", Volumes, (1, 6, 8, 8)),
    "codes": Form("the greatest few of each row, nearest codes", Codes, SMALL),
    "nearest levels": Form("nearest of sums of powers of two, tables by intervals", NearestLevels, SMALL),
    "categories": Form("embeddings, one-hot columns, a bilinear form", Categories, (6,), {"raw": True, "max_level": 9}),
    "fixed graph": Form("sums over edges, gates, cosines as classes", FixedGraph, (8, 4)),
    "graphs in one list": Form("the nodes of a batch in one list, means over edges", GraphsInOneList, (8, 4)),
    "hooks": Form("binary by forward hooks", hooked, SMALL),
    "segmentation": Form("a class for each pixel, bilinear and bicubic up, joined", Segmenter, SMALL),
    "super-resolution": Form("a larger image, pixel shuffle, bicubic skip, gated channels", SuperResolution, SMALL),
    "experts": Form("convolutions with weights that each image chooses", Experts, SMALL),
    "logic": Form("counts of equal bits, gates of pairs of bits", Logic, SMALL),
    "patches": Form("overlapping patches put together, sums over areas, uneven pools", Patches, SMALL),
    "functional": Form("bare parameters, reflected edges, maximum of paths", Functional, SMALL),
}


def made(name: str, seed: int = 0) -> tuple[nn.Module, dict[str, Any]]:
    """The model of a form, in eval mode, and what `convert` is told."""
    form = FORMS[name]
    torch.manual_seed(seed)
    model = form.make()
    levels = images(name, 64, seed + 1)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            module.momentum = None
            if module.affine:
                nn.init.normal_(module.weight, 0.5, 1.0)
                nn.init.normal_(module.bias, 0.0, 0.5)
    with torch.no_grad():
        model.train()(fed(name, levels).float())
    return model.eval(), form.options | {"input_shape": form.shape}


def images(name: str, count: int, seed: int) -> NDArray[Any]:
    """Random levels (count, ...) for a form."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, FORMS[name].options.get("max_level", 255) + 1, (count, *FORMS[name].shape)).astype(np.uint8)


def fed(name: str, levels: NDArray[Any]) -> Tensor:
    """What the model takes for these levels, float64."""
    x, options = torch.from_numpy(levels.astype(np.float64)), FORMS[name].options
    if "mean" not in options:
        return x
    shape = (-1, *(1 for _ in levels.shape[2:]))
    mean, std = (torch.tensor(options[key], dtype=torch.float64).reshape(shape) for key in ("mean", "std"))
    return (x / 255 - mean) / std
