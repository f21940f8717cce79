"""What looks at a run while it goes on, and may end a task early.

    on_start         before the first step, or before the next one of a run that is resumed
    on_task_start    before the first step of an experience
    on_step          after a step of the optimizer; of an on-line learner, after a group of images
    on_epoch         after the last step of an epoch, before its tests: a task may be ended here
    on_task_end      after the last epoch of an experience, before its tests: weights may be put back here
    on_test          when the tests are measured; with epoch 0 also before any training
    on_end           however the run ends

A callback derives from `Callback` and overrides what it needs. One that raises after `on_start` is left out for the
rest of the run with a warning, and training goes on, unless it says in `to_dict` that it changes what is learned. What
a callback must know to go on after a checkpoint, `state` gives as JSON holds it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lava_meta.data import Images
from lava_meta.training.metrics import AccuracyMatrix


@dataclass
class RunView:
    """What a callback sees of a run. Experiences and epochs count from 1."""

    model: Any  # the module whose weights are trained, or the on-line learner
    settings: dict[str, Any]  # of the run, as JSON holds them
    folder: Path | None  # of the run, if it has one
    tasks: int  # experiences to learn
    epochs: int  # of each, at most
    look: Callable[[], float | None]  # at the loss: on a GPU, looking makes it wait
    measure: Callable[[Images], float]
    measured: Callable[[], AccuracyMatrix]
    task: int = 0  # the experience under way; 0 before the first
    epoch: int = 0
    step: int = 0  # steps of the run so far; of an on-line learner, images
    accuracies: tuple[float | None, ...] = ()  # the last tests, fractions; None: not measured
    ends_task: bool = False  # this epoch is the last of its experience
    loss_name: str = "loss"  # what `loss` is called; "error" of an on-line learner

    @property
    def loss(self) -> float | None:
        """Of the last step in `on_step`, later the mean of the epoch; of an on-line learner, the share of errors."""
        return self.look()

    @property
    def matrix(self) -> AccuracyMatrix:
        """The accuracies after each experience that is complete; NaN for the others."""
        return self.measured()

    def accuracy(self, images: Images) -> float:
        """Share of `images`, of the task at hand, that the model classifies rightly now; nothing else changes."""
        return self.measure(images)

    def stop_task(self) -> None:
        """Let this epoch be the last of its experience. In `on_epoch` only; on-line, experiences have one epoch."""
        self.ends_task = True


class Callback:
    """Every event does nothing: override those that are needed. The module says when they come."""

    def on_start(self, run: RunView) -> None:
        """Before the first step."""

    def on_task_start(self, run: RunView) -> None:
        """Before the first step of an experience."""

    def on_step(self, run: RunView) -> None:
        """After each step."""

    def on_epoch(self, run: RunView) -> None:
        """After the last step of an epoch, before its tests."""

    def on_task_end(self, run: RunView) -> None:
        """After the last epoch of an experience, before its tests."""

    def on_test(self, run: RunView) -> None:
        """After the tests."""

    def on_end(self, run: RunView) -> None:
        """However the run ends."""

    def to_dict(self) -> dict[str, Any] | None:
        """Its settings as JSON holds them, if it changes what is learned: a run is resumed with the same ones."""
        return None

    def state(self) -> dict[str, Any]:
        """What has changed since it was made, as JSON holds it."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""


EVENTS = ("on_start", "on_task_start", "on_step", "on_epoch", "on_task_end", "on_test", "on_end")


class Callbacks:
    """The callbacks of a run, called by an event's name. Raises `TypeError` for what is no callback."""

    def __init__(self, given: Iterable[Callback], view: RunView) -> None:
        self.all, self.view = check_callbacks(given), view
        self._left_out: set[int] = set()
        self._with = {event: [one for one in self.all if _overrides(one, event)] for event in EVENTS}

    def __call__(self, event: str, **changes: Any) -> None:
        """Call what overrides `event`, with a view of the run that has changed."""
        for name, value in changes.items():
            setattr(self.view, name, value)
        for callback in self._with[event]:
            self._guarded(callback, event, partial(getattr(callback, event), self.view))

    def to_dict(self) -> dict[str, Any]:
        """Where they stand."""
        found: dict[str, Any] = {"step": self.view.step}
        for name, callback in self._named():
            self._guarded(callback, "state", partial(_keep_state, found, name, callback))
        return found

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `to_dict` gave; a callback that was not there begins again."""
        self.view.step = int(state.get("step", 0))
        for name, callback in self._named():
            if name in state:
                self._guarded(callback, "load", partial(callback.load, state[name]))

    def _named(self) -> Iterator[tuple[str, Callback]]:
        """Each by its kind, and its number among those of its kind."""
        seen: dict[str, int] = {}
        for callback in self.all:
            kind = type(callback).__name__
            seen[kind] = seen.get(kind, 0) + 1
            yield f"{kind} {seen[kind]}", callback

    def _guarded(self, callback: Callback, event: str, call: Callable[[], Any]) -> None:
        if id(callback) in self._left_out:
            return
        try:
            call()
        except Exception as error:
            self._left_out.add(id(callback))
            if event == "on_start" or callback.to_dict() is not None:
                raise
            warnings.warn(
                f"{type(callback).__name__}.{event} raised {error!r}: it is left out for the rest of this run, and "
                "training goes on",
                stacklevel=4,
            )


def _overrides(callback: Callback, event: str) -> bool:
    return getattr(type(callback), event) is not getattr(Callback, event)


def _keep_state(found: dict[str, Any], name: str, callback: Callback) -> None:
    found[name] = callback.state()


def check_callbacks(given: Iterable[Callback]) -> tuple[Callback, ...]:
    """All of them. Raises `TypeError` for what is no callback."""
    found = tuple(given) if isinstance(given, Iterable) else (given,)
    for number, callback in enumerate(found):
        if not isinstance(callback, Callback):
            kind = callback.__name__ if isinstance(callback, type) else f"a {type(callback).__name__}"
            raise TypeError(f"callbacks[{number}] is {kind}; give objects of classes derived from lava_meta.Callback")
    return found


def described(callbacks: Sequence[Callback]) -> list[dict[str, Any]]:
    """Those that change what is learned."""
    return [settings for callback in callbacks if (settings := callback.to_dict()) is not None]
