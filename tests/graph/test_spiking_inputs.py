"""Events and other inputs become frames; what fits no network is refused."""

from __future__ import annotations

import numpy as np
import pytest

from lava_meta.errors import TooLargeError
from lava_meta.graph.spiking_inputs import event_frames, frames_of

KIND = [("x", np.int16), ("y", np.int16), ("p", bool), ("t", np.int64)]


def test_events_fall_into_the_steps_in_which_they_happen():
    rng = np.random.default_rng(61)
    events = np.zeros(300, KIND)
    events["x"], events["y"], events["p"] = rng.integers(0, 7, 300), rng.integers(0, 5, 300), rng.integers(0, 2, 300)
    events["t"] = 5000 + rng.integers(0, 10_000, 300)
    frames = event_frames(events, (2, 5, 7), step=1000)
    wanted = np.zeros_like(frames)
    for event in events:
        wanted[(event["t"] - events["t"].min()) // 1000, int(event["p"]), event["y"], event["x"]] = 1
    assert np.array_equal(frames, wanted)
    columns = np.stack([events[field].astype(float) for field in ("t", "x", "y", "p")], axis=1)
    assert np.array_equal(event_frames(columns, (2, 5, 7), step=1000), frames)
    assert np.array_equal(event_frames(events, (2, 5, 7), step=1000, steps=4), frames[:4])
    assert np.array_equal(frames_of(frames[:, None], None, (2, 5, 7), (0, 1))[:, 0], frames.reshape(len(frames), -1))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"x": 7}, "x runs from 0 to 7; the camera has 0 to 6"),
        ({"y": -1}, "y runs from -1 to 0"),
    ],
)
def test_events_outside_the_camera_are_refused(change, reason):
    events = np.zeros(2, KIND)
    for field, value in change.items():
        events[field][1] = value
    with pytest.raises(ValueError, match=reason):
        event_frames(events, (2, 5, 7), step=1.0)


def test_other_arrays_are_refused():
    events = np.zeros(2, KIND)
    for given, step, reason in (
        (events[["x", "y", "p"]], 1.0, "fields x, y, p; t, x, y and p are expected"),
        (np.zeros((2, 3)), 1.0, r"shape \(2, 3\)"),
        (events[:0], 1.0, "no events"),
        (events, 0.0, "step is 0.0"),
    ):
        with pytest.raises(ValueError, match=reason):
            event_frames(given, (2, 5, 7), step)


@pytest.mark.parametrize(
    ("events", "options", "error", "reason"),
    [
        ([(0, 1, np.nan, 1)], {}, ValueError, "no finite numbers"),
        ([(0, 1, 1, 1)], {"steps": "all"}, ValueError, "steps 'all'; give .* whole steps"),
        ([(0, 1, 1, 1), (10**15, 1, 1, 1)], {}, TooLargeError, "give a longer step, in the unit of t"),
    ],
)
def test_events_that_make_no_frames_are_refused(events, options, error, reason):
    with pytest.raises(error, match=reason):
        event_frames(events, (2, 4, 4), 1, **options)
    with pytest.raises(ValueError, match=r"shape is \(4, 4\).*give \(polarities, rows, columns\)"):
        event_frames(events, (4, 4), 1)


def test_times_in_seconds_fall_into_the_same_steps():
    ticks = np.array([0, 1, 2, 3, 3, 7, 12])
    events = np.stack([ticks, ticks % 4, ticks % 3, ticks % 2], axis=1)
    seconds = events * np.array([0.1, 1, 1, 1])
    assert np.array_equal(event_frames(seconds, (2, 3, 4), 0.1), event_frames(events, (2, 3, 4), 1))
    assert np.array_equal(event_frames(seconds, (2, 3, 4), 0.3), event_frames(events, (2, 3, 4), 3))
    with pytest.raises(ValueError, match="no whole numbers"):
        event_frames(events + np.array([0, 0.5, 0, 0]), (2, 3, 4), 1)
