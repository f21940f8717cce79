"""Callbacks of a learner: the events of training, in a run that sees each image once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lava_meta.data.scenarios import Scenario
from lava_meta.online_learning.given import Stream
from lava_meta.online_learning.history import Run
from lava_meta.training.callbacks import Callback, Callbacks, RunView
from lava_meta.training.metrics import AccuracyMatrix


class Watch:
    """Tells callbacks of a call of `fit`; a context manager."""

    def __init__(self, learner: Any, callbacks: Sequence[Callback], stream: Stream, run: Run) -> None:
        self.stream, self.run = stream, run
        view = RunView(
            learner,
            {"sizes": list(learner.sizes), "rule": learner.rule.to_dict(), "seed": learner.seed} if callbacks else {},
            None,
            len(stream.train) if isinstance(stream, Scenario) else 0,
            1,
            look=lambda: None,
            measure=learner.accuracy,
            measured=self._matrix,
            loss_name="error",
        )
        self.call = Callbacks(callbacks, view)

    def __enter__(self) -> Watch:
        try:
            self.call("on_start")
        except BaseException:
            self.call("on_end")
            raise
        self.call("on_test", accuracies=self._last())
        return self

    def __exit__(self, *exc: object) -> None:
        self.call("on_end")

    def begins(self) -> None:
        """The next experience."""
        self.call("on_task_start", task=self.run.parts + 1, epoch=1, ends_task=True)

    def steps(self, images: int, right: int) -> None:
        """So many images were learned, of which `right` were classified rightly before."""
        self.call("on_step", step=self.run.history.images, look=lambda: 1 - right / images)

    def ends(self) -> None:
        """The experience, which is learned and tested."""
        error = 1 - self.run.history.online[-1]
        self.call("on_epoch", look=lambda: error)
        self.call("on_task_end")
        self.call("on_test", accuracies=self._last())

    def _last(self) -> tuple[float | None, ...]:
        return tuple(None if math.isnan(value) else value for value in self.run.rows[-1])

    def _matrix(self) -> AccuracyMatrix:
        if not isinstance(self.stream, Scenario):
            raise ValueError("the stream has no tests: learn a scenario, or a Dataset")
        values = np.full((len(self.stream.train) + 1, len(self.stream.tests)), np.nan)
        values[: len(self.run.rows)] = self.run.rows
        return AccuracyMatrix(values, self.stream.task_of, tuple(test.name for test in self.stream.tests))
