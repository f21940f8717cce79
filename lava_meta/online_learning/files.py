"""A learner as one safetensors file: every layer's whole state, and its settings in the JSON header."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lava_meta.errors import FormatError
from lava_meta.files import write_atomically
from lava_meta.graph import _digest
from lava_meta.online_learning.layers import STATE
from lava_meta.online_learning.learner import Learner
from lava_meta.online_learning.settings import OnlineRule

FORMAT = "lava_meta.learner"
VERSION = 1


def save_learner(learner: Learner, path: str | os.PathLike[str]) -> None:
    """Write `learner`, whole or not at all."""
    tensors = {
        f"layer{i}.{name}": np.ascontiguousarray(state[name])
        for i, state in enumerate(learner.states, 1)
        for name in STATE
    }
    header = {
        "format": FORMAT,
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
    text = json.dumps(header, sort_keys=True)
    with write_atomically(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={"lava_meta": text, "sha256": _digest(text, tensors)}))


def is_learner(path: str | os.PathLike[str]) -> bool:
    """Whether the file says that it is a learner; False for any other file, and for none."""
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            return json.loads((file.metadata() or {}).get("lava_meta", "{}")).get("format") == FORMAT
    except (OSError, SafetensorError, ValueError):
        return False


def load_learner(path: str | os.PathLike[str], backend: str | None = None) -> Learner:
    """The learner that `save` wrote, in the identical state; `backend` replaces the one it was saved with.

    Raises `FormatError` for a file that is not one, or not as it was written.
    """
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, TypeError) as error:
        raise FormatError(f"{path} is not a whole safetensors file: {error}") from error
    text = metadata.get("lava_meta", "")
    if metadata.get("sha256") != _digest(text, tensors):
        raise FormatError(f"{path} is not a lava_meta learner, or was altered after it was written")
    header: dict[str, Any] = json.loads(text)
    if header.pop("format", None) != FORMAT or header.pop("version", None) != VERSION:
        raise FormatError(f"{path} is not a learner of version {VERSION}: {text[:200]}")
    parts_learned = header.pop("parts_learned")
    header["rule"] = OnlineRule.from_dict(header["rule"])
    if backend is not None:
        header["backend"] = backend
    learner = Learner(**header)
    learner.parts_learned = parts_learned
    for i, state in enumerate(learner.states, 1):
        for name in STATE:
            state[name][:] = tensors[f"layer{i}.{name}"]
    return learner
