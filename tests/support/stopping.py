"""Training runs that stop after a checkpoint, as if they had been killed there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lava_meta.training import loop


@contextmanager
def stopped_after(saves: int) -> Iterator[None]:
    """What trains inside the block ends right after that many checkpoints; fails where it does not come so far."""

    class Stopped(Exception):
        pass

    calls = 0
    save = loop._Run._save

    def save_and_stop(run: Any) -> None:
        nonlocal calls
        save(run)
        calls += 1
        if calls == saves:
            raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Run, "_save", save_and_stop)
        with pytest.raises(Stopped):
            yield
