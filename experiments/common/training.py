"""Experiments that train networks: their settings, their arms, and one training as a measurement."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import nn

from lava_meta.data import Dataset, load_dataset
from lava_meta.data.scenarios import Scenario
from lava_meta.experiments.common.experiment import Measurement, Results, Run
from lava_meta.experiments.common.rules import RULES, MethodSettings
from lava_meta.experiments.common.settings import Settings
from lava_meta.io.config import OrNone, Several
from lava_meta.nn import BayesianMLP, BinaryMLP, RealMLP
from lava_meta.training import TrainResult, TrainSettings, train
from lava_meta.training.model_file import save_model
from lava_meta.training.torch_device import usable_device

T = TypeVar("T", bound="TrainingSettings")


TRAINING = TrainSettings(epochs=3, batch_size=100, m=0.0, fast=True)


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """What experiments that train have in common. `rules` and `m` make the arms; an arm has one of each."""

    rules: Several[str] = ("metaplastic",)  # see common/rules.py
    m: Several[float] = (0.0, 1.35)  # of the rule "metaplastic"; 0 is plain
    norm: Literal["fixed", "batch", "layer"] = "fixed"
    activation: Literal["sign", "abs_step"] = "sign"  # hidden units of binary networks: +1 and -1, or 0 and 1
    hidden: Several[PositiveInt] = (1024, 1024)
    training: TrainSettings = TRAINING  # its m, consolidation and seed are those of an arm and a seed
    methods: MethodSettings = MethodSettings()
    gain: Literal["ones", "uniform"] = "ones"  # batch norm: where its gains start
    affine: Literal["task", "shared", "none"] = "task"  # batch norm: gains and offsets
    statistics: Literal["batch", "stored"] = "batch"  # batch norm: what tests use
    train_images: OrNone[PositiveInt] = None  # the first so many; None for all
    test_images: OrNone[PositiveInt] = None
    # Test on this share of the training images, to choose settings honestly.
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.0
    checkpoint_seconds: NonNegativeFloat = 20.0  # at least between two: an epoch of a small subset takes less
    device: str = "cpu"  # cuda for a GPU

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [rule for rule in self.rules if rule not in RULES]
        if unknown:
            raise ValueError(f"there is no rule {unknown[0]!r}; there are {', '.join(RULES)}")
        own = {name: getattr(self.training, name) for name in ("m", "seed", "relative", "consolidation", "grow")}
        if own != {name: getattr(TRAINING, name) for name in own}:
            raise ValueError(f"training has {own}, which the arms and seeds choose: give m, rules and seeds instead")
        usable_device(self.device)
        for m in self.m:
            replace(self.training, m=m)  # raises what is out of range


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


def dense_network(settings: TrainingSettings, scenario: Scenario, seed: int) -> BinaryMLP | RealMLP | BayesianMLP:
    """The dense network of an arm; its pixel offset and scale are those of the first part's images.

    A network of real weights has no fixed norm: it takes batch norm instead, and a small one, which is not told of
    tasks, layer norm. Drawn weights have layer norm.
    """
    rule, images = RULES[settings.rules[0]], scenario.train[0]
    if rule.drawn:
        return BayesianMLP.for_images(images, settings.hidden, rule.drawn, seed=seed)
    if rule.same_bits:
        hidden = _of_same_bits((images.features, *settings.hidden, images.classes))
        return RealMLP.for_images(images, hidden, "layer", seed=seed)
    norm = "batch" if rule.real and settings.norm == "fixed" else settings.norm
    options = batch_norm_options(settings, scenario) if norm == "batch" else {}
    if options and rule.one_task:
        options["affine"] = "shared"
    if rule.real:
        return RealMLP.for_images(images, settings.hidden, norm, seed=seed, **options)  # type: ignore[arg-type]
    options |= {"activation": settings.activation, "seed": seed}
    if rule.engrams:
        options["engrams"] = settings.methods.engram_share
    return BinaryMLP.for_images(images, settings.hidden, settings.norm, **options)


def batch_norm_options(settings: TrainingSettings, scenario: Scenario) -> dict[str, Any]:
    """The options of a network's batch norms."""
    return {
        "tasks": len(scenario.tests),
        "gain": settings.gain,
        "affine": settings.affine,
        "statistics": settings.statistics,
    }


def _of_same_bits(sizes: Sequence[int]) -> list[int]:
    """Hidden units of a network of 32-bit weights that takes no more memory than one of binary weights of `sizes`."""
    pixels, *hidden, classes = sizes
    bits = _synapses(sizes)
    for units in range(max(hidden), 1, -1):
        fewer = [max(1, width * units // max(hidden)) for width in hidden]
        if 32 * _synapses((pixels, *fewer, classes)) <= bits:
            return fewer
    return [1] * len(hidden)


def _synapses(sizes: Sequence[int]) -> int:
    return sum(fan_in * fan_out for fan_in, fan_out in pairwise(sizes))


def train_arm(
    run: Run[TrainingSettings], scenario: Scenario, make: Callable[..., nn.Module] = dense_network
) -> tuple[nn.Module, TrainResult]:
    """Train one arm, or go on with it. Leaves the trained network in the run's folder, and no checkpoint."""
    settings = run.settings
    rule, m = RULES[settings.rules[0]], settings.m[0]
    model = make(settings, scenario, run.seed).to(settings.device)
    gate, grow = (None if function is None else function(m) for function in (rule.consolidation, rule.grow))
    optimizer = rule.optimizer or settings.training.optimizer
    result = train(
        model,
        rule.scenario(scenario),
        replace(
            settings.training,
            m=None if rule.proposes else m,
            relative=rule.relative,
            seed=run.seed,
            consolidation=gate,
            grow=grow,
            optimizer=optimizer,
        ),
        run.folder,
        method=rule.method(settings.methods, m),
        resume=True,
        progress=run.progress,
        checkpoint_seconds=settings.checkpoint_seconds,
    )
    if isinstance(model, BinaryMLP):
        save_model(model, run.folder / "model.safetensors")
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


def compared(results: Results, metric: str = "ACC") -> tuple[str, str]:
    """The arms that claims of metaplasticity compare: the plain one, and the one of some m that did best in `metric`.

    They are of the metaplastic rule, or, where it was not run, of the first rule that takes an m; arms that were not
    run are named too.
    """
    rules = [label.rpartition("m = ")[0] for label in results.arms if "m = " in label]
    rule = rules[0] if rules and "" not in rules else ""
    names = (f"{rule}m = 0", "m = 0", "plain")
    plain = next((label for label in names if label in results.arms), names[0])
    labels = [label for label in results.arms if label.startswith(f"{rule}m = ") and label != names[0]]
    return plain, max(labels, key=lambda label: results.mean(label, metric), default=f"{rule}m > 0")
