"""A search and the folder that keeps it.

    study.json               what is searched, and every trial that is complete
    trials/                  those under way; removed once they are complete
    table.md, figures/       every trial; accuracy against m
    config.yaml              the best settings

What is tried next follows from the seed and the trials before it, so that a search that was stopped goes on as if it
had not been. A trial that was under way goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lava_meta.errors import RunFolderError, require
from lava_meta.io.config import CONFIG, write_config
from lava_meta.io.files import read_checked_json, reading, write_checked_json, write_text
from lava_meta.io.locks import held
from lava_meta.plotting import figures
from lava_meta.training.run_folder import differences
from lava_meta.tuning.figure import accuracy_over_m
from lava_meta.tuning.suggest import Searched, suggest
from lava_meta.tuning.trial import Budget, Trial, best_of, table

STUDY = "study.json"
TRIALS = "trials"
LOCK = ".lock"
Run = Callable[[list[tuple[Path, dict[str, Any] | None]]], list[Trial]]
"""Makes trials: each of its folder and values, or of None for the proposed ones; and gives them in that order."""


class Study:
    """A folder in which a search goes on; see the module."""

    def __init__(self, out: Path, searched: Searched, about: dict[str, Any], trials: list[Trial]) -> None:
        self.out, self.searched, self.about, self.trials = out, searched, about, trials

    def go_on(
        self, run: Run, config: Callable[[Trial], Any], budget: Budget, say: Callable[[str], None], at_once: int = 1
    ) -> list[Trial]:
        """Try what the budget has left, and give all trials; their table, figure and best are written.

        Args:
            run: makes trials.
            config: the settings of a trial, as its file is to hold them.
            budget: of all stretches together.
            say: gets a line per trial.
            at_once: trials that `run` gets together, after the first.

        Raises:
            KeyboardInterrupt: Ctrl-C, with a message; what was found is kept.
        """
        if not self.trials:
            self._write()
        try:
            while left := budget.left(self.trials):
                for trial in run(self._next(min(at_once, left))):
                    self.trials.append(trial)
                    shown = ", ".join(f"{name} = {value}" for name, value in trial.values.items())
                    say(f"[{len(self.trials)}/{budget.trials}] {shown}: {trial.accuracy:.1f} % ({trial.seconds:.0f} s)")
                self._write()
                shutil.rmtree(self.out / TRIALS, ignore_errors=True)
        except KeyboardInterrupt:
            best = f", and the best of them in {CONFIG}" if self.trials else ""
            raise KeyboardInterrupt(
                f"stopped; {len(self.trials)} of {budget.trials} trials are kept in {self.out}{best}: "
                "resume (--resume) goes on"
            ) from None
        finally:
            if self.trials:
                write_text(self.out / "table.md", table(self.trials) + "\n")
                figures.save(accuracy_over_m(self.trials), self.out / "figures" / "accuracy_over_m")
                write_config(self.out / CONFIG, config(best_of(self.trials)))
        return self.trials

    def _next(self, count: int) -> list[tuple[Path, dict[str, Any] | None]]:
        values = suggest(self.trials, self.searched, count) if self.trials else [None]
        # Other values, as of more trials at once before the search was stopped, are another trial.
        names = ["proposed" if one is None else " ".join(map(str, one.values())) for one in values]
        numbered = enumerate(zip(names, values, strict=True), len(self.trials) + 1)
        return [(self.out / TRIALS / f"{number} {name}", one) for number, (name, one) in numbered]

    def _write(self) -> None:
        write_checked_json(self.out / STUDY, {"about": self.about, "trials": [asdict(trial) for trial in self.trials]})


@contextmanager
def open_study(
    out: Path, searched: Searched, about: dict[str, Any], *, resume: bool = False, overwrite: bool = False
) -> Iterator[Study]:
    """A study in a folder that no other process uses while the block runs.

    Args:
        out: the folder; a new one is made.
        searched: what is varied.
        about: all else that makes the search the search it is, as JSON holds it.
        resume: go on with the study in the folder, or begin if there is none.
        overwrite: begin again in a folder that holds a study.

    Raises:
        RunFolderError: the folder holds something else or cannot be written, or another process is at work there.
        FormatError: its study was altered.
        PackageMissingError: Optuna is not installed.
    """
    require("optuna", "Tuning")
    if resume and overwrite:
        raise ValueError("resume goes on with the search in the folder, overwrite removes it: choose one")
    about = json.loads(json.dumps({**about, "search": list(searched.search), "seed": searched.seed}))
    names = sorted(path.name for path in out.iterdir() if path.name != LOCK) if out.is_dir() else []
    if names and STUDY not in names:
        raise RunFolderError(f"{out} holds {', '.join(names[:5])}, which is no search of ours: choose another folder")
    if names and not (resume or overwrite):
        raise RunFolderError(f"{out} holds a search: resume it, overwrite it, or choose another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with held(out / LOCK):
            trials = _read(out / STUDY, about) if names and resume else []
            if overwrite:
                _remove(out)
            yield Study(out, searched, about, trials)
    except OSError as error:
        raise RunFolderError(f"{out} cannot be written: {error}") from error


def _read(file: Path, about: dict[str, Any]) -> list[Trial]:
    with reading(file):
        content = read_checked_json(file)
        there = content["about"]
        trials = [Trial(**{**trial, "tasks": tuple(trial["tasks"])}) for trial in content["trials"]]
    different = list(differences(there, about))
    if different:
        raise RunFolderError(
            f"{file.parent} holds another search, which this one cannot resume: {'; '.join(different)}"
        )
    return trials


def _remove(out: Path) -> None:
    """A search's own files, and no others."""
    for name in (STUDY, CONFIG, "table.md"):
        (out / name).unlink(missing_ok=True)
    for name in (TRIALS, "figures"):
        shutil.rmtree(out / name, ignore_errors=True)
