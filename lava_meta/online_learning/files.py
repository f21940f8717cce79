"""A learner as one safetensors file: every layer's whole state, and its settings in the JSON header."""

from __future__ import annotations

import os

import numpy as np

from lava_meta.online_learning.device import Device
from lava_meta.online_learning.layers import STATE
from lava_meta.online_learning.learner import Learner
from lava_meta.online_learning.settings import OnlineRule
from lava_meta.sealed import LEARNER, read_sealed, sealed_format, write_sealed

VERSION = 1


def save_learner(learner: Learner, path: str | os.PathLike[str]) -> None:
    """Write `learner`, whole or not at all."""
    tensors = {
        f"layer{i}.{name}": np.ascontiguousarray(state[name])
        for i, state in enumerate(learner.states, 1)
        for name in STATE
    }
    header = {
        "format": LEARNER,
        "version": VERSION,
        "sizes": learner.sizes,
        "rule": learner.rule.to_dict(),
        "precision": learner.precision,
        "feedback": learner.feedback,
        "seed": learner.seed,
        "backend": learner.backend,
        "lanes": learner.lanes,
        "input_mean": learner.input_mean,
        "max_level": learner.max_level,
        "parts_learned": learner.parts_learned,
    }
    if learner.device is not None:
        header["device"] = learner.device.to_dict()
    write_sealed(path, header, tensors)


def is_learner(path: str | os.PathLike[str]) -> bool:
    """Whether the file says that it is a learner; False for any other file, and for none."""
    return sealed_format(path) == LEARNER


def load_learner(path: str | os.PathLike[str], backend: str | None = None) -> Learner:
    """The learner that `save` wrote, in the identical state; `backend` replaces the one it was saved with.

    Raises `FormatError` for a file that is not one, or not as it was written.
    """
    header, tensors = read_sealed(path, LEARNER, range(VERSION, VERSION + 1))
    del header["format"], header["version"]
    parts_learned = header.pop("parts_learned")
    header["rule"] = OnlineRule.from_dict(header["rule"])
    if "device" in header:
        header["device"] = Device(**header["device"])
    if backend is not None:
        header["backend"] = backend
    learner = Learner(**header)
    learner.parts_learned = parts_learned
    for i, state in enumerate(learner.states, 1):
        for name in STATE:
            state[name][:] = tensors[f"layer{i}.{name}"]
    return learner
