"""Loggers: the losses and test accuracies of a run, written while it goes on.

    train(model, scenario, out="runs/a", callbacks=[TensorBoard()])

What is written: "loss" every `every` steps, and after each test "accuracy/task 1", ..., "acc" and "forgetting"
at the number of steps so far; of an on-line learner "error", the share misclassified before they were learned,
at the number of images. A run that is resumed goes on in the same log. A logger of your own derives from `Logger`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lava_meta.errors import require
from lava_meta.training.callbacks import Callback, RunView
from lava_meta.training.metrics import task_name


class Logger(Callback):
    """Writes numbers by name. every: steps between two losses."""

    def __init__(self, *, every: int = 50) -> None:
        if every < 1:
            raise ValueError(f"every is {every}; it must be at least 1")
        self.every = every
        self._last = 0  # step of the last loss

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Write these values."""
        raise NotImplementedError

    def on_step(self, run: RunView) -> None:
        loss = run.loss if run.step - self._last >= self.every else None
        if loss is not None:
            self._last = run.step
            self.write({run.loss_name: loss}, run.step)

    def on_test(self, run: RunView) -> None:
        values = {f"accuracy/{task_name(task)}": value for task, value in enumerate(run.accuracies)}
        if run.task and run.ends_task and run.accuracies:
            values |= {"acc": run.matrix.acc(run.task), "forgetting": run.matrix.forgetting(run.task)}
        known = {name: value for name, value in values.items() if value is not None and not math.isnan(value)}
        if known:
            self.write(known, run.step)

    def state(self) -> dict[str, Any]:
        return {"last": self._last}

    def load(self, state: dict[str, Any]) -> None:
        self._last = int(state["last"])


class Lines(Logger):
    """Writes a line per epoch, as "step 46: accuracy/task 1 0.91, ..."; print: where to."""

    def __init__(self, print: Callable[[str], Any] = print, *, every: int = 50) -> None:
        super().__init__(every=every)
        self.print = print

    def write(self, values: Mapping[str, float], step: int) -> None:
        self.print(f"step {step}: " + ", ".join(f"{name} {value:.3g}" for name, value in values.items()))


class TensorBoard(Logger):
    """Writes event files for `tensorboard --logdir FOLDER`.

    Args:
        folder: by default "tensorboard" in the folder of the run.
        every: steps between two losses.

    Raises:
        PackageMissingError: tensorboard is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, *, every: int = 50) -> None:
        super().__init__(every=every)
        require("tensorboard", "TensorBoard")
        self.folder = folder

    def on_start(self, run: RunView) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if self.folder is None and run.folder is None:
            raise ValueError("TensorBoard needs a folder: give one, or the run a folder with out=")
        folder = Path(self.folder) if self.folder is not None else Path(run.folder or "") / "tensorboard"
        # What was written after the checkpoint that the run goes on from is written again.
        self._writer = SummaryWriter(str(folder), purge_step=run.step + 1 if run.step else None)
        self._writer.add_text("settings", "\n".join(f"    {name}: {value}" for name, value in run.settings.items()))

    def write(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def on_end(self, run: RunView) -> None:
        self._writer.close()


class WeightsAndBiases(Logger):
    """Writes to a run of Weights & Biases. init: what `wandb.init` takes, as `project="mnist"`.

    Raises `PackageMissingError` if wandb is not installed.
    """

    def __init__(self, *, every: int = 50, **init: Any) -> None:
        super().__init__(every=every)
        require("wandb", "WeightsAndBiases")
        self.init = init

    def on_start(self, run: RunView) -> None:
        import wandb

        self._run = wandb.init(**{"config": run.settings, "resume": "allow", **self.init})

    def write(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def on_end(self, run: RunView) -> None:
        self._run.finish()

    def state(self) -> dict[str, Any]:
        return super().state() | {"id": self._run.id}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self.init = {"id": state["id"], **self.init}


class MLflow(Logger):
    """Writes to a run of MLflow.

    Args:
        experiment: its name, made if there is none.
        uri: the tracking server or folder; None: as MLflow itself chooses, by MLFLOW_TRACKING_URI.
        run_name: the run's name.
        every: steps between two losses.

    Raises:
        PackageMissingError: mlflow is not installed.
    """

    def __init__(
        self, experiment: str = "Default", *, uri: str | None = None, run_name: str | None = None, every: int = 50
    ) -> None:
        super().__init__(every=every)
        require("mlflow", "MLflow")
        self.experiment, self.uri, self.run_name = experiment, uri, run_name
        self._id: Any = None

    def on_start(self, run: RunView) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient(self.uri)
        if self._id is not None:
            self._client.update_run(self._id, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(self.experiment)
        experiment = self._client.create_experiment(self.experiment) if found is None else found.experiment_id
        self._id = self._client.create_run(experiment, run_name=self.run_name).info.run_id
        for name, value in run.settings.items():
            self._client.log_param(self._id, name, value)

    def write(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self._id, name, value, step=step)

    def on_end(self, run: RunView) -> None:
        self._client.set_terminated(self._id)

    def state(self) -> dict[str, Any]:
        return super().state() | {"id": self._id}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self._id = state["id"]
