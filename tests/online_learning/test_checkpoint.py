"""Calls of `Learner.fit` that are stopped and go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stopping import StopsAt

from lava_meta.data import load_dataset
from lava_meta.data.scenarios import permuted_tasks
from lava_meta.errors import RunFolderError
from lava_meta.online_learning import History, Learner, accuracy_on, load_learner, saturation
from lava_meta.training import Callback

DIGITS = load_dataset("digits")


def new() -> Learner:
    return Learner([64, 30, 10], backend="kernels", seed=5)


@pytest.mark.parametrize("stops_at", [100, 1100, 1300, 1400, 2600])
@pytest.mark.parametrize("evaluate", [False, True])
def test_a_stopped_call_goes_on_to_the_identical_result(evaluate: bool, stops_at: int, tmp_path: Path) -> None:
    """Stopped in a group of images, between two, at an experience's end, and within its last images."""
    scenario = permuted_tasks(DIGITS, 2, seed=2)

    def fit(learner: Learner, name: str, **options: Any) -> History:
        file = tmp_path / name
        probes = [saturation, accuracy_on(DIGITS.test, "test")]
        return learner.fit(
            scenario, probes=probes, images=1300, every=100, evaluate=evaluate, checkpoint=file, **options
        )

    whole = new()
    history = fit(whole, "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(new(), "part", callbacks=[StopsAt(stops_at)])
    stopped = load_learner(tmp_path / "part")
    assert stopped.under_way == (scenario.train[stops_at > 1300].name, stops_at - 1300 * (stops_at > 1300))
    resumed = new()
    again = fit(resumed, "part", resume=True)
    for a, b in zip(whole.states, resumed.states, strict=True):
        assert all(np.array_equal(a[name], b[name]) for name in a)
    assert (again.online, again.images, again.probes) == (history.online, history.images, history.probes)
    np.testing.assert_array_equal(again.accuracy.values, history.accuracy.values)
    assert (resumed.parts_learned, resumed.under_way, resumed.learned) == (2, None, whole.learned)
    assert fit(new(), "part", resume=True).probes == history.probes  # complete: nothing is learned again
    whole.save(tmp_path / "whole")
    resumed.save(tmp_path / "part")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "part").read_bytes()


def test_checkpoints_are_written_on_the_way(tmp_path: Path) -> None:
    """As a killed process leaves them: at each group of images here."""
    seen = []

    class Reads(Callback):
        def on_step(self, run: Any) -> None:
            if (tmp_path / "a").exists():
                seen.append((run.step, load_learner(tmp_path / "a").under_way[1]))

    new().fit(
        DIGITS.train, images=1200, every=300, checkpoint=tmp_path / "a", checkpoint_seconds=0, callbacks=[Reads()]
    )
    assert seen == [(600, 300), (900, 600), (1200, 900)]


def test_a_checkpoint_of_another_call_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a"
    with pytest.raises(KeyboardInterrupt):
        new().fit(DIGITS.train, images=300, checkpoint=file, callbacks=[StopsAt(300)])
    with pytest.raises(RunFolderError, match=r"another fit.*images is 300 there, 400 here"):
        new().fit(DIGITS.train, images=400, checkpoint=file, resume=True)
    new().save(file)
    with pytest.raises(RunFolderError, match="a learner that was not stopped"):
        new().fit(DIGITS.train, checkpoint=file, resume=True)
    with pytest.raises(ValueError, match="give checkpoint="):
        new().fit(DIGITS.train, resume=True)
    with pytest.raises(TypeError, match="of a scenario or of images"):
        new().fit(iter([DIGITS.train]), checkpoint=file)
