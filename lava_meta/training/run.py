"""A training run under way: its experiences, its epochs, its steps."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lava_meta.data import Images
from lava_meta.data.images import batches
from lava_meta.data.scenarios import Scenario, same_kind
from lava_meta.optim.threads import BusyCores, threads_for
from lava_meta.progress import TrainingProgress
from lava_meta.training.callbacks import Callback, Callbacks, RunView
from lava_meta.training.divergence import check_losses, check_weights, warn_of_closed_layers
from lava_meta.training.evaluation import device_of, fed, has_statistics
from lava_meta.training.history import EpochRecord, History
from lava_meta.training.methods import Hooks, Method
from lava_meta.training.random_numbers import order_of_images
from lava_meta.training.settings import TrainSettings
from lava_meta.training.state import Checkpoints, RunState
from lava_meta.training.steps import StepFactory


@dataclass(frozen=True)
class Task:
    """What is to be done."""

    model: nn.Module
    scenario: Scenario
    settings: TrainSettings
    method: Method | None
    steps: StepFactory
    callbacks: tuple[Callback, ...] = ()


class Run:
    """A run under way."""

    def __init__(self, task: Task, checkpoints: Checkpoints, report: TrainingProgress) -> None:
        self.model, self.scenario, self.settings = task.model, task.scenario, task.settings
        self.checkpoints, self.report = checkpoints, report
        self.device = device_of(self.model)
        self.tests = [test.to(self.device) for test in self.scenario.tests]
        self.step = task.steps(self.model, shown=task.method is not None)
        self.method = Hooks() if task.method is None else task.method.start(self.model)
        self.history = History(self.scenario, self.settings.epochs)
        self.view = RunView(
            self.model,
            self.settings.to_dict() if task.callbacks else {},
            None if checkpoints.folder is None else checkpoints.folder.path,
            len(self.scenario.train),
            self.settings.epochs,
            look=lambda: None,
            measure=self._accuracy_on,
            measured=self.history.matrix,
        )
        self.callbacks = Callbacks(task.callbacks, self.view)
        order = order_of_images(self.settings.seed)
        self.state = RunState(self.model, self._new_optimizer(), self.method, order, self.history, self.callbacks)

    def begin(self, threads: int | None) -> None:
        """Test the untrained model, or go back to the checkpoint. threads: as asked for."""
        if self.checkpoints.begun:
            self._take_threads(threads, self.checkpoints.load(self.state))
            self.callbacks("on_start")
        else:
            self._take_threads(threads, None)
            self.callbacks("on_start")
            self._record(EpochRecord(0, 0, None, self._accuracies()))
            self.checkpoints.save(self.state)

    def go_on(self) -> None:
        """Train all epochs that are left."""
        self.cores = BusyCores()
        images: Images | None = None
        while not self.history.complete:
            part, epoch = self.history.under_way
            if epoch == 0 or images is None:
                images = self._begin_part(part, epoch)
            self._record(self._epoch(part, epoch, images))
            if self.history.complete or self.checkpoints.due:
                self.checkpoints.save(self.state)
            record = self.history.records[-1]
            self.report.epoch(record.part, record.epoch, record.loss or 0.0, self.history.mean_of_begun())

    def _begin_part(self, part: int, epoch: int) -> Images:
        """The images of an experience that begins, or goes on after a checkpoint."""
        if epoch == 0 and part > 0 and self.settings.reset_moments:
            self.state.optimizer = self._new_optimizer()
        images = self.scenario.train[part]
        same_kind(self.scenario.name, [self.tests[self.scenario.task_of[part]], images])
        self.step.begin_part()
        return images.to(self.device)

    def _epoch(self, part: int, epoch: int, images: Images) -> EpochRecord:
        """Train on the images of an experience once, and test."""
        self._select(self.scenario.task_of[part])
        last = epoch == self.settings.epochs - 1
        self.view.task, self.view.epoch, self.view.ends_task = part + 1, epoch + 1, last
        if epoch == 0:
            self.method.begin_part(part, images)
            self.callbacks("on_task_start")
        loss = self._pass_over(images)
        if epoch == 0:
            warn_of_closed_layers(self.model, part + 1, images)
        self.callbacks("on_epoch", look=lambda: loss)
        if self.view.ends_task:
            if not last:
                self.history.ended.append(part + 1)
                last = True
            self.callbacks("on_task_end")
            self.method.end_part(part, images)
        measured = self.settings.evaluate == "epoch" or last
        accuracies = self._accuracies() if measured else (None,) * len(self.tests)
        return EpochRecord(part + 1, epoch + 1, loss, accuracies)

    def _pass_over(self, images: Images) -> float:
        """A step for each batch of `images`; the mean loss. Raises `DivergenceError`."""
        self.model.train()
        self.step.refresh()
        self.cores.begin()
        size = self.settings.batch_size
        losses = torch.zeros(math.ceil(len(images) / size), device=self.device)
        part, epoch = self.history.under_way
        # Looking at a loss makes a GPU wait, so there it is done now and then; the step is known all the same.
        interval = 1 if self.device.type == "cpu" else 50
        for step, (x, y) in enumerate(batches(images, size, self.state.order), 1):
            x, y = self.method.batch(x, y)
            with fed(self.model, images):
                losses[step - 1] = self.step.loss(x, y)
            if step % interval == 0 or step == len(losses):
                check_losses(self.model, losses[:step], x, self._where())
                self.report.step(part * self.settings.epochs + epoch, step / len(losses))
            self._learn(step)
            if self.callbacks.all:
                self.callbacks("on_step", step=self.view.step + 1, look=partial(_item, losses, step - 1))
        check_weights(self.model, self._where(len(losses)))
        return _mean(losses, size, len(images))

    def _learn(self, step: int) -> None:
        """What follows the loss of a batch."""
        self.step.backward()
        self.method.gradients()
        if not self.step.update(self.state.optimizer):
            check_weights(self.model, self._where(step))
        self.method.stepped()
        self.cores.step()

    def _record(self, record: EpochRecord) -> None:
        self.history.records.append(record)
        self.callbacks("on_test", accuracies=record.accuracies)

    def _accuracy_on(self, images: Images) -> float:
        """On images of the task at hand; a model that draws at random goes on as if they had not been looked at."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            return self.step.accuracy(images.to(self.device), self.settings.eval_batch)

    def interrupted(self) -> str:
        """What to tell whoever pressed Ctrl-C."""
        done, total = self.history.done, self.history.total
        if self.checkpoints.folder is None:
            return f"stopped after {done} of {total} epochs; there is no output folder, so nothing was kept"
        where = f"{self.checkpoints.kept} of {total} epochs are kept in {self.checkpoints.folder.path}"
        return f"stopped; {where}: run the same again with resume (--resume) to go on from there"

    def _new_optimizer(self) -> torch.optim.Optimizer:
        own = self.method.optimizer(self.settings.batch_size)
        return self.settings.make_optimizer(self.model, **self.step.optimizer_form) if own is None else own

    def _take_threads(self, asked: int | None, begun_with: int | None) -> None:
        """Compute on as many threads as were asked for, else as the run began with, else as pay."""
        if asked is not None:
            if begun_with not in (None, asked):
                warnings.warn(
                    f"the run was begun on {begun_with} threads and goes on with {asked}, so the result may differ in "
                    "the last bits",
                    stacklevel=4,
                )
        elif begun_with is not None:
            torch.set_num_threads(begun_with)
        elif self.device.type == "cpu":
            places = math.prod(self.scenario.train[0].x.shape[2:])
            torch.set_num_threads(threads_for(self.model, self.settings.batch_size, places))

    def _accuracies(self) -> tuple[float | None, ...]:
        accuracies: list[float | None] = []
        for task, test in enumerate(self.tests):
            self._select(task)
            measurable = has_statistics(self.model, task)
            accuracies.append(self.step.accuracy(test, self.settings.eval_batch) if measurable else None)
        return tuple(accuracies)

    def _select(self, task: int) -> None:
        select = getattr(self.model, "select_task", None)
        if select is not None:
            select(task)

    def _where(self, step: int | None = None) -> str:
        part, epoch = self.history.under_way
        return f"experience {part + 1}, epoch {epoch + 1}" + (f", step {step}" if step else "")


def _item(losses: Tensor, index: int) -> float:
    return float(losses[index])


def _mean(losses: Tensor, batch_size: int, images: int) -> float:
    """The mean over the images of mean losses over batches, of which the last may be smaller."""
    sizes = torch.full_like(losses, batch_size, device="cpu", dtype=torch.float64)
    sizes[-1] = images - batch_size * (len(losses) - 1)
    return float((losses.cpu().double() * sizes).sum()) / images
