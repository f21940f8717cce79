"""BiMU and MESU as methods of the training loop: they draw networks, and take steps of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from lava_meta.nn.bayesian import BernoulliLinear, GaussianLinear, copies
from lava_meta.optim.bayesian import BiMUOptimizer, MESUOptimizer
from lava_meta.training.methods.base import Hooks, Method

L = TypeVar("L", bound=BernoulliLinear | GaussianLinear)


@dataclass(frozen=True)
class BiMU(Method):
    """Binary weights at random, with a memory of some `window` images, for `BayesianMLP(sizes, "bernoulli")`.

    Its steps are those of `lava_meta.optim.BiMUOptimizer`, which says what the settings are. The optimizer, lr and m
    of `TrainSettings` are not used. It is not told of tasks.

    Source: Cottart et al., ICML 2026 (arXiv 2605.30198).
    """

    window: float = 60000.0
    lr: float = 1.0
    lr_max: float = 1.0
    likelihood: float = 1.0
    prior: float = 1.0
    kind: ClassVar[str] = "bimu"

    def __post_init__(self) -> None:
        with torch.device("meta"):  # nothing is drawn
            self._optimizer([BernoulliLinear(1, 1)], 1)  # knows the ranges

    def start(self, model: nn.Module) -> Hooks:
        layers = _layers(model, BernoulliLinear, "bernoulli")
        return _Drawing(layers[0].draws, lambda batch_size: self._optimizer(layers, batch_size))

    def _optimizer(self, layers: list[BernoulliLinear], batch_size: int) -> BiMUOptimizer:
        return BiMUOptimizer(
            [layer.weight for layer in layers],
            self.lr,
            self.lr_max,
            self.window,
            likelihood=self.likelihood,
            prior=self.prior,
            batch_size=batch_size,
        )


@dataclass(frozen=True)
class MESU(Method):
    """Real weights at random, with a memory of `window` images, for `BayesianMLP(sizes, "gaussian")`.

    Its steps are those of `lava_meta.optim.MESUOptimizer`, which says what the settings are. The optimizer, lr and m
    of `TrainSettings` are not used. It is not told of tasks.

    Source: Bonnet et al., Nature Communications 16 (2025, arXiv 2504.13569).
    """

    window: float = 300000.0
    lr: float = 1.0
    lr_deviation: float = 1.0
    prior: float = 1.0
    clip: float = 1.0
    kind: ClassVar[str] = "mesu"

    def __post_init__(self) -> None:
        with torch.device("meta"):  # nothing is drawn
            self._optimizer([GaussianLinear(1, 1)], 1)  # knows the ranges

    def start(self, model: nn.Module) -> Hooks:
        layers = _layers(model, GaussianLinear, "gaussian")
        return _Drawing(layers[0].draws, lambda batch_size: self._optimizer(layers, batch_size))

    def _optimizer(self, layers: list[GaussianLinear], batch_size: int) -> MESUOptimizer:
        return MESUOptimizer(
            layers,
            self.lr,
            self.window,
            lr_deviation=self.lr_deviation,
            prior=self.prior,
            clip=self.clip,
            batch_size=batch_size,
        )


class _Drawing(Hooks):
    def __init__(self, draws: int, make: Callable[[int], torch.optim.Optimizer]) -> None:
        self.draws, self.make = draws, make

    def batch(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return copies(x, self.draws), copies(y, self.draws)

    def optimizer(self, batch_size: int) -> torch.optim.Optimizer:
        return self.make(batch_size)


def _layers(model: nn.Module, kind: type[L], weights: str) -> list[L]:
    found = [module for module in model.modules() if isinstance(module, kind)]
    if not found:
        raise ValueError(
            f"the model has no {kind.__name__}: this method trains lava_meta.nn.BayesianMLP(sizes, {weights!r})"
        )
    return found
