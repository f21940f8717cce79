"""What long work tells while it runs: a live bar in a terminal or a notebook, elsewhere a line now and then."""

from __future__ import annotations

import importlib.util
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

QUIET_SECONDS = 10.0  # without a terminal: time between lines inside an experience


def _draws_bars(console: Console) -> bool:
    """Whether a live bar can be drawn; rich needs ipywidgets to do so in a notebook."""
    return console.is_terminal or (console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None)


class TrainingProgress:
    """Reports on standard error; a context manager. `enabled=False` says nothing at all."""

    def __init__(self, parts: int, epochs: int, *, enabled: bool) -> None:
        self.parts, self.epochs = parts, epochs
        self._console = Console(stderr=True)
        self._lines = enabled and not _draws_bars(self._console)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not enabled or self._lines,
        )
        self._task = self._bar.add_task("training", total=parts * epochs)
        self._last_line = self._begun = time.monotonic()
        self._first: int | None = None

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        if self._lines or not self._bar.disable:
            self._console.print(text, highlight=False)

    def step(self, done: int, share: float) -> None:
        """`done` epochs are complete, and this share of the next."""
        self._first = done if self._first is None else self._first
        self._bar.update(self._task, completed=done + share)

    def epoch(self, part: int, epoch: int, loss: float, acc: float | None) -> None:
        """An epoch is complete: both counted from 1; `acc` is the mean test accuracy of the tasks begun, 0..1."""
        text = f"experience {part}/{self.parts} epoch {epoch}/{self.epochs} loss {loss:.3f}"
        text += f" ACC {100 * acc:.1f}" if acc is not None else ""
        done = (part - 1) * self.epochs + epoch
        self._bar.update(self._task, description=text, completed=done)
        now = time.monotonic()
        if self._lines and (epoch == self.epochs or now - self._last_line > QUIET_SECONDS):
            self._last_line = now
            here = done - (self._first or 0)
            left = (now - self._begun) / max(here, 1) * (self.parts * self.epochs - done)
            print(f"{text}, {left:.0f} s left", file=self._console.file, flush=True)


class ImagesProgress:
    """Images learned one after the other: a bar on standard error, or without a terminal a line now and then."""

    def __init__(self, *, enabled: bool) -> None:
        self._console = Console(stderr=True)
        self._lines = enabled and not _draws_bars(self._console)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._console, disable=not enabled or self._lines)
        self._task = self._bar.add_task("images", total=None)
        self._last_line = time.monotonic()
        self._name, self._done = "", 0
        self._total: int | None = 0

    def __enter__(self) -> ImagesProgress:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def begin(self, name: str, total: int | None) -> None:
        """`total` images of `name` are next; None: nobody knows how many."""
        self._name, self._done, self._total = name, 0, total
        self._bar.reset(self._task, description=name, total=total)

    def advance(self, images: int) -> None:
        """So many more are done."""
        self._done += images
        self._bar.update(self._task, advance=images, refresh=True)
        now = time.monotonic()
        if self._lines and (self._done == self._total or now - self._last_line > QUIET_SECONDS):
            self._last_line = now
            of = "" if self._total is None else f" of {self._total}"
            print(f"{self._name}: {self._done}{of} images", file=self._console.file, flush=True)
