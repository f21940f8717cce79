"""Avalanche: our rules and methods in its strategies, our scenarios as its benchmarks, one accuracy matrix.

    MetaplasticPlugin   our optimizers and methods in any of its supervised strategies
    benchmark           a scenario as a benchmark of Avalanche, of raw levels
    accuracy_matrix     what `strategy.eval` returned, as our matrix

The way back, from a benchmark to a scenario, is `lava_meta.from_avalanche`. It needs the package avalanche-lib, and was
tried with 0.6.0 (docs/avalanche.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lava_meta.data import Images
from lava_meta.data.scenarios import Scenario
from lava_meta.data.sources import experience_arrays
from lava_meta.errors import require
from lava_meta.training import AccuracyMatrix, TrainSettings
from lava_meta.training.methods import Hooks, Method, check_method

try:
    from avalanche.benchmarks import benchmark_from_datasets
    from avalanche.benchmarks.scenarios.supervised import with_classes_timeline
    from avalanche.benchmarks.scenarios.task_aware import with_task_labels
    from avalanche.benchmarks.utils import DataAttribute, as_taskaware_classification_dataset, make_avalanche_dataset
    from avalanche.training.plugins import SupervisedPlugin
except ImportError:
    require("avalanche", "lava_meta.avalanche")
    raise

__all__ = ["MetaplasticPlugin", "accuracy_matrix", "benchmark"]


class MetaplasticPlugin(SupervisedPlugin):  # type: ignore[misc]  # Avalanche has no types
    """Our optimizer, and if wanted a method against forgetting, in a strategy of Avalanche.

    The strategy's own optimizer gives way to the method's, else to `settings.make_optimizer(model)`, a new one for each
    experience unless `reset_moments` is False. `select_task` of the model is called with the experience's task label.
    Epochs and batch sizes are the strategy's; the losses that it reports are without the method's terms.

    Args:
        settings: `m` or `consolidation` (0 is plain), rate, optimizer, weight decay, `reset_moments`; the rest is the
            strategy's.
        method: as `EWC()` or `Replay()`. Those see images as raw levels, as `benchmark(scenario)` has them.

    Raises:
        ValueError: settings without m; with a method, in an experience whose images are not raw levels.
    """

    def __init__(self, settings: TrainSettings, method: Method | None = None) -> None:
        super().__init__()
        check_method(method)
        if settings.m is None and settings.consolidation is None:
            raise ValueError("settings have no m, and a strategy does not say how long it trains: give m (0 is plain)")
        self.settings, self.method = settings, method
        self._hooks: Hooks | None = None
        self._images: Images | None = None

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        part = strategy.clock.train_exp_counter
        if self.method is not None:
            self._hooks = self._hooks or self.method.start(strategy.model)
        if part == 0 or self.settings.reset_moments:
            own = None if self._hooks is None else self._hooks.optimizer(strategy.train_mb_size)
            self._optimizer = self.settings.make_optimizer(strategy.model) if own is None else own
        strategy.optimizer = self._optimizer
        _select_task(strategy)
        if self._hooks is not None:
            self._images = _raw_levels(strategy.experience, f"experience {part + 1}").to(strategy.device)
            self._hooks.begin_part(part, self._images)

    def before_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        if self._hooks is not None and type(self._hooks).batch is not Hooks.batch:
            x, y, task = strategy.mbatch
            levels, labels = self._hooks.batch(x.to(torch.uint8), y)
            # What a method adds is trained as the present task.
            tasks = task[:1].expand(len(labels))
            strategy.mbatch = [levels.to(x.dtype), labels, tasks]

    def before_update(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        if self._hooks is not None:
            self._hooks.gradients()

    def after_update(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        if self._hooks is not None:
            self._hooks.stepped()

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        if self._hooks is not None and self._images is not None:
            self._hooks.end_part(strategy.clock.train_exp_counter, self._images)

    def before_eval_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        _select_task(strategy)


def _select_task(strategy: Any) -> None:
    select = getattr(strategy.model, "select_task", None)
    if select is not None:
        select(int(strategy.experience.task_label))


class _Levels(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Images as Avalanche takes them: raw levels as float32, and the label."""

    def __init__(self, images: Images) -> None:
        self.images, self.labels = images, images.y.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images.x[index].float(), self.labels[index]


def benchmark(scenario: Scenario) -> Any:
    """A scenario as a benchmark, with a train and a test stream of raw levels, and task labels from 0.

    All experiences are in memory at once.
    """

    def dataset(images: Images, task: int) -> Any:
        labels = DataAttribute([task] * len(images), "targets_task_labels", use_in_getitem=True)
        found = make_avalanche_dataset(
            _Levels(images), data_attributes=[DataAttribute(images.y.tolist(), "targets"), labels]
        )
        return as_taskaware_classification_dataset(found)

    train = [dataset(images, task) for images, task in zip(scenario.train, scenario.task_of, strict=True)]
    tests = [dataset(images, task) for task, images in enumerate(scenario.tests)]
    return with_task_labels(with_classes_timeline(benchmark_from_datasets(train=train, test=tests)))


def _raw_levels(experience: Any, name: str) -> Images:
    """The images of an experience, of which methods of ours keep some."""
    x, y = experience_arrays(experience, name)
    levels = np.rint(x).clip(0, 255)
    if not np.array_equal(levels, x):
        raise ValueError(
            f"{name}: a method needs raw levels 0..255: train on "
            "benchmark(lava_meta.from_avalanche(this_benchmark, scale=(low, high)))"
        )
    return Images(levels.astype(np.uint8), y, name)


def accuracy_matrix(results: Sequence[Mapping[str, float]], task_of: Sequence[int] | None = None) -> AccuracyMatrix:
    """Our matrix of what `strategy.eval(benchmark.test_stream)` returned, after each experience.

    Args:
        results: one mapping after each experience, of an evaluator with `accuracy_metrics(experience=True)`; one more
            in front if the untrained model was tested too, else that row is NaN.
        task_of: the test of each experience; by default each has its own, in their order.

    Raises:
        ValueError: results without these metrics, or of another number than experiences.
    """
    pattern = re.compile(r"Top1_Acc_Exp/eval_phase/test_stream(?:/Task\d+)?/Exp(\d+)")
    rows = [
        {int(match[1]): float(value) for key, value in result.items() if (match := pattern.fullmatch(key))}
        for result in results
    ]
    if not rows or not rows[-1]:
        raise ValueError("no accuracy of an experience: give the evaluator accuracy_metrics(experience=True)")
    tests = max(rows[-1]) + 1
    tasks = tuple(range(tests)) if task_of is None else tuple(task_of)
    if len(rows) == len(tasks):
        rows.insert(0, {})
    if len(rows) != len(tasks) + 1:
        raise ValueError(f"{len(rows)} results for {len(tasks)} experiences: give one after each, and one before all")
    values = [[row.get(test, float("nan")) for test in range(tests)] for row in rows]
    return AccuracyMatrix(
        torch.tensor(values, dtype=torch.float64).numpy(), tasks, tuple(f"task {i + 1}" for i in range(tests))
    )
