"""Learning on-line: one image at a time, locally, in few bits.

The rule's settings (`settings`), its clear numpy twin (`layers`, `class_errors`, `draws`), and the learner that runs
them, inside Lava or without it (`learner`, `converted`). The compiled form is
`lava_meta.online_learning.compiled.fixed`. The Processes are `metaplastic_dense`, `error_neurons` and `labelled_source`
of `lava_meta.processes`, and all of them in one, `metaplastic_network`.
"""

from __future__ import annotations

from lava_meta.online_learning.converted import online
from lava_meta.online_learning.device import Device
from lava_meta.online_learning.files import is_learner, load_learner
from lava_meta.online_learning.history import (
    History,
    accuracy_on,
    flip_rate,
    hidden_histogram,
    saturation,
    threshold_drift,
)
from lava_meta.online_learning.learner import Learner
from lava_meta.online_learning.settings import LayerSettings, OnlineRule

__all__ = [
    "Device",
    "History",
    "LayerSettings",
    "Learner",
    "OnlineRule",
    "accuracy_on",
    "flip_rate",
    "hidden_histogram",
    "is_learner",
    "load_learner",
    "online",
    "saturation",
    "threshold_drift",
]
