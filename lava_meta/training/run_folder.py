"""The folder of one training run.

    settings.json            what was run: settings, scenario, model, library versions
    checkpoint.safetensors   where it stands: see `lava_meta.training.checkpoint`
    metrics.csv              one line per epoch: loss and test accuracies
    accuracy.csv             the accuracy matrix
    metrics.json             both, with ACC, BWT, FWT and forgetting

The checkpoint is the truth: the metrics are written again from it whenever it changes and whenever a run is resumed. It
carries the description of its run, and is refused where that is not the description of the folder's run.
One process at a time trains in a folder: it holds `.training.lock` (`lava_meta.io.locks`) from beginning to end.
"""

from __future__ import annotations

import json
import os
import platform
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lava_meta.data.scenarios import Scenario
from lava_meta.errors import FormatError, RunFolderError
from lava_meta.io.files import read_json, remove_leftovers, write_json
from lava_meta.io.locks import held
from lava_meta.training.callbacks import Callback, described
from lava_meta.training.checkpoint import read_checkpoint, write_checkpoint
from lava_meta.training.evaluation import device_of
from lava_meta.training.methods import Method
from lava_meta.training.metrics import AccuracyMatrix, write_csv
from lava_meta.training.settings import TrainSettings

SETTINGS = "settings.json"
DESCRIPTION = "description"  # the same, in the checkpoint
CHECKPOINT = "checkpoint.safetensors"
LOCK = ".training.lock"
METRICS = ("metrics.csv", "accuracy.csv", "metrics.json")


@contextmanager
def open_run(
    path: str | os.PathLike[str], description: dict[str, Any], *, resume: bool = False, overwrite: bool = False
) -> Iterator[RunFolder]:
    """A `RunFolder` in which no other process trains while the block runs.

    Raises as `RunFolder` does, and `lava_meta.io.locks.HeldError`, a `RunFolderError` that names the process, where
    another one trains in the folder.
    """
    folder = Path(path)
    with _writing(folder), ExitStack() as stack:
        folder.mkdir(parents=True, exist_ok=True)
        stack.enter_context(held(folder / LOCK))
        lock = stack.pop_all()
    with lock:
        yield RunFolder(folder, description, resume=resume, overwrite=overwrite)


class RunFolder:
    """A folder opened for one run, described by `description` (see `describe`), while its lock is held (`open_run`).

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
        found = [name for name in (CHECKPOINT, SETTINGS, *METRICS) if (self.path / name).exists()]
        if found and not (resume or overwrite):
            files = ", ".join(found)
            raise RunFolderError(
                f"{self.path} holds a run ({files}): resume it, overwrite it, or choose another folder"
            )
        if found and resume:
            self._compare()
        # The checkpoint goes first: without it, whatever else is left is a run that has not begun.
        for name in found if overwrite else ():
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
            with _writing(self.path):
                write_json(self.path / SETTINGS, self._description)
        write_checkpoint(self.path / CHECKPOINT, tensors, {**state, DESCRIPTION: self._description})

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read the checkpoint.

        Raises `FormatError` when it is truncated or altered, `RunFolderError` when it is not that of the folder's run.
        """
        tensors, state = read_checkpoint(self.path / CHECKPOINT)
        # Checkpoints of earlier versions carry none.
        saved = state.pop(DESCRIPTION, None)
        if saved is not None:
            _refuse_differences(saved, self._description, f"{self.path / CHECKPOINT} belongs to another run")
        return tensors, state

    def save_metrics(self, matrix: AccuracyMatrix, history: list[dict[str, Any]]) -> None:
        """Write the matrix and the epochs (part, epoch, loss, accuracies) as CSV and JSON. Raises as `save` does."""
        rows = [
            [*("" if value is None else value for value in (r["part"], r["epoch"], r["loss"], *r["accuracies"]))]
            for r in history
        ]
        with _writing(self.path):
            write_csv(self.path / "metrics.csv", ["part", "epoch", "loss", *matrix.columns()], rows)
            matrix.to_csv(self.path / "accuracy.csv")
            write_json(self.path / "metrics.json", {"accuracy": matrix.to_dict(), "history": history})

    def _compare(self) -> None:
        file = self.path / SETTINGS
        try:
            saved = read_json(file)
        except (OSError, FormatError) as error:
            raise FormatError(f"{file} cannot be read, so the run cannot be resumed: {error}") from error
        libraries = _refuse_differences(saved, self._description, f"{self.path} holds another run")
        if libraries:
            warnings.warn(
                f"{self.path} was begun with other libraries, so the result may differ in the last bits: "
                f"{'; '.join(libraries)}",
                stacklevel=6,
            )


def m_in_folder(path: str | os.PathLike[str] | None) -> float | tuple[float, ...] | None:
    """The metaplasticity of the run in a folder; None if there is no run that says."""
    try:
        m = read_json(Path(path or "") / SETTINGS)["settings"]["m"]
    except (OSError, FormatError, KeyError, TypeError):
        return None  # a folder that cannot be resumed is refused when it is opened
    return tuple(m) if isinstance(m, list) else m


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunFolderError(f"{path} cannot be written: {error}") from error


def _refuse_differences(saved: Any, now: dict[str, Any], what: str) -> list[str]:
    """Differences of the libraries alone. Raises `RunFolderError`, which begins with `what`, for any others."""
    different = list(differences(saved, json.loads(json.dumps(now))))
    libraries = [line for line in different if line.startswith("libraries.")]
    others = [line for line in different if line not in libraries]
    if others:
        raise RunFolderError(f"{what}, which this one cannot resume: {'; '.join(others)}")
    return libraries


def describe(
    settings: TrainSettings,
    scenario: Scenario,
    model: nn.Module,
    method: Method | None = None,
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """What makes a run the run it is, as JSON holds it."""
    changing, chosen = described(callbacks), settings.to_dict()
    if not settings.relative:
        del chosen["relative"]  # as in folders of versions that did not have it
    return {
        **({"callbacks": changing} if changing else {}),
        "settings": chosen,
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
