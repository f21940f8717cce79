"""What the epochs of a run gave."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lava_meta.data.scenarios import Scenario
from lava_meta.training.metrics import AccuracyMatrix


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch gave; experience 0, epoch 0 is the test before any training."""

    part: int  # the experience, from 1
    epoch: int  # from 1 in each experience
    loss: float | None  # mean over the training images of the part, while training
    accuracies: tuple[float | None, ...]  # (tests,), fractions 0..1; None: not measured


class History:
    """The records of a run so far: the test before any training, then one per epoch."""

    def __init__(self, scenario: Scenario, epochs: int) -> None:
        self.scenario, self.epochs = scenario, epochs
        self.records: list[EpochRecord] = []
        self.ended: list[int] = []  # experiences, from 1, that a callback ended before their last epoch

    @property
    def done(self) -> int:
        """Epochs that are complete, over all experiences."""
        return max(0, len(self.records) - 1)

    @property
    def total(self) -> int:
        """Epochs over all experiences, without those that are left out."""
        left_out = [self.epochs - record.epoch for record in self.records if record.part and self._is_last(record)]
        return self.epochs * len(self.scenario.train) - sum(left_out)

    @property
    def under_way(self) -> tuple[int, int]:
        """Part and epoch that come next, both from 0."""
        last = self.records[-1] if self.records else EpochRecord(0, 0, None, ())
        return (last.part, 0) if last.part == 0 or self._is_last(last) else (last.part - 1, last.epoch)

    @property
    def complete(self) -> bool:
        """Whether nothing is left to learn."""
        return self.under_way[0] == len(self.scenario.train)

    def matrix(self) -> AccuracyMatrix:
        """Rows for the experiences that are complete; NaN for those still to come."""
        tests = self.scenario.tests
        values = np.full((len(self.scenario.train) + 1, len(tests)), np.nan)
        for record in self.records:
            if record.part == 0 or self._is_last(record):
                values[record.part] = [math.nan if a is None else a for a in record.accuracies]
        return AccuracyMatrix(values, self.scenario.task_of, tuple(test.name for test in tests))

    def mean_of_begun(self) -> float | None:
        """Mean accuracy of the last record over the tasks that have begun; None if it has none of them."""
        last = self.records[-1]
        begun = [last.accuracies[task] for task in sorted(set(self.scenario.task_of[: last.part]))]
        known = [accuracy for accuracy in begun if accuracy is not None]
        return sum(known) / len(known) if known else None

    def to_list(self) -> list[dict[str, Any]]:
        """The records as JSON holds them, in one order whoever writes them."""
        return [asdict(record) for record in self.records]

    def load(self, records: Iterable[dict[str, Any]], done: Any, ended: Iterable[int] = ()) -> None:
        """Take over what `to_list` gave. Raises for records that do not fit the scenario, or `done` epochs."""
        self.ended = [int(part) for part in ended]
        self.records = [EpochRecord(**{**record, "accuracies": tuple(record["accuracies"])}) for record in records]
        if type(done) is not int or done != len(self.records) - 1 or not 0 <= done <= self.total:
            raise ValueError(f"{done} epochs are done of {self.total}, and {len(self.records)} are recorded")
        self.matrix()  # of accuracies that fit the tests

    def _is_last(self, record: EpochRecord) -> bool:
        """Whether it is of the last epoch of its experience."""
        if record.epoch == self.epochs:
            return True
        return record.part in self.ended and record.epoch == max(r.epoch for r in self.records if r.part == record.part)
