"""One training loop for tasks in a row and for streams.

    experience 1: epoch, epoch, ...   experience 2: ...        after each epoch: test, checkpoint, metrics

The loop draws from generators of its own, seeded from `TrainSettings.seed`; what ran before in the process does not
matter, and torch's global generator is put back as it was. Making the model, with its own seed, is the caller's part.
Epochs end with a checkpoint, and a run that was stopped goes on from it to the bitwise identical result (on the
same machine, with the same libraries and number of threads).

The paper's multitask runs start a new optimizer with each task (`reset_moments=True`); its streams keep one
throughout (`reset_moments=False`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lava_meta.data.given import has_tests, scenario_of
from lava_meta.io.learned import Learned, added, learned_of
from lava_meta.nn import TaskHeads
from lava_meta.optim.threads import torch_threads
from lava_meta.progress import TrainingProgress
from lava_meta.training.callbacks import Callback, check_callbacks
from lava_meta.training.evaluation import device_of, evaluate
from lava_meta.training.history import EpochRecord
from lava_meta.training.methods import Method, check_method
from lava_meta.training.metrics import AccuracyMatrix
from lava_meta.training.random_numbers import own_random_numbers
from lava_meta.training.run import Run, Task
from lava_meta.training.run_folder import RunFolder, describe, m_in_folder, open_run
from lava_meta.training.settings import TrainSettings
from lava_meta.training.state import Checkpoints
from lava_meta.training.steps import StepFactory, step_factory

__all__ = ["EpochRecord", "TrainResult", "TrainSettings", "evaluate", "train"]


@dataclass(frozen=True, eq=False)
class TrainResult:
    """The outcome of a run; the model itself holds the trained weights."""

    settings: TrainSettings
    matrix: AccuracyMatrix
    history: list[EpochRecord] = field(repr=False)
    out: Path | None = None

    def _repr_html_(self) -> str:
        return self.matrix._repr_html_()


def train(
    model: nn.Module,
    data: Any,
    settings: TrainSettings | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    method: Method | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    checkpoint_seconds: float = 0.0,
    threads: int | None = None,
    steps: StepFactory | None = None,
    callbacks: Sequence[Callback] = (),
    **changes: Any,
) -> TrainResult:
    """Train `model` in place on the experiences of a scenario, testing all tests before and after each.

    The loss is the cross entropy. Everything runs where the model's parameters are. What is learned is added to
    `model.learned` (`lava_meta.io.learned`), which files of the model and of the network converted from it keep.

    Args:
        model: takes raw levels as float32, (n, *shape), and gives logits (n, classes). A method `select_task(index)` of
            it is called with the task's index before it is trained or tested on that task.
        data: a `Scenario`, the experiences to learn and the tests; or what `lava_meta.data.scenario_of` makes one of: a
            `Dataset`, a list of them, a torch `Dataset` or `DataLoader`, arrays (x, y). Data without a test set are
            tested on a fifth of them, which is held out.
        settings: how. Without an `m` they take the one that is proposed for this scenario (`lava_meta.propose_m`),
            which is printed with the progress; a run that is resumed keeps the one in its folder.
        out: a folder in which every epoch leaves a checkpoint and the metrics (`lava_meta.training.run_folder`). One
            process at a time trains in a folder.
        method: what is done beside plain steps against forgetting, as `EWC()` (`lava_meta.training.methods`); its own
            terms are not part of the losses reported.
        resume: go on from the checkpoint in the folder, or begin if there is none.
        overwrite: begin again in a folder that holds a run.
        progress: whether it is shown.
        checkpoint_seconds: at least so long between two checkpoints; the last epoch always leaves one.
        threads: of torch, on a CPU, for the time of the call. By default they are chosen by the size of the products
            (`lava_meta.optim.threads.threads_for`), at most as many as torch has; a run that is resumed goes on with
            the number that it began with.
        steps: makes what computes a step; by default `settings.fast` chooses.
        callbacks: called as the run goes on: those of `lava_meta.training.held_out` and `lava_meta.training.loggers`,
            or your own (`lava_meta.training.callbacks`).
        changes: fields of `settings` by name, such as `m=3`.

    Raises:
        RunFolderError: the folder holds another run, another process trains in it (which is named), or it cannot be
            written.
        FormatError: its checkpoint is truncated or altered.
        DivergenceError: the loss or a weight is not finite.
        ValueError: the model does not take the images, its logits do not fit the classes, or `m` its layers; a scenario
            declares a head per task, and the model has none.
        TypeError: data of another kind, or real numbers without a scale; the message names the call.
        KeyboardInterrupt: Ctrl-C, with a message; the last checkpoint stays.
    """
    if resume and out is None:
        raise ValueError("resume needs the folder of the run: give out=")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise ValueError(f"threads is {threads!r}; it must be a whole number, at least 1")
    if not isinstance(model, nn.Module):
        what = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
        raise TypeError(f"model is {what}, not a module of torch: train(model, data)")
    settings = _settings(settings, changes)
    check_method(method)
    scenario = scenario_of(data)
    if scenario.heads is not None and not any(isinstance(module, TaskHeads) for module in model.modules()):
        raise ValueError(
            f"{scenario.name} compares the classes of each task alone: train lava_meta.nn.TaskHeads(model, "
            "scenario.heads)"
        )
    callbacks = check_callbacks(callbacks)
    device = device_of(model)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(
            f"no parameter of {type(model).__name__} asks for gradients, so none would learn: model.requires_grad_()"
        )
    chosen = settings.m is not None or settings.consolidation is not None
    if not chosen and resume:
        settings = replace(settings, m=m_in_folder(out))
    settings = settings.for_scenario(scenario, model)
    settings.make_optimizer(model)  # before the folder is touched: does m fit the model's layers?
    opened: AbstractContextManager[RunFolder | None] = nullcontext()
    if out is not None:
        description = describe(settings, scenario, model, method, callbacks)
        opened = open_run(out, description, resume=resume, overwrite=overwrite)
    task = Task(model, scenario, settings, method, steps or step_factory(fast=settings.fast), callbacks)
    with (
        opened as folder,
        own_random_numbers(settings.seed, device),
        TrainingProgress(len(scenario.train), settings.epochs, enabled=progress) as report,
        torch_threads(threads or torch.get_num_threads()),
    ):
        if not has_tests(data):
            report.say(f"tested on {len(scenario.tests[0])} images: {scenario.tests[0].name}")
        if not (chosen or settings.relative):
            report.say(
                f"m = {settings.m}, proposed from the number of steps, lr = {settings.lr:g} and the norm; 0 is plain, "
                "lava_meta.tune searches a better one"
            )
        run = Run(task, Checkpoints(folder, checkpoint_seconds), report)
        try:
            run.begin(threads)
            model.learned = added(learned_of(model), _account(task))  # type: ignore[assignment]
            run.go_on()
        except KeyboardInterrupt:
            raise KeyboardInterrupt(run.interrupted()) from None
        finally:
            run.callbacks("on_end")
    return TrainResult(settings, run.history.matrix(), run.history.records, None if folder is None else folder.path)


def _settings(settings: TrainSettings | None, changes: dict[str, Any]) -> TrainSettings:
    """The settings with other fields. Raises `TypeError` for a name that is none of theirs."""
    if settings is not None and not isinstance(settings, TrainSettings):
        raise TypeError(
            f"settings is a {type(settings).__name__}, not TrainSettings: data and labels are one argument, "
            "train(model, (x, y))"
        )
    known = [field.name for field in fields(TrainSettings)]
    unknown = [name for name in changes if name not in known]
    if unknown:
        raise TypeError(f"train has no argument {unknown[0]!r}; settings by name are {', '.join(known)}")
    return replace(settings or TrainSettings(), **changes)


def _account(task: Task) -> Learned:
    """What the model's file will say of this training."""
    settings, gate = task.settings, task.settings.consolidation
    m = list(settings.m) if isinstance(settings.m, tuple) else settings.m
    own = getattr(task.model, "settings", None)  # of `BinaryMLP` and its kin
    return Learned(
        scenario=task.scenario.name,
        recipe=task.scenario.recipe,
        checksum=task.scenario.checksum(),
        rule={"kind": "tanh2", "m": m} if gate is None else gate.described(),
        method=None if task.method is None else task.method.to_dict(),
        norm=own.get("norm") if isinstance(own, dict) else None,
        seed=settings.seed,
    )
