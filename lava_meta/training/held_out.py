"""Callbacks that go by images held out of the training set: early stopping, and the best weights of each task.

    scenario, held_out = scenario.hold_out(0.1, seed=0)
    train(model, scenario, callbacks=[EarlyStopping(held_out), BestCheckpoint(held_out)])

Tests stay out of it: settings are chosen on the held-out images, and the tests looked at once.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from lava_meta.data import Images
from lava_meta.nn import BinaryMLP
from lava_meta.training.callbacks import Callback, RunView
from lava_meta.training.checkpoint import read_checkpoint, write_checkpoint
from lava_meta.training.model_file import save_model

WEIGHTS = "weights"  # the kind of a file of weights alone


class HeldOut(Callback):
    """Measures held-out images after each epoch, and knows the best so far of the task.

    Args:
        images: for all experiences, or one for each of them, as `Scenario.hold_out` gives.

    Raises:
        TypeError: they are no `Images`.
    """

    def __init__(self, images: Images | Sequence[Images]) -> None:
        given = [images] if isinstance(images, Images) else images
        if not isinstance(given, Sequence) or not all(isinstance(one, Images) for one in given):
            raise TypeError(
                f"held-out images are {type(images).__name__}; give lava_meta.Images(x, y), or a list, one for each "
                "experience (of a DataLoader: Dataset.from_torch(loader).train)"
            )
        self.images = images
        self.best, self.best_epoch = -math.inf, 0  # of the task at hand
        self._held: tuple[int, Images] | None = None  # made once per task

    def on_task_start(self, run: RunView) -> None:
        self.best, self.best_epoch = -math.inf, 0

    def improved(self, run: RunView, by: float = 0.0) -> bool:
        """Whether this epoch is better than the best so far, by more than `by`; it is the best then."""
        if self._held is None or self._held[0] != run.task:
            self._held = run.task, self._of(run.task)
        accuracy = run.accuracy(self._held[1])
        if not accuracy > self.best + by:
            return False
        self.best, self.best_epoch = accuracy, run.epoch
        return True

    def state(self) -> dict[str, Any]:
        return {"best": None if self.best == -math.inf else self.best, "best_epoch": self.best_epoch}

    def load(self, state: dict[str, Any]) -> None:
        self.best = -math.inf if state["best"] is None else float(state["best"])
        self.best_epoch = int(state["best_epoch"])

    def described(self, **settings: Any) -> dict[str, Any]:
        """Kind, settings and images, as a run's folder keeps them."""
        several = [self.images] if isinstance(self.images, Images) else self.images
        crc = 0
        for images in several:
            for tensor in (images.x, images.y):
                crc = zlib.crc32(tensor.cpu().contiguous().numpy().data, crc)
        return {"kind": type(self).__name__, **settings, "images crc32": f"{crc:08x}"}

    def _of(self, task: int) -> Images:
        if isinstance(self.images, Images):
            return self.images
        if task > len(self.images):
            count = len(self.images)
            raise ValueError(f"{type(self).__name__} has held-out images of {count} experiences; this is number {task}")
        return self.images[task - 1]


class EarlyStopping(HeldOut):
    """Ends a task when the accuracy on held-out images has not risen for `patience` epochs.

    Args:
        images: held out, as of `HeldOut`.
        patience: epochs without a new best.
        min_delta: what a new best must be above the one before, a fraction.
    """

    def __init__(self, images: Images | Sequence[Images], *, patience: int = 3, min_delta: float = 0.0) -> None:
        super().__init__(images)
        if patience < 1 or not 0 <= min_delta < 1:
            raise ValueError(f"patience is {patience} and min_delta {min_delta}; they must be at least 1, and in 0..1")
        self.patience, self.min_delta = patience, min_delta

    def on_epoch(self, run: RunView) -> None:
        if not self.improved(run, self.min_delta) and run.epoch - self.best_epoch >= self.patience:
            run.stop_task()

    def to_dict(self) -> dict[str, Any]:
        return self.described(patience=self.patience, min_delta=self.min_delta)


class BestCheckpoint(HeldOut):
    """Keeps the weights of the best epoch of the task, by held-out images, and puts them back when the task ends.

    Args:
        images: held out, as of `HeldOut`.
        path: the file, which each task overwrites; by default best.safetensors in the folder of the run. It is a file
            of the model for networks that `lava_meta.load` reads, of the weights alone for any other.
        restore: whether they are put back; else the file is all.
    """

    def __init__(
        self, images: Images | Sequence[Images], path: str | os.PathLike[str] | None = None, *, restore: bool = True
    ) -> None:
        super().__init__(images)
        self.path, self.restore = path, restore

    def on_start(self, run: RunView) -> None:
        self._file(run)
        if not isinstance(run.model, nn.Module):
            raise TypeError("BestCheckpoint keeps networks of torch; an on-line learner has learner.save(path)")

    def on_epoch(self, run: RunView) -> None:
        if not self.improved(run):
            return
        if isinstance(run.model, BinaryMLP):
            save_model(run.model, self._file(run))
        else:
            about = {"kind": WEIGHTS, "task": run.task, "epoch": run.epoch, "accuracy": self.best}
            write_checkpoint(self._file(run), run.model.state_dict(), about)

    def on_task_end(self, run: RunView) -> None:
        if self.restore:
            run.model.load_state_dict(read_checkpoint(self._file(run))[0])

    def to_dict(self) -> dict[str, Any] | None:
        return self.described() if self.restore else None

    def _file(self, run: RunView) -> Path:
        if self.path is None and run.folder is None:
            raise ValueError("BestCheckpoint needs a file: give its path, or the run a folder with out=")
        return Path(self.path) if self.path is not None else Path(run.folder or "") / "best.safetensors"
