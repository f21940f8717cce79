"""Residual networks with binary layers inside: what metaplasticity keeps where only some weights are binary.

Blocks as in Bi-Real nets: a real stream runs past every binary layer, which takes its signs, or units of 0 and 1, and
adds its own norm's result. Metaplasticity gates the hidden weights of the binary layers; real first and last layers, if
there are any, and norms have none.

Source of the blocks: Liu et al., Bi-Real Net, ECCV 2018 (arXiv 1808.00278).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from pydantic import PositiveInt
from torch import Tensor, nn

from lava_meta.data.scenarios import Scenario, dataset_sequence, permuted_tasks
from lava_meta.experiments.common.claims import Claim
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results, Run
from lava_meta.experiments.common.figures import permuted_task_figures, task_curves
from lava_meta.experiments.common.settings import changed
from lava_meta.experiments.common.training import (
    TRAINING,
    TrainingSettings,
    batch_norm_options,
    load,
    measured,
    train_arm,
)
from lava_meta.io.config import Several
from lava_meta.nn import BinaryConv2d, BinaryLinear, Pixels, select_task
from lava_meta.nn.networks import norm_module, seeded, unit_kind
from lava_meta.plotting.figure import Figure
from lava_meta.training import TrainSettings

Ends = Literal["binary", "real"]
S = TypeVar("S", bound="ResidualSettings")


@dataclass(frozen=True)
class ResidualSettings(TrainingSettings):
    """`ends` are the kinds of first and last layer; each makes an arm of every m."""

    ends: Several[Ends] = ("binary", "real")
    width: PositiveInt = 256  # of the stream: units, or channels
    blocks: PositiveInt = 2
    norm: Literal["fixed", "batch", "layer"] = "batch"  # or layer: the stream needs one scale
    training: TrainSettings = replace(TRAINING, fast=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm == "fixed":
            raise ValueError(f"norm is {self.norm!r}; a residual network takes batch or layer")


class Residual(nn.Module):
    """`y = x + norm(binary(units(x)))`."""

    def __init__(self, units: nn.Module, binary: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.sign, self.binary, self.norm = units, binary, norm

    def forward(self, x: Tensor) -> Tensor:
        passed: Tensor = x + self.norm(self.binary(self.sign(x)))
        return passed


class ResidualNet(nn.Sequential):
    """Layers in a row, whose batch norms can be told the task."""

    def select_task(self, task: int) -> None:
        """Use the affine and statistics of `task`."""
        select_task(self, task)


def dense_network(settings: ResidualSettings, scenario: Scenario, seed: int) -> ResidualNet:
    """Pixels, first layer, residual blocks of dense layers, units, last layer; a norm behind each."""
    images = scenario.train[0]
    inputs = math.prod(images.shape)

    def layers() -> list[nn.Module]:
        width, (unit, _) = settings.width, unit_kind(settings.activation)
        blocks = [
            Residual(unit(), BinaryLinear(width, width), _norm(settings, scenario, width))
            for _ in range(settings.blocks)
        ]
        return [nn.Flatten(), _dense(settings, inputs, width), _norm(settings, scenario, width), *blocks]

    return _network(settings, scenario, seed, layers, settings.width)


def conv_network(settings: ResidualSettings, scenario: Scenario, seed: int) -> ResidualNet:
    """The same of 3x3 convolutions, the first with stride 2; behind the first block means of 2x2."""
    channels, rows, columns = scenario.train[0].shape
    sides = [-(-extent // 2) // 2 for extent in (rows, columns)]

    def layers() -> list[nn.Module]:
        width, (unit, _) = settings.width, unit_kind(settings.activation)
        first = (BinaryConv2d if settings.ends[0] == "binary" else _RealConv)(channels, width, 3, 2, 1)
        blocks = [
            Residual(unit(), BinaryConv2d(width, width, 3, padding=1), _norm(settings, scenario, width, maps=True))
            for _ in range(settings.blocks)
        ]
        return [first, _norm(settings, scenario, width, maps=True), blocks[0], nn.AvgPool2d(2), *blocks[1:]]

    return _network(settings, scenario, seed, layers, settings.width * math.prod(sides))


class _RealConv(nn.Conv2d):
    """Without bias, with the arguments of `BinaryConv2d`."""

    def __init__(self, inputs: int, channels: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__(inputs, channels, kernel, stride, padding, bias=False)


def _network(
    settings: ResidualSettings, scenario: Scenario, seed: int, layers: Callable[[], list[nn.Module]], features: int
) -> ResidualNet:
    images = scenario.train[0]
    pixels = Pixels(round(images.mean_level), 1 / images.std_level, images.max_level)
    with seeded(seed):
        body = layers()
        last = _dense(settings, features, scenario.classes)
        unit, _ = unit_kind(settings.activation)
        return ResidualNet(pixels, *body, unit(), nn.Flatten(), last, _norm(settings, scenario, scenario.classes))


def _dense(settings: ResidualSettings, inputs: int, outputs: int) -> nn.Module:
    if settings.ends[0] == "binary":
        return BinaryLinear(inputs, outputs)
    return nn.Linear(inputs, outputs, bias=False)


def _norm(settings: ResidualSettings, scenario: Scenario, units: int, *, maps: bool = False) -> nn.Module:
    return norm_module(settings.norm, units, 1.0, batch_norm_options(settings, scenario), maps=maps)


def arms(settings: S) -> dict[str, S]:
    """Every m with every kind of ends."""
    return {
        f"{ends} ends, m = {m:g}": replace(settings, ends=(ends,), m=(m,)) for ends in settings.ends for m in settings.m
    }


def claims(settings: ResidualSettings, results: Results) -> Sequence[Claim]:
    """The first task is kept, with either kind of ends."""
    found = []
    for ends in settings.ends:
        labels = [f"{ends} ends, m = {m:g}" for m in settings.m if m > 0]
        best = max(labels, key=lambda label: results.mean(label, "ACC"))
        plain = f"{ends} ends, m = 0"
        said = "; ".join(results.apart(metric, plain, best) for metric in ("ACC", "task 1"))
        found.append(Claim(f"{ends} ends: metaplasticity keeps more", said, results.above(best, plain, "ACC")))
    return found


def _trained(run: Run[S], scenario: Scenario, make: Callable[..., ResidualNet]) -> Measurement:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "no binary layer uses")  # real ends are meant to be real
        return measured(train_arm(run, scenario, make)[1])


# Permuted images.


@dataclass(frozen=True)
class PermutedSettings(ResidualSettings):
    """The data set, and how many permutations of its pixels are learned one after the other."""

    data: str = "mnist"
    tasks: PositiveInt = 3


def measure_permuted(run: Run[PermutedSettings]) -> Measurement:
    """Train one arm on the permutations."""
    settings = run.settings
    scenario = permuted_tasks(load(settings, settings.data, run.seed), settings.tasks, run.seed)
    return _trained(run, scenario, dense_network)


def permuted_figures(settings: PermutedSettings, results: Results) -> Mapping[str, Figure]:
    """Accuracies over the epochs and at the end."""
    return permuted_task_figures(results, settings.tasks, settings.training.epochs)


# MNIST, then USPS.

_NAMES = ("mnist", "usps")


def measure_usps(run: Run[ResidualSettings]) -> Measurement:
    """Train one arm on MNIST and then on USPS."""
    datasets = [load(run.settings, name, run.seed) for name in _NAMES]
    return _trained(run, dataset_sequence(datasets, pad_to=(28, 28)), conv_network)


def usps_figures(settings: ResidualSettings, results: Results) -> Mapping[str, Figure]:
    """Both accuracies over the epochs, a panel per arm."""
    return {"residual_usps": task_curves(results, settings.training.epochs, _NAMES, chance=0.1)}


_SOURCE = "Ours; blocks as in Liu et al., Bi-Real Net (2018), the rule of Laborieux et al. 2021."
_PERMUTED = PermutedSettings(m=(0.0, 20.0))
_USPS = changed(ResidualSettings(m=(0.0, 20.0), width=16), weight_decay=1e-8)
EXPERIMENTS = (
    Experiment(
        name="residual_permuted",
        title="Residual networks on permuted {data}: {tasks} tasks in a row",
        source=_SOURCE,
        scales={
            "small": changed(_PERMUTED, data="digits", width=128, epochs=10, batch_size=50),
            "medium": changed(_PERMUTED, train_images=10000, epochs=3),
            "paper": changed(_PERMUTED, seeds=5, width=1024, epochs=40),
        },
        arms=arms,
        measure=measure_permuted,
        figures=permuted_figures,
        claims=claims,
    ),
    Experiment(
        name="residual_usps",
        title="Residual networks: MNIST, then USPS",
        source=_SOURCE,
        scales={
            "small": changed(_USPS, width=8, blocks=1, epochs=3, train_images=2000, test_images=1000, batch_size=50),
            "medium": changed(_USPS, epochs=3, train_images=4000, test_images=2000, batch_size=50),
            "paper": changed(_USPS, seeds=5, width=64, epochs=240),
        },
        arms=arms,
        measure=measure_usps,
        figures=usps_figures,
        claims=claims,
    ),
)
