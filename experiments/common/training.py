"""Experiments that train networks: their settings, their arms, and one training as a measurement."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from lava_meta.data import Dataset, load_dataset
from lava_meta.data.scenarios import Scenario
from lava_meta.experiments.common.experiment import Measurement, Results
from lava_meta.experiments.common.rules import RULES
from lava_meta.experiments.common.settings import Settings, at_least
from lava_meta.nn import BinaryMLP, RealMLP
from lava_meta.rule import Consolidation
from lava_meta.training import TrainResult, TrainSettings, train
from lava_meta.training.model_file import save_model
from lava_meta.training.torch_device import usable_device

T = TypeVar("T", bound="TrainingSettings")


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """What experiments that train have in common. `rules` and `m` make the arms; an arm has one of each."""

    rules: tuple[str, ...] = ("metaplastic",)  # see common/rules.py
    m: tuple[float, ...] = (0.0, 1.35)  # of the rule "metaplastic"; 0 is plain
    norm: Literal["fixed", "batch", "layer"] = "fixed"
    hidden: tuple[int, ...] = (1024, 1024)
    epochs: int = 3  # a part
    batch_size: int = 100
    lr: float = 0.005
    weight_decay: float = 1e-7
    reset_moments: bool = True  # a new optimizer with each part
    gain: Literal["ones", "uniform"] = "ones"  # batch norm: where its gains start
    affine: Literal["task", "shared", "none"] = "task"  # batch norm: gains and offsets
    statistics: Literal["batch", "stored"] = "batch"  # batch norm: what tests use
    ewc_strength: float = 5000.0  # also of random consolidation
    ewc_anchor: Literal["hidden", "binary"] = "hidden"
    si_strength: float = 1.0
    replay_images: int = 1000  # kept in all
    level_bits: int = 5  # probabilistic metaplasticity: bits of a hidden weight
    level_limit: float = 1.0  # and the largest |h|
    train_images: int | None = None  # the first so many; None for all
    test_images: int | None = None
    held_out: float = 0.0  # test on this share of the training images, to choose settings honestly
    evaluate: Literal["epoch", "task"] = "epoch"
    eval_batch: int = 1000
    fast: bool = True  # compiled steps where they fit; False is the clear form (see lava_meta.training.fast)
    threads: int = 1  # of torch
    checkpoint_seconds: float = 20.0  # at least between two checkpoints: an epoch of a small subset takes less
    device: str = "cpu"  # cuda for a GPU

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(
            self, checkpoint_seconds=0, hidden=1, train_images=1, test_images=1, held_out=0, ewc_strength=0, threads=1
        )
        at_least(self, si_strength=0, replay_images=1, level_bits=2)
        if not self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}; it must be below 1")
        unknown = [rule for rule in self.rules if rule not in RULES]
        if unknown:
            raise ValueError(f"there is no rule {unknown[0]!r}; there are {', '.join(RULES)}")
        usable_device(self.device)
        for m in self.m:
            self.for_training(m, seed=0)  # raises what is out of range

    def for_training(self, m: float, seed: int, consolidation: Consolidation | None = None) -> TrainSettings:
        """These settings as the training loop takes them."""
        return TrainSettings(
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            m=m,
            consolidation=consolidation,
            weight_decay=self.weight_decay,
            reset_moments=self.reset_moments,
            seed=seed,
            evaluate=self.evaluate,
            eval_batch=self.eval_batch,
            fast=self.fast,
        )


def rule_arms(settings: T) -> dict[str, T]:
    """One arm for each rule; for the metaplastic one, one for each m."""
    arms: dict[str, T] = {}
    for rule in settings.rules:
        if RULES[rule].uses_m:
            prefix = "" if rule == "metaplastic" else f"{rule}, "
            arms |= {f"{prefix}m = {m:g}": replace(settings, rules=(rule,), m=(m,)) for m in settings.m}
        else:
            arms[rule] = replace(settings, rules=(rule,), m=(0.0,))
    return arms


def load(settings: TrainingSettings, name: str, seed: int) -> Dataset:
    """The data set `name`, cut as the settings say. Raises `DataError` for one that is missing."""
    dataset = load_dataset(name)
    train_set, test = dataset.train, dataset.test
    if settings.train_images is not None:
        train_set = train_set.take(range(min(settings.train_images, len(train_set))))
    if settings.held_out:
        train_set, test = train_set.split(settings.held_out, seed)
    if settings.test_images is not None:
        test = test.take(range(min(settings.test_images, len(test))))
    return Dataset(name + (" held out" if settings.held_out else ""), train_set, test)


def dense_network(settings: TrainingSettings, scenario: Scenario, seed: int) -> BinaryMLP | RealMLP:
    """The dense network of an arm; its pixel offset and scale are those of the first part's images.

    A network of real weights has no fixed norm: it takes batch norm in its place.
    """
    rule = RULES[settings.rules[0]]
    norm = "batch" if rule.real and settings.norm == "fixed" else settings.norm
    options: dict[str, Any] = {}
    if norm == "batch":
        options = {
            "tasks": len(scenario.tests),
            "gain": settings.gain,
            "affine": "shared" if rule.one_task else settings.affine,
            "statistics": settings.statistics,
        }
    if rule.real:
        return RealMLP.for_images(scenario.train[0], settings.hidden, norm, seed=seed, **options)  # type: ignore[arg-type]
    return BinaryMLP.for_images(scenario.train[0], settings.hidden, settings.norm, seed=seed, **options)


def train_arm(
    settings: TrainingSettings,
    scenario: Scenario,
    seed: int,
    folder: Path,
    progress: bool,
    make: Callable[..., nn.Module] = dense_network,
) -> tuple[nn.Module, TrainResult]:
    """Train one arm, or go on with it. Leaves the trained network in `folder`, and no checkpoint."""
    rule, m = RULES[settings.rules[0]], settings.m[0]
    torch.set_num_threads(settings.threads)
    model = make(settings, scenario, seed).to(settings.device)
    result = train(
        model,
        rule.scenario(scenario),
        settings.for_training(m, seed, rule.consolidation and rule.consolidation(m)),
        folder,
        method=rule.method(settings),
        resume=True,
        progress=progress,
        checkpoint_seconds=settings.checkpoint_seconds,
    )
    if isinstance(model, BinaryMLP):
        save_model(model, folder / "model.safetensors")
    return model.eval(), result


def measured(result: TrainResult, **more: float) -> Measurement:
    """Final accuracies, in percent, and the whole history."""
    matrix = result.matrix
    last = matrix.values[-1]
    metrics = {
        "ACC": float(last.mean()),  # every test has been learned by then
        "forgetting": matrix.forgetting(),
        **({f"task {task + 1}": float(value) for task, value in enumerate(last)} if len(last) > 1 else {}),
    }
    percent = {name: round(100 * value, 3) for name, value in metrics.items() if not math.isnan(value)}
    history = [list(record.accuracies) for record in result.history]
    losses = [record.loss for record in result.history]
    return Measurement({**percent, **more}, {"accuracies": history, "losses": losses, "matrix": matrix.to_dict()})


def best_m(results: Results, metric: str = "ACC") -> str:
    """The metaplastic arm that did best in `metric`, "m = 0" where there is no other."""
    labels = [label for label in results.arms if label.startswith("m = ") and label != "m = 0"]
    return max(labels, key=lambda label: results.mean(label, metric), default="m = 0")
