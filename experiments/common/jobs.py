"""The runs of an experiment, one for each arm and seed, and how one of them is made.

A run that was stopped goes on from what lies in its folder; one that is complete has its result there. Its config.yaml
is what `lava-meta experiment NAME --config` takes to repeat the experiment.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Generic

from lava_meta.errors import DivergenceError, FormatError
from lava_meta.experiments.common.experiment import Experiment, Measurement, Run, S, find
from lava_meta.experiments.common.settings import changed
from lava_meta.io.config import CONFIG, write_config
from lava_meta.io.files import read_checked_json, reading, write_checked_json, write_text
from lava_meta.optim.threads import torch_threads
from lava_meta.training.run_folder import CHECKPOINT

RESULT = "result.json"
_SPENT = "seconds.txt"  # of a run that was stopped, until it goes on


@dataclass(frozen=True)
class Job(Generic[S]):
    """One arm with one seed, to be run in a folder of its own."""

    experiment: Experiment[S]
    settings: S  # of the experiment, all arms
    arm: str
    seed: int
    folder: Path
    scale: str = ""  # from which the settings differ
    progress: bool = False  # to be shown

    def __str__(self) -> str:
        return f"{self.arm}, seed {self.seed}"

    @property
    def result(self) -> Path:
        """The file that is there once the run is complete."""
        return self.folder / RESULT

    def to_dict(self) -> dict[str, Any]:
        """What another process needs to run it, as JSON holds it."""
        return {
            "experiment": self.experiment.name,
            "scale": self.scale,
            "settings": self.settings.to_dict(),
            "arm": self.arm,
            "seed": self.seed,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any], folder: Path) -> Job[Any]:
        """The job that `to_dict` described, in another folder."""
        experiment = find(values["experiment"])
        settings = changed(next(iter(experiment.scales.values())), **values["settings"])
        return Job(experiment, settings, values["arm"], values["seed"], folder, values["scale"])


Execute = Callable[[list[Job[Any]]], Generator[tuple[Job[Any], str], None, None]]
"""Runs jobs and gives each when it is complete, with a word on how: `serially`, or a `Cluster`."""


def jobs_of(
    experiment: Experiment[S], settings: S, out: Path, *, scale: str = "", progress: bool = False
) -> list[Job[S]]:
    """All runs, seed by seed, so that an experiment stopped half way has whole comparisons."""
    return [
        Job(experiment, settings, arm, seed, out / "runs" / slug(arm) / f"seed{seed}", scale, progress)
        for seed in range(settings.seeds)
        for arm in experiment.arms(settings)
    ]


def slug(arm: str) -> str:
    """An arm as a folder's name."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", arm).strip("_")


def serially(jobs: list[Job[Any]]) -> Generator[tuple[Job[Any], str], None, None]:
    """One job after the other, in this process."""
    for job in jobs:
        yield job, f"{measure(job).seconds:.0f} s"


def measure(job: Job[Any]) -> Measurement:
    """Run a job to its end. Raises what the measurement raises, a `DivergenceError` with arm and seed named."""
    settings = job.experiment.arms(job.settings)[job.arm]
    job.folder.mkdir(parents=True, exist_ok=True)
    write_config(job.folder / CONFIG, job.to_dict())
    spent = job.folder / _SPENT
    begin = time.monotonic() - (float(spent.read_text()) if spent.exists() else 0.0)
    with torch_threads(settings.threads):
        try:
            measurement = job.experiment.measure(Run(settings, job.seed, job.folder, job.progress))
        except DivergenceError as error:
            raise DivergenceError(f"{job}: {error}") from error
        except KeyboardInterrupt:
            write_text(spent, f"{time.monotonic() - begin:.2f}")
            raise
    measurement = replace(measurement, seconds=round(time.monotonic() - begin, 2))
    write_checked_json(job.result, asdict(measurement))
    remove_checkpoint(job)
    return measurement


def remove_checkpoint(job: Job[Any]) -> None:
    """With its moments it takes three times the network; what is complete needs it no more, nor the time until then."""
    for name in (CHECKPOINT, _SPENT):
        (job.folder / name).unlink(missing_ok=True)


def read_measurement(path: Path) -> Measurement:
    """What one run of an experiment gave. Raises `FormatError` for a file that is not whole, or was altered."""
    try:
        with reading(path):
            return Measurement(**read_checked_json(path))
    except FormatError as error:
        raise FormatError(f"{error}; remove it to run it again") from error
