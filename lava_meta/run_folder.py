"""The folder of one training run.

    settings.json            what was run: settings, scenario, model, library versions
    checkpoint.safetensors   where it stands: see `lava_meta.checkpoint`
    metrics.csv              one line an epoch: loss and test accuracies
    accuracy.csv             the accuracy matrix
    metrics.json             both, with ACC, BWT, FWT and forgetting

The checkpoint is the truth: the metrics are written anew from it whenever it changes and whenever a run is resumed.
One process at a time trains in a folder.
"""

from __future__ import annotations

import json
import os
import platform
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lava_meta.checkpoint import read_checkpoint, remove_leftovers, write_checkpoint
from lava_meta.errors import FormatError, RunFolderError
from lava_meta.evaluation import device_of
from lava_meta.files import write_json
from lava_meta.methods import Method
from lava_meta.metrics import AccuracyMatrix, write_csv
from lava_meta.settings import TrainSettings
from lava_meta.streams import Scenario

SETTINGS = "settings.json"
CHECKPOINT = "checkpoint.safetensors"
METRICS = ("metrics.csv", "accuracy.csv", "metrics.json")


class RunFolder:
    """A folder opened for one run, described by `description` (see `describe`).

    A new folder is made. A folder that holds a run is refused, unless with `resume` the description is the same, or
    with `overwrite`, which removes that run's files and no others. Libraries of other versions are only warned about.

    Raises `RunFolderError` when the folder holds another run, with every difference named, or cannot be written;
    `FormatError` when its settings cannot be read; `ValueError` for `resume` together with `overwrite`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        description: dict[str, Any],
        *,
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        if resume and overwrite:
            raise ValueError("resume goes on with the run in the folder, overwrite removes it: choose one")
        self.path = Path(path)
        self._description = description
        self._check_writable()
        held = [name for name in (CHECKPOINT, SETTINGS, *METRICS) if (self.path / name).exists()]
        if held and not (resume or overwrite):
            files = ", ".join(held)
            raise RunFolderError(
                f"{self.path} holds a run ({files}): resume it, overwrite it, or choose another folder"
            )
        if held and resume:
            self._compare()
        # The checkpoint goes first: without it, whatever else is left is a run that has not begun.
        for name in held if overwrite else ():
            (self.path / name).unlink()
        for name in (CHECKPOINT, SETTINGS, *METRICS):
            remove_leftovers(self.path / name)

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return (self.path / CHECKPOINT).exists()

    def save(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Write the checkpoint, and before the first one the settings. Raises `RunFolderError` when it cannot."""
        if not (self.path / SETTINGS).exists():
            with self._writing():
                write_json(self.path / SETTINGS, self._description)
        write_checkpoint(self.path / CHECKPOINT, tensors, state)

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read the checkpoint. Raises `FormatError` when it is truncated or altered."""
        return read_checkpoint(self.path / CHECKPOINT)

    def save_metrics(self, matrix: AccuracyMatrix, history: list[dict[str, Any]]) -> None:
        """Write the matrix and the epochs (part, epoch, loss, accuracies) as CSV and JSON. Raises as `save` does."""
        rows = [
            [*("" if value is None else value for value in (r["part"], r["epoch"], r["loss"], *r["accuracies"]))]
            for r in history
        ]
        with self._writing():
            write_csv(self.path / "metrics.csv", ["part", "epoch", "loss", *matrix.columns()], rows)
            matrix.to_csv(self.path / "accuracy.csv")
            write_json(self.path / "metrics.json", {"accuracy": matrix.to_dict(), "history": history})

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunFolderError(f"{self.path} cannot be written: {error}") from error

    def _check_writable(self) -> None:
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=self.path).close()

    def _compare(self) -> None:
        file = self.path / SETTINGS
        try:
            saved = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FormatError(f"{file} cannot be read, so the run cannot be resumed: {error}") from error
        different = list(differences(saved, json.loads(json.dumps(self._description))))
        libraries = [line for line in different if line.startswith("libraries.")]
        others = [line for line in different if line not in libraries]
        if others:
            raise RunFolderError(f"{self.path} holds another run, which this one cannot resume: {'; '.join(others)}")
        if libraries:
            warnings.warn(
                f"{self.path} was begun with other libraries, so the result may differ in the last bits: "
                f"{'; '.join(libraries)}",
                stacklevel=4,
            )


def m_in_folder(path: str | os.PathLike[str] | None) -> float | tuple[float, ...] | None:
    """The metaplasticity of the run in a folder; None where there is no run that says."""
    try:
        m = json.loads((Path(path or "") / SETTINGS).read_text(encoding="utf-8"))["settings"]["m"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a folder that cannot be resumed is refused when it is opened
    return tuple(m) if isinstance(m, list) else m


def describe(
    settings: TrainSettings, scenario: Scenario, model: nn.Module, method: Method | None = None
) -> dict[str, Any]:
    """What makes a run the run it is, as JSON holds it."""
    return {
        "settings": settings.to_dict(),
        "method": None if method is None else method.to_dict(),
        "scenario": {"name": scenario.name, "task_of": list(scenario.task_of), "tests crc32": scenario.checksum()},
        "model": {
            # Some modules show an address, which is another in each process.
            "layers": re.sub(r" at 0x[0-9a-f]+", "", repr(model)),
            "state": {name: f"{tuple(value.shape)} {value.dtype}" for name, value in model.state_dict().items()},
            "device": device_of(model).type,
        },
        "libraries": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }


def differences(saved: Any, now: Any, name: str = "") -> Iterator[str]:
    """Every leaf at which two JSON values differ, as "settings.lr is 0.1 there, 0.2 here"."""
    if isinstance(saved, dict) and isinstance(now, dict):
        for key in sorted({*saved, *now}):
            yield from differences(saved.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif saved != now:
        yield f"{name} is {saved!r} there, {now!r} here"
