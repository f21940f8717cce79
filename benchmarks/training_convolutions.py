"""A step of the paper's convolutional networks, ours beside the public code's: `training.py --convolutions`.

    usps    1x28x28, two convolutions of 5x5 and 64 channels, each with means of 2x2, batch norm and sign; a dense layer
    vgg     3x32x32, six convolutions of 3x3 and 128 to 512 channels, two dense layers of 2048

A step is forward, backward and update. Its parts are timed apart: `sums` is PyTorch's convolutions and products alone,
forward and backward, with float32 weights of +1 and -1, which is what both must at least do in this form.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import statistics
import sys
import time
import types
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lava_meta.nn import BinaryConv2d, BinaryLinear, Pixels, Sign
from lava_meta.training import TrainSettings
from lava_meta.training.steps import step_factory

M, DECAY = 1.35, 1e-7
SHAPES = {"usps": (1, 28, 28), "vgg": (3, 32, 32)}
BATCH = {"usps": 100, "vgg": 20}
_FILES = {"usps": "MNIST-USPS/models_utils.py", "vgg": "Stream_Learning_CIFAR10*/model_utils.py"}


def usps() -> nn.Sequential:
    layers: list[nn.Module] = [Pixels()]
    for inputs in (1, 64):
        layers += [BinaryConv2d(inputs, 64, 5, padding=1), nn.AvgPool2d(2), _norm(nn.BatchNorm2d, 64), Sign()]
    return nn.Sequential(*layers, nn.Flatten(), BinaryLinear(64 * 25, 10), _norm(nn.BatchNorm1d, 10))


def vgg() -> nn.Sequential:
    layers: list[nn.Module] = [Pixels()]
    inputs = 3
    for place, width in enumerate((128, 128, 256, 256, 512, 512)):
        layers.append(BinaryConv2d(inputs, width, 3, padding=int(place < 5)))
        layers += [nn.MaxPool2d(2)] * (place % 2)
        layers += [nn.BatchNorm2d(width), Sign()]
        inputs = width
    layers.append(nn.Flatten())
    for features in (512 * 9, 2048):
        layers += [BinaryLinear(features, 2048), nn.BatchNorm1d(2048), Sign(), nn.Dropout(0.5)]
    return nn.Sequential(*layers, BinaryLinear(2048, 10), nn.BatchNorm1d(10))


def _norm(kind: Any, features: int) -> nn.Module:
    norm: nn.Module = kind(features, affine=False, track_running_stats=False)
    return norm


class Ours:
    """Our step; `fast` is what `train(fast=True)` takes for a model with convolutions."""

    def __init__(self, name: str, *, fast: bool) -> None:
        torch.manual_seed(0)
        self.model = {"usps": usps, "vgg": vgg}[name]().train()
        self.settings = TrainSettings(epochs=1, batch_size=BATCH[name], m=M, weight_decay=DECAY, fast=fast)
        self._step = step_factory(fast=fast)(self.model, shown=False)
        self.optimizer = self.settings.make_optimizer(self.model, **self._step.optimizer_form)

    def forward_backward(self, x: Tensor, y: Tensor) -> None:
        self._step.loss(x, y)
        self._step.backward()

    def update(self) -> None:
        self._step.update(self.optimizer)

    def step(self, x: Tensor, y: Tensor) -> None:
        self.forward_backward(x, y)
        self.update()


class Public:
    """The public code's model, optimizer and loop."""

    def __init__(self, name: str, folder: Path) -> None:
        file = next(iter(folder.glob(_FILES[name])), None)
        if file is None:
            raise SystemExit(f"{folder} holds no {_FILES[name]}: is it a clone of the public code?")
        if "pandas" not in sys.modules and importlib.util.find_spec("pandas") is None:  # for its tables alone
            empty = sys.modules["pandas"] = types.ModuleType("pandas")
            empty.__spec__ = importlib.machinery.ModuleSpec("pandas", None)  # torch asks for it
        spec = importlib.util.spec_from_file_location(f"public_{name}", file)
        assert spec is not None
        assert spec.loader is not None
        self.code = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.code)
        torch.manual_seed(0)
        meta: Any = M
        if name == "usps":
            self.model = self.code.ConvBNN(init="gauss", width=0.01, norm="bn", bnl=False)
            meta = {}
            for label, parameter in self.model.named_parameters():
                parameter.newname = f"l{label[9]}"  # layers.cvN.weight: what its optimizer looks a gate up by
                meta[parameter.newname] = M
        else:
            self.model = self.code.ConvBNN()
        self.optimizer = self.code.Adam_meta(self.model.parameters(), lr=0.005, meta=meta, weight_decay=DECAY)
        self.extra = (Namespace(ewc=False, si=False),) if name == "usps" else ()

    def step(self, x: Tensor, y: Tensor) -> None:
        pixels = x.to(torch.float32).div_(255)
        self.code.train(self.model, [(pixels, y)], 0, self.optimizer, torch.device("cpu"), *self.extra)

    def update(self) -> None:
        self.optimizer.step()


def sums(model: nn.Module, x: Tensor) -> Callable[[], None]:
    """The convolutions and products of a step alone, forward and backward, on inputs of the sizes that they get."""
    work = []
    image = x.to(torch.float32) / 255
    hooks = [
        module.register_forward_hook(lambda module, given, out: work.append((module, given[0].detach(), out.detach())))
        for module in model.modules()
        if isinstance(module, (BinaryConv2d, BinaryLinear))
    ]
    model(image)
    for hook in hooks:
        hook.remove()

    def run() -> None:
        for place, (module, given, out) in enumerate(work):
            weight = module.binary_weight.detach().requires_grad_()
            inputs = given.requires_grad_(place > 0)
            if isinstance(module, nn.Conv2d):
                result = nn.functional.conv2d(inputs, weight, None, module.stride, module.padding)
            else:
                result = nn.functional.linear(inputs, weight)
            result.backward(out)
            given.grad = None

    return run


def compare(reference: Path | None, repetitions: int) -> None:
    """Medians of alternating turns."""
    print(f"{'network':>8} {'way':8}{'step ms':>10}{'update ms':>11}   public/way: step, update")
    for name, shape in SHAPES.items():
        generator = torch.Generator().manual_seed(1)
        x = torch.randint(0, 256, (BATCH[name], *shape), generator=generator, dtype=torch.uint8)
        y = torch.randint(0, 10, (BATCH[name],), generator=generator)
        ways: dict[str, Any] = {"fast": Ours(name, fast=True), "clear": Ours(name, fast=False)}
        alone = sums(ways["clear"].model, x)
        if reference is not None:
            ways["public"] = Public(name, reference)
        times: dict[str, dict[str, list[float]]] = {way: {"step": [], "update": []} for way in [*ways, "sums"]}
        for way in ways.values():
            way.step(x, y)  # compiles, allocates
        for _ in range(repetitions):
            for way, one in ways.items():
                times[way]["step"].append(_seconds(lambda: one.step(x, y)))  # noqa: B023
                times[way]["update"].append(_seconds(one.update))
            times["sums"]["step"].append(_seconds(alone))
        found = {way: {what: statistics.median(v) for what, v in one.items() if v} for way, one in times.items()}
        base = [*ways][-1]
        for way, one in found.items():
            ratios = ", ".join(f"{found[base][what] / one[what]:.2f}x" for what in one)
            update = f"{1e3 * one['update']:11.2f}" if "update" in one else f"{'':11}"
            print(f"{name:>8} {way:8}{1e3 * one['step']:10.2f}{update}   {ratios}", flush=True)


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
