"""Learning on-line: one image at a time, locally, in few bits.

From the ground up:

settings, device, draws     the rule, its integers, real memories, random bits
neurons, reference          the equations of a layer; `device_layer`, `learning_engine`, `compiled`: its other forms
forms                       the form that a layer's settings ask for
options, encoding           what a learner is given; what its network sees of an image
network                     settings and states of all layers
backend                     where it learns; Lava's is `lava_meta.converters.online`
history, files              what is kept of a run, and of a network
learner, converted          what users hold; one that goes on from a converted network
over_time_learner, loading  one of spikes over time (`over_time`, `spike_trains`); from files
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lava_meta.moved import by_old_name
from lava_meta.online_learning.device import Device
from lava_meta.online_learning.files import is_learner
from lava_meta.online_learning.history import (
    History,
    accuracy_on,
    flip_rate,
    hidden_histogram,
    saturation,
    threshold_drift,
)
from lava_meta.online_learning.learner import Learner
from lava_meta.online_learning.loading import load_learner
from lava_meta.online_learning.options import LearnerOptions
from lava_meta.online_learning.over_time_learner import LearnerOverTime
from lava_meta.online_learning.settings import LayerSettings, OnlineRule
from lava_meta.online_learning.uncertainty import Prediction

__all__ = [
    "Device",
    "History",
    "LayerSettings",
    "Learner",
    "LearnerOptions",
    "LearnerOverTime",
    "OnlineRule",
    "Prediction",
    "accuracy_on",
    "flip_rate",
    "hidden_histogram",
    "is_learner",
    "load_learner",
    "saturation",
    "threshold_drift",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Names that moved, with a warning."""
        if name == "online":
            return by_old_name("lava_meta.online_learning.online")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
