"""The norms between a binary layer and its sign."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lava_meta.nn.engrams import Engrams


class FixedNorm(nn.Module):
    """`y = scale * x`, a constant: no statistics, no affine, no state."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"scale is {scale}; it must be finite and positive")
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale

    def extra_repr(self) -> str:
        return f"scale={self.scale:g}"


class SampleNorm(nn.Module):
    """Each sample normed over its own units: `y = (x - mean) / sqrt(var + eps)`, population variance, no affine.

    Layer norm without parameters (Ba et al. 2016); for dense layers also the paper's instance norm. The mean is a sum
    divided once, so that integer sums which equal their mean give exactly 0. With `training_only` it is the identity
    in eval mode: on logits the argmax is the same, and what is deployed stays an integer.
    """

    def __init__(self, eps: float = 1e-5, *, training_only: bool = False) -> None:
        super().__init__()
        self.eps = eps
        self.training_only = training_only

    def forward(self, x: Tensor) -> Tensor:
        if self.training_only and not self.training:
            return x
        centred = x - x.sum(dim=-1, keepdim=True) / x.shape[-1]
        return centred * torch.rsqrt(centred.square().mean(dim=-1, keepdim=True) + self.eps)

    def extra_repr(self) -> str:
        return f"eps={self.eps:g}, training_only={self.training_only}"


class TaskBatchNorm(nn.Module):
    """Batch norm with gains, offsets and statistics per task: `y = gain * (x - mean) / sqrt(var + eps) + offset`.

    Takes (n, features) or (n, features, height, width). Three choices that change results more than most do:

    affine
        `"task"`: every task keeps its own gain and offset; a new task goes on from those of the task before it (the
        paper's runs). `"shared"`: one pair for all tasks. `"none"`: gain 1, offset 0.
    statistics
        what eval mode uses. `"batch"`: those of the batch at hand (the paper; needs a large batch of one task).
        `"stored"`: running averages per task, as in `torch.nn.BatchNorm1d`. Training always uses the batch's.
    gain
        where gains start: `"ones"` (PyTorch since 1.2) or `"uniform"` in (0, 1) (before).

    Source: Ioffe and Szegedy 2015; a gain and an offset per task as in Laborieux et al. 2021.
    """

    running_mean: Tensor
    running_var: Tensor
    task_gain: Tensor
    task_offset: Tensor

    def __init__(
        self,
        features: int,
        tasks: int = 1,
        affine: Literal["task", "shared", "none"] = "task",
        statistics: Literal["batch", "stored"] = "batch",
        gain: Literal["ones", "uniform"] = "ones",
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        for name, value, allowed in (
            ("affine", affine, ("task", "shared", "none")),
            ("statistics", statistics, ("batch", "stored")),
            ("gain", gain, ("ones", "uniform")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(repr, allowed))}")
        if tasks < 1:
            raise ValueError(f"tasks is {tasks}; a norm serves at least one task")
        self.features, self.tasks = features, tasks
        self.affine, self.statistics = affine, statistics
        self.momentum, self.eps = momentum, eps
        if affine != "none":
            self.gain = nn.Parameter(torch.rand(features) if gain == "uniform" else torch.ones(features))
            self.offset = nn.Parameter(torch.zeros(features))
            self.register_buffer("task_gain", torch.ones(tasks, features))
            self.register_buffer("task_offset", torch.zeros(tasks, features))
        self.register_buffer("running_mean", torch.zeros(tasks, features))
        self.register_buffer("running_var", torch.ones(tasks, features))
        # Plain Python, so that a forward pass on a GPU need not wait for them; saved as extra state.
        self.task = 0
        self.latest = 0
        self.trained = [False] * tasks

    def get_extra_state(self) -> Tensor:
        """The selected task, the one trained last, and which were trained, for `state_dict`."""
        return torch.tensor([self.task, self.latest, *self.trained])

    def set_extra_state(self, state: Tensor) -> None:
        """Undo `get_extra_state`. Raises `ValueError` for the state of a norm of other tasks."""
        task, latest, *trained = state.tolist()
        if not (0 <= task < self.tasks and 0 <= latest < self.tasks and len(trained) == self.tasks):
            raise ValueError(f"a norm of {self.tasks} tasks has the state {state.tolist()} of another")
        self.task, self.latest = task, latest
        self.trained = [bool(seen) for seen in trained]

    @torch.no_grad()
    def select_task(self, task: int) -> None:
        """Use the affine and statistics of `task`; one never trained goes on from the affine of the last that was."""
        if not 0 <= task < self.tasks:
            raise ValueError(f"task is {task}; this norm was made for tasks 0 to {self.tasks - 1}")
        before, self.task = self.task, task
        if self.affine == "task" and task != before:
            if self.trained[before]:
                self.task_gain[before] = self.gain
                self.task_offset[before] = self.offset
            source = task if self.trained[task] else self.latest
            if self.trained[source]:
                self.gain.copy_(self.task_gain[source])
                self.offset.copy_(self.task_offset[source])

    def forward(self, x: Tensor) -> Tensor:
        task = self.task
        mean, var = self.running_mean[task], self.running_var[task]
        gain, offset = (None, None) if self.affine == "none" else (self.gain, self.offset)
        own = self.training or self.statistics == "batch"
        if own and x.numel() // self.features < 2:
            raise ValueError(
                "batch norm was given a single value a feature, which has no statistics: use a larger batch, or "
                'statistics="stored" in eval mode'
            )
        if self.training:
            # The first batch of a task replaces the initial 0 and 1, later ones move the average.
            momentum = self.momentum if self.trained[task] else 1.0
            self.trained[task], self.latest = True, task
            return functional.batch_norm(x, mean, var, gain, offset, training=True, momentum=momentum, eps=self.eps)
        if own:
            return functional.batch_norm(x, None, None, gain, offset, training=True, momentum=0.0, eps=self.eps)
        if not self.trained[task]:
            raise ValueError(
                f"task index {task} has no stored statistics: train on it, or call "
                "lava_meta.nn.recalibrate(model, images)"
            )
        return functional.batch_norm(x, mean, var, gain, offset, training=False, momentum=0.0, eps=self.eps)

    def extra_repr(self) -> str:
        return f"{self.features}, tasks={self.tasks}, affine={self.affine!r}, statistics={self.statistics!r}"


def select_task(model: nn.Module, task: int) -> None:
    """Select `task` in every `TaskBatchNorm` and `Engrams` of a model; nothing to do for other norms."""
    for module in model.modules():
        if isinstance(module, (TaskBatchNorm, Engrams)):
            module.select_task(task)


def use_statistics(model: nn.Module, statistics: Literal["batch", "stored"]) -> None:
    """Choose what every `TaskBatchNorm` of a model uses in eval mode: the batch's statistics or the stored ones."""
    if statistics not in ("batch", "stored"):
        raise ValueError(f"statistics is {statistics!r}; choose 'batch' or 'stored'")
    for module in model.modules():
        if isinstance(module, TaskBatchNorm):
            module.statistics = statistics


@torch.no_grad()
def recalibrate(model: nn.Module, images: Tensor, task: int = 0) -> None:
    """Store, for `task`, the statistics that `images` have under the present weights, and use stored statistics.

    One exact pass over `images` (n, ...) as a single batch: mean and unbiased variance a feature, in place of averages
    that went stale while later tasks were learned.
    """
    norms = [module for module in model.modules() if isinstance(module, TaskBatchNorm)]
    was_training = model.training
    momenta = [norm.momentum for norm in norms]
    select_task(model, task)
    model.train()
    try:
        for norm in norms:
            norm.momentum = 1.0
        model(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.train(was_training)
    use_statistics(model, "stored")
