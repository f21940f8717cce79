"""Published forms of binarized networks, compiled, beside PyTorch in float32, both on one thread.

    python benchmarks/acyclic.py             # 3x32x32 pixels, and a dense network of 784
    python benchmarks/acyclic.py --large     # the residual networks on 3x224x224 too

Random weights and norms. The kernels' classes must equal the reference implementation's before anything is timed;
PyTorch is given weights that are binarized already. Times are the processor's, of one thread. Turns of both alternate
in one process and the best of each counts, so that a busy machine disturbs both alike.

The bound is the least time of the sums alone: words of signs counted at the rates of `inference.Machine`, one float64
product for each other weight, at the rate of a matrix in the first-level cache, or one pass over all weights a batch,
if that is longer. Streams, thresholds and pooling are not in it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from inference import Machine, read_words
from torch import Tensor, nn

from lava_meta.converters.lowering.acyclic import to_acyclic
from lava_meta.graph.acyclic import AcyclicGraph
from lava_meta.graph.nodes import BinaryWeight, Conv, Gather, Linear, Pool, Threshold
from lava_meta.graph.packed.acyclic import PackedAcyclic
from lava_meta.graph.packed.matrix import laid, multiply

IMAGES = (1, 32)
TURNS = 7


def sign(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


def binary_conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Weights of one size a channel: a convolution that is binary when it is converted."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    weight = conv.weight.data
    conv.weight.data = sign(weight) * weight.abs().mean((1, 2, 3), keepdim=True)
    return conv


class Sign(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return sign(x)


def vgg() -> nn.Module:
    """2 x (128, 256, 512) channels, two dense layers of 1024."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (128, 128, 256, 256, 512, 512):
        layers.append(binary_conv(channels, width, 3))
        if channels == width:
            layers.append(nn.MaxPool2d(2))
        layers += [nn.BatchNorm2d(width), Sign()]
        channels = width
    layers.append(nn.Flatten())
    features = 512 * 16
    for width in (1024, 1024):
        linear = nn.Linear(features, width, bias=False)
        linear.weight.data = sign(linear.weight.data)
        layers += [linear, nn.BatchNorm1d(width), Sign()]
        features = width
    last = nn.Linear(features, 10, bias=False)
    last.weight.data = sign(last.weight.data)
    return nn.Sequential(*layers, last)


class Residual(nn.Module):
    """`x + norm(conv(sign(x)))`, with a pooled real branch if the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv, self.norm = binary_conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.short: nn.Module = nn.Identity()
        if stride > 1:
            real = nn.Conv2d(inputs, outputs, 1, bias=False)
            self.short = nn.Sequential(nn.AvgPool2d(2), real, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.norm(self.conv(sign(x))) + self.short(x)
        return made


class Shifted(nn.Module):
    """A 3x3 and a 1x1 convolution with shifted signs and PReLUs; twice as many channels come from two 1x1."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.shift = nn.ParameterList([nn.Parameter(0.1 * torch.randn(inputs, 1, 1)) for _ in range(2)])
        self.wide, self.norm = binary_conv(inputs, inputs, 3, stride), nn.BatchNorm2d(inputs)
        self.narrow = nn.ModuleList([binary_conv(inputs, inputs, 1) for _ in range(outputs // inputs)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(inputs) for _ in range(outputs // inputs)])
        self.first, self.last = nn.PReLU(inputs), nn.PReLU(outputs)
        self.pool: nn.Module = nn.AvgPool2d(2) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.norm(self.wide(sign(x + self.shift[0]))) + self.pool(x))
        binary = sign(x + self.shift[1])
        parts = [norm(conv(binary)) + x for conv, norm in zip(self.narrow, self.norms, strict=True)]
        made: Tensor = self.last(torch.cat(parts, 1))
        return made


class Headed(nn.Module):
    """Blocks, the mean of each map, a real layer."""

    def __init__(self, blocks: list[nn.Module], channels: int) -> None:
        super().__init__()
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        classes: Tensor = self.head(self.blocks(x).mean((2, 3)))
        return classes


def stem(channels: int, *, large: bool) -> list[nn.Module]:
    if not large:
        return [nn.Conv2d(3, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)]
    first = nn.Conv2d(3, channels, 7, 2, 3, bias=False)
    return [first, nn.BatchNorm2d(channels), nn.MaxPool2d(3, 2, 1)]


def bi_real(*, large: bool = False) -> nn.Module:
    """Sixteen binary convolutions of 64 to 512 channels."""
    blocks, inputs = stem(64, large=large), 64
    for outputs in (64, 128, 256, 512):
        for _ in range(4):
            blocks.append(Residual(inputs, outputs, 1 if inputs == outputs else 2))
            inputs = outputs
    return Headed(blocks, 512)


def react(*, large: bool = False) -> nn.Module:
    """Of the shape of MobileNet: pairs of 3x3 and 1x1, 32 to 512 channels."""
    plan = [(32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1)]
    return Headed([*stem(32, large=large), *(Shifted(*block) for block in plan)], 512)


def real_ended() -> nn.Module:
    """784-1024-1024-1024-10, the first and the last layer real."""
    hidden = [nn.Linear(1024, 1024, bias=False) for _ in range(2)]
    for linear in hidden:
        linear.weight.data = sign(linear.weight.data)
    behind: list[nn.Module] = [part for linear in hidden for part in (linear, nn.BatchNorm1d(1024), Sign())]
    return nn.Sequential(nn.Linear(784, 1024), nn.BatchNorm1d(1024), Sign(), *behind, nn.Linear(1024, 10))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "real-ended": (real_ended, (784,)),
    "vgg": (vgg, (3, 32, 32)),
    "bi-real": (bi_real, (3, 32, 32)),
    "react": (react, (3, 32, 32)),
}
LARGE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "bi-real 224": (lambda: bi_real(large=True), (3, 224, 224)),
    "react 224": (lambda: react(large=True), (3, 224, 224)),
}


def made(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> tuple[nn.Module, AcyclicGraph]:
    """A network with random weights and norms, and its graph."""
    torch.manual_seed(0)
    model = make()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.5)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.3)
    model.eval().requires_grad_(requires_grad=False)
    return model, to_acyclic(model, mean=0.5, std=0.25, input_shape=shape).lowered.graph


def seconds(function: Callable[[], Any]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def products() -> float:
    """Products of float64 a second."""
    weight, x, out = laid(np.ones((32, 96))), np.ones((64, 96)), np.zeros((64, 32), np.int64)
    multiply(weight, x, 0, 0, out, 0)
    return 32 * 96 * 64 / min(seconds(lambda: multiply(weight, x, 0, 0, out, 0)) for _ in range(200))


def least(graph: AcyclicGraph, machine: Machine, images: int) -> float:
    """The bound, in seconds an image."""
    counted = others = kept = 0.0
    for layer in graph.placed.values():
        node = layer.node
        if isinstance(node, (Linear, Conv)):
            uses = node.weight.fan_in * layer.n_out
            source = graph.nodes.get(node.sources[0])
            while isinstance(source, (Gather, Pool)):
                source = graph.nodes.get(source.sources[0])
            binary = isinstance(node.weight, BinaryWeight) and isinstance(source, Threshold)
            rate = machine.windows if isinstance(node, Conv) else machine.words
            counted += uses / 64 / rate if binary else 0
            others += 0 if binary else uses
            kept += node.weight.values.size * (1 / 64 if binary else 1)
    weights = np.ones(int(kept), np.uint64)
    read_words(weights)
    passed = min(seconds(lambda: read_words(weights)) for _ in range(30)) / images
    return max(counted + others / products(), passed)


def measure(name: str, make: Callable[[], nn.Module], shape: tuple[int, ...], machine: Machine) -> None:
    """Print a network's rows."""
    model, graph = made(make, shape)
    packed = PackedAcyclic(graph)
    pixels = np.random.default_rng(1).integers(0, 256, (max(IMAGES), graph.n_in), dtype=np.uint8)
    np.testing.assert_array_equal(packed.sums(pixels[:2]), graph.sums(pixels[:2]))
    given = (torch.from_numpy(pixels).to(torch.float32).reshape(-1, *shape) / 255 - 0.5) / 0.25
    for images in IMAGES:
        ours: list[float] = []
        plain: list[float] = []
        for _ in range(TURNS):
            ours.append(seconds(lambda: packed.sums(pixels[:images])) / images)  # noqa: B023
            with torch.inference_mode():
                plain.append(seconds(lambda: model(given[:images])) / images)  # noqa: B023
        bound = least(graph, machine, images)
        print(
            f"{name:14}{images:4}{1e6 * min(ours):12.0f}{1e6 * min(plain):12.0f}{min(plain) / min(ours):8.1f}x"
            f"{1e6 * bound:11.0f}{bound / min(ours):8.0%}",
            flush=True,
        )


def rows(names: list[str], machine: Machine) -> None:
    """Print the rows of these networks."""
    print(
        f"\nacyclic networks, load {os.getloadavg()[0]:.1f}; us an image, best of {TURNS}\n"
        f"{'network':14}{'n':>4}{'kernels':>12}{'torch':>12}{'torch/':>9}{'bound':>11}{'of it':>8}"
    )
    for name in names:
        make, shape = (NETWORKS | LARGE)[name]
        measure(name, make, shape, machine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="3x224x224 too")
    parser.add_argument("--network", choices=[*NETWORKS, *LARGE], action="append", help="only this one; repeatable")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows(arguments.network or [*NETWORKS, *(LARGE if arguments.large else ())], Machine())


if __name__ == "__main__":
    main()
