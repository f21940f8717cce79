"""One training loop for tasks in a row and for streams.

    part 1: epoch, epoch, ...   part 2: epoch, epoch, ...        after each epoch: test, checkpoint, metrics

The loop draws from generators of its own, seeded from `TrainSettings.seed`; what ran before in the process does not
matter, and torch's global generator is put back as it was. Making the model, with its own seed, is the caller's part.
Epochs end with a checkpoint, and a run that was stopped goes on from it to the bitwise identical result (on the
same machine, with the same libraries and number of threads).

The paper's multitask runs start a new optimizer with each task (`reset_moments=True`); its streams keep one
throughout (`reset_moments=False`).
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lava_meta.data import Images
from lava_meta.data.datasets import batches
from lava_meta.data.scenarios import Scenario
from lava_meta.errors import DivergenceError, FormatError
from lava_meta.io.learned import Learned, added, learned_of
from lava_meta.nn import learning_shares
from lava_meta.optim.threads import BusyCores, threads_for, torch_threads
from lava_meta.progress import TrainingProgress
from lava_meta.training.checkpoint import load_optimizer, optimizer_tensors
from lava_meta.training.divergence import broken_parameter, broken_sums
from lava_meta.training.evaluation import device_of, evaluate, has_statistics
from lava_meta.training.methods import Hooks, Method
from lava_meta.training.metrics import AccuracyMatrix
from lava_meta.training.run_folder import RunFolder, describe, m_in_folder, open_run
from lava_meta.training.settings import TrainSettings
from lava_meta.training.steps import step_for

__all__ = ["EpochRecord", "TrainResult", "TrainSettings", "evaluate", "train"]

_LOOK_AT = 256  # images a part, to see whether layers learn
_LEAST_SHARE = 0.1  # of values inside the window of the sign's gradient; healthy layers have 0.15 to 0.5
_ADVICE = "A smaller lr, or inputs and norms of a smaller scale, may help"


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch gave; part 0, epoch 0 is the test before any training."""

    part: int  # from 1
    epoch: int  # from 1 in each part
    loss: float | None  # mean over the training images of the part, while training
    accuracies: tuple[float | None, ...]  # (tests,), fractions 0..1; None: not measured


@dataclass(frozen=True, eq=False)
class TrainResult:
    """The outcome of a run; the model itself holds the trained weights."""

    settings: TrainSettings
    matrix: AccuracyMatrix
    history: list[EpochRecord] = field(repr=False)
    out: Path | None = None


def train(
    model: nn.Module,
    scenario: Scenario,
    settings: TrainSettings,
    out: str | os.PathLike[str] | None = None,
    *,
    method: Method | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    checkpoint_seconds: float = 0.0,
    threads: int | None = None,
) -> TrainResult:
    """Train `model` in place on the parts of `scenario`, testing all tests before and after each.

    The model takes raw levels as float32, (n, *shape), and returns logits (n, classes); the loss is the cross entropy.
    A method `select_task(index)` of the model is called with the task's index before it is trained or tested on that
    task. Everything runs where the model's parameters are. `method` is what is done beside plain steps against
    forgetting, as `EWC()` (see `lava_meta.training.methods`); its own terms are not part of the losses reported.

    What is learned is added to `model.learned` (`lava_meta.io.learned`), which files of the model and of the network
    converted from it keep.

    With a folder `out` every epoch leaves a checkpoint and the metrics (see `lava_meta.training.run_folder`), but for
    those that end less than `checkpoint_seconds` after the last one; the last epoch always does. `resume` goes on from
    the checkpoint in the folder, or begins where there is none; `overwrite` begins anew.

    On a CPU torch computes on `threads` threads for the time of the call. By default they are chosen by the size of the
    products (`lava_meta.optim.threads.threads_for`), at most as many as torch has; a run that is resumed goes on with
    the number that it began with.
    Settings without an `m` take the one that is proposed for this scenario (`lava_meta.propose_m`), which is printed
    with the progress; a run that is resumed keeps the one in its folder.

    One process at a time trains in a folder. Raises `RunFolderError` when the folder holds another run, another process
    trains in it (which is named) or it cannot be written, `FormatError` when its checkpoint is
    truncated or altered, `DivergenceError` when the loss or a weight is not finite, and `ValueError` when the model's
    logits do not fit the classes. Ctrl-C raises `KeyboardInterrupt` with a message; the last checkpoint stays.
    """
    if resume and out is None:
        raise ValueError("resume needs the folder of the run: give out=")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise ValueError(f"threads is {threads!r}; it must be a whole number, at least 1")
    device = device_of(model)
    chosen = settings.m is not None or settings.consolidation is not None
    if not chosen and resume:
        settings = replace(settings, m=m_in_folder(out))
    settings = settings.for_scenario(scenario)
    settings.make_optimizer(model)  # before the folder is touched: does m fit the model's layers?
    opened: AbstractContextManager[RunFolder | None] = nullcontext()
    if out is not None:
        opened = open_run(out, describe(settings, scenario, model, method), resume=resume, overwrite=overwrite)
    with (
        opened as folder,
        _own_random_numbers(settings.seed, device),
        TrainingProgress(len(scenario.train), settings.epochs, progress) as report,
        torch_threads(threads or torch.get_num_threads()),
    ):
        if not chosen:
            report.say(f"m = {settings.m}, proposed from the number of steps and lr = {settings.lr:g}; 0 is plain")
        run = _Run(model, scenario, settings, folder, report, method, checkpoint_seconds, threads)
        try:
            run.begin()
            model.learned = added(learned_of(model), _account(model, scenario, settings, method))  # type: ignore[assignment]
            run.go_on()
        except KeyboardInterrupt:
            raise KeyboardInterrupt(run.interrupted()) from None
    return TrainResult(settings, run.matrix(), run.history, None if folder is None else folder.path)


def _account(model: nn.Module, scenario: Scenario, settings: TrainSettings, method: Method | None) -> Learned:
    """What the model's file will say of this training."""
    m = list(settings.m) if isinstance(settings.m, tuple) else settings.m
    own = getattr(model, "settings", None)  # of `BinaryMLP` and its kin
    return Learned(
        scenario=scenario.name,
        recipe=scenario.recipe,
        checksum=scenario.checksum(),
        rule={"kind": "tanh2", "m": m} if settings.consolidation is None else settings.consolidation.described(),
        method=None if method is None else method.to_dict(),
        norm=own.get("norm") if isinstance(own, dict) else None,
        seed=settings.seed,
    )


class _Run:
    """A run under way: the model, its optimizer, its random numbers, and how many epochs are done."""

    def __init__(
        self,
        model: nn.Module,
        scenario: Scenario,
        settings: TrainSettings,
        folder: RunFolder | None,
        report: TrainingProgress,
        method: Method | None = None,
        checkpoint_seconds: float = 0.0,
        threads: int | None = None,
    ) -> None:
        self.model, self.scenario, self.settings = model, scenario, settings
        self.folder, self.report, self.checkpoint_seconds = folder, report, checkpoint_seconds
        self.threads = threads  # asked for
        self.device = device_of(model)
        self.tests = [test.to(self.device) for test in scenario.tests]
        self.optimizer = settings.make_optimizer(model)
        self.method = Hooks() if method is None else method.start(model)
        self.step = step_for(model, settings.fast, shown=method is not None)
        self.order = torch.Generator().manual_seed(_derived(settings.seed, 0))
        self.total = settings.epochs * len(scenario.train)
        self.done = 0  # epochs, over all parts
        self.kept = 0  # of these, in the folder
        self.saved_at = time.monotonic()
        self.history: list[EpochRecord] = []

    def begin(self) -> None:
        """Test the untrained model, or go back to where the checkpoint stands."""
        if self.folder is not None and self.folder.begun:
            tensors, state = self.folder.load()
            self._load(tensors, state)
            self._take_threads(state.get("threads"))
            self.folder.save_metrics(self.matrix(), self._records())
        else:
            self._take_threads(None)
            self.history.append(EpochRecord(0, 0, None, self._accuracies()))
            self._save()

    def go_on(self) -> None:
        """Train all epochs that are left."""
        epochs = self.settings.epochs
        images: Images | None = None
        self.cores = BusyCores()
        while self.done < self.total:
            part, epoch = divmod(self.done, epochs)
            if epoch == 0 and part > 0 and self.settings.reset_moments:
                self.optimizer = self.settings.make_optimizer(self.model)
            if epoch == 0 or images is None:
                images = self.scenario.train[part].to(self.device)
                self.step.begin_part()
            self._select(self.scenario.task_of[part])
            if epoch == 0:
                self.method.begin_part(part, images)
            loss = self._epoch(images)
            if epoch == 0:
                self._warn_of_closed_layers(part, images)
            if epoch == epochs - 1:
                self.method.end_part(part, images)
            measured = self.settings.evaluate == "epoch" or epoch == epochs - 1
            accuracies = self._accuracies() if measured else (None,) * len(self.tests)
            self.history.append(EpochRecord(part + 1, epoch + 1, loss, accuracies))
            self.done += 1
            if self.done == self.total or time.monotonic() - self.saved_at >= self.checkpoint_seconds:
                self._save()
            begun = [accuracies[task] for task in sorted(set(self.scenario.task_of[: part + 1]))]
            known = [accuracy for accuracy in begun if accuracy is not None]
            self.report.epoch(part + 1, epoch + 1, loss, sum(known) / len(known) if known else None)

    def matrix(self) -> AccuracyMatrix:
        """Rows for the parts that are complete; NaN for those still to come."""
        values = np.full((len(self.scenario.train) + 1, len(self.tests)), np.nan)
        for record in self.history:
            if record.part == 0 or record.epoch == self.settings.epochs:
                values[record.part] = [math.nan if a is None else a for a in record.accuracies]
        return AccuracyMatrix(values, self.scenario.task_of, tuple(test.name for test in self.tests))

    def interrupted(self) -> str:
        """What to tell whoever pressed Ctrl-C."""
        if self.folder is None:
            return f"stopped after {self.done} of {self.total} epochs; there is no output folder, so nothing was kept"
        where = f"{self.kept} of {self.total} epochs are kept in {self.folder.path}"
        return f"stopped; {where}: run the same again with resume (--resume) to go on from there"

    def _take_threads(self, begun_with: int | None) -> None:
        """Compute on as many threads as were asked for, else as the run began with, else as pay."""
        if self.threads is not None:
            if begun_with not in (None, self.threads):
                warnings.warn(
                    f"the run was begun on {begun_with} threads and goes on with {self.threads}, so the result may "
                    "differ in the last bits",
                    stacklevel=4,
                )
        elif begun_with is not None:
            torch.set_num_threads(begun_with)
        elif self.device.type == "cpu":
            places = math.prod(self.scenario.train[0].x.shape[2:])
            torch.set_num_threads(threads_for(self.model, self.settings.batch_size, places))

    def _epoch(self, images: Images) -> float:
        """One pass over `images`; the mean loss. Raises `DivergenceError`."""
        self.model.train()
        self.step.refresh()
        self.cores.begin()
        size = self.settings.batch_size
        losses = torch.zeros(math.ceil(len(images) / size), device=self.device)
        # Looking at a loss makes a GPU wait, so there it is done now and then; the step is known all the same.
        interval = 1 if self.device.type == "cpu" else 50
        for step, (x, y) in enumerate(batches(images, size, self.order)):
            x, y = self.method.batch(x, y)
            losses[step] = self.step.loss(x, y)
            if (step + 1) % interval == 0 or step + 1 == len(losses):
                self._check_losses(losses[: step + 1], x)
                self.report.step(self.done, (step + 1) / len(losses))
            self.step.backward()
            self.method.gradients()
            if not self.step.update(self.optimizer):
                self._check_weights(step + 1)
            self.method.stepped()
            self.cores.step()
        self._check_weights(len(losses))
        sizes = torch.full_like(losses, size, device="cpu", dtype=torch.float64)
        sizes[-1] = len(images) - size * (len(losses) - 1)
        return float((losses.cpu().double() * sizes).sum()) / len(images)

    def _check_weights(self, step: int) -> None:
        # A hidden weight that is not a number has a sign all the same: the loss does not show it.
        if broken := broken_parameter(self.model):
            raise DivergenceError(f"{self._where(step)}: {broken}. {_ADVICE}")

    def _check_losses(self, losses: Tensor, x: Tensor) -> None:
        finite = torch.isfinite(losses)
        if not finite.all():
            step = int(finite.logical_not().nonzero()[0])
            cause = broken_parameter(self.model) or broken_sums(self.model, x.float()) or "the logits overflow the loss"
            raise DivergenceError(f"{self._where(step + 1)}: the loss is {losses[step].item()}; {cause}. {_ADVICE}")

    def _where(self, step: int) -> str:
        part, epoch = divmod(self.done, self.settings.epochs)
        return f"training diverged in part {part + 1}, epoch {epoch + 1}, step {step}"

    def _warn_of_closed_layers(self, part: int, images: Images) -> None:
        pixels = images.x[:_LOOK_AT].to(torch.float32)
        for layer, share in learning_shares(self.model, pixels).items():
            if share < _LEAST_SHARE:
                warnings.warn(
                    f"part {part + 1}: only {share:.1%} of the values before the sign {layer!r} lie where its gradient "
                    "is not 0, so what comes before it hardly learns: do the network's pixel offset and scale fit "
                    "these images?",
                    stacklevel=2,
                )

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

    def _save(self) -> None:
        if self.folder is None:
            return
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizer_tensors(self.optimizer).items()}
        tensors |= {f"method.{name}": tensor for name, tensor in self.method.tensors().items()}
        tensors |= {"random.order": self.order.get_state(), "random.torch": torch.get_rng_state()}
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        self.folder.save(tensors, {"done": self.done, "history": self._records(), "threads": torch.get_num_threads()})
        self.kept, self.saved_at = self.done, time.monotonic()
        self.folder.save_metrics(self.matrix(), self._records())

    def _records(self) -> list[dict[str, Any]]:
        """The epochs as JSON holds them, in one order whoever writes them."""
        return [asdict(record) for record in self.history]

    def _load(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        def under(prefix: str) -> dict[str, Tensor]:
            return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}

        try:
            self.model.load_state_dict(under("model."))
            load_optimizer(self.optimizer, under("optimizer."))
            self.method.load(under("method."))
            self.order.set_state(tensors["random.order"])
            torch.set_rng_state(tensors["random.torch"])
            if self.device.type == "cuda":
                torch.cuda.set_rng_state(tensors["random.cuda"], self.device)
            self.history = [
                EpochRecord(**{**record, "accuracies": tuple(record["accuracies"])}) for record in state["history"]
            ]
            self.done = self.kept = state["done"]
            if type(self.done) is not int or self.done != len(self.history) - 1 or not 0 <= self.done <= self.total:
                raise ValueError(f"{self.done} epochs are done of {self.total}, and {len(self.history)} are recorded")
            self.matrix()  # of accuracies that fit the tests
            if type(state.get("threads", 1)) is not int or state.get("threads", 1) < 1:
                raise ValueError(f"it names {state['threads']!r} threads")
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise FormatError(f"the checkpoint does not fit this run: {error}") from error


def _derived(seed: int, use: int) -> int:
    return int(np.random.SeedSequence([seed, use]).generate_state(1, np.uint64)[0])


@contextmanager
def _own_random_numbers(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators inside the block (for models that draw at random), and restore them after it."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(_derived(seed, 1))
        yield
