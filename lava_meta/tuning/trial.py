"""What a trial is, the budget of a search, and its outcome as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Trial:
    """Values that were tried, and the accuracy that they gave on held-out images."""

    values: Mapping[str, Any]  # "m", "lr", and what else was searched
    accuracy: float  # %, mean over the tasks after the last of them
    tasks: tuple[float, ...]  # %, of each task then
    seconds: float  # that it took


@dataclass(frozen=True)
class Budget:
    """How many trials, and in what time. Raises `ValueError` for a number out of its range.

    Args:
        trials: at least 1; those of earlier stretches count.
        seconds: no trial begins if it would end later, should it take as long as the longest before it. The time of
            earlier stretches counts. None: no limit.
    """

    trials: int = 12
    seconds: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.trials, bool) or not isinstance(self.trials, int) or self.trials < 1:
            raise ValueError(f"trials is {self.trials!r}; it must be a whole number of at least 1")
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"seconds is {self.seconds!r}; it must be above 0")

    def left(self, trials: Sequence[Trial]) -> int:
        """How many more trials may begin."""
        spent = [trial.seconds for trial in trials]
        over = self.seconds is not None and spent and sum(spent) + max(spent) > self.seconds
        return 0 if over else max(0, self.trials - len(trials))

    def __str__(self) -> str:
        return f"{self.trials} trials" + ("" if self.seconds is None else f", {self.seconds:g} s")


def best_of(trials: Sequence[Trial]) -> Trial:
    """The trial with the highest accuracy, the first of equals."""
    return max(trials, key=lambda trial: trial.accuracy)


def table(trials: Sequence[Trial]) -> str:
    """All trials in Markdown, the best first."""
    first = trials[0]
    head = ["trial", *first.values, "accuracy", *(f"task {n + 1}" for n in range(len(first.tasks))), "seconds"]
    rows = [head, ["---"] * len(head)]
    for number, trial in sorted(enumerate(trials, 1), key=lambda one: -one[1].accuracy):
        numbers = [f"{accuracy:.1f}" for accuracy in (trial.accuracy, *trial.tasks)]
        rows.append(
            [f"{number}", *(_text(trial.values[name]) for name in first.values), *numbers, f"{trial.seconds:.0f}"]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
