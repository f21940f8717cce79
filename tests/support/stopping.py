"""Runs that stop: after a checkpoint, as if they had been killed there, or as by Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lava_meta.training import Callback
from lava_meta.training.run_folder import RunFolder


class StopsAt(Callback):
    """As Ctrl-C does, when so many images are learned."""

    def __init__(self, images: int) -> None:
        self.images = images

    def on_step(self, run: Any) -> None:
        if run.step == self.images:
            raise KeyboardInterrupt


@contextmanager
def stopped_after(saves: int) -> Iterator[None]:
    """What trains inside the block ends right after that many checkpoints; fails where it does not come so far."""

    class Stopped(Exception):
        pass

    calls = 0
    save_metrics = RunFolder.save_metrics  # what follows a checkpoint

    def save_and_stop(*args: Any) -> None:
        nonlocal calls
        save_metrics(*args)
        calls += 1
        if calls == saves:
            raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "save_metrics", save_and_stop)
        with pytest.raises(Stopped):
            yield
