"""A learner as one safetensors file: every layer's whole state, and its settings in the JSON header.

The frozen layers of a converted network, where there are any, lie in it as the file of that network.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from lava_meta.file_kinds import LEARNING, require_kind
from lava_meta.graph import BinaryGraph
from lava_meta.learned import from_header, to_header
from lava_meta.online_learning.device import Device
from lava_meta.online_learning.engine import Front
from lava_meta.online_learning.layers import STATE
from lava_meta.online_learning.learner import Learner
from lava_meta.online_learning.settings import OnlineRule
from lava_meta.sealed import LEARNER, read_sealed, sealed_format, write_sealed

VERSION = 2
_FIELDS = (
    "sizes",
    "precision",
    "feedback",
    "seed",
    "backend",
    "lanes",
    "input_mean",
    "max_level",
    "timeout",
    "inputs",
    "plastic",
    "form",
)


def save_learner(learner: Learner, path: str | os.PathLike[str]) -> None:
    """Write `learner`, whole or not at all."""
    tensors = {
        f"layer{i}.{name}": np.ascontiguousarray(state[name])
        for i, state in enumerate(learner.states, 1)
        for name in STATE
    }
    header: dict[str, Any] = {name: getattr(learner, name) for name in _FIELDS}
    if learner.front is not None:
        header["depth"] = learner.front.depth
        tensors["network"] = _content(learner.front.graph)
    if learner.device is not None:
        header["device"] = learner.device.to_dict()
    header |= {"format": LEARNER, "version": VERSION, "rule": learner.rule.to_dict()}
    header |= {"parts_learned": learner.parts_learned, "learned": to_header(learner.learned)}
    if learner.under_way is not None:
        header["under_way"] = list(learner.under_way)
    write_sealed(path, header, tensors)


def is_learner(path: str | os.PathLike[str]) -> bool:
    """Whether the file says that it is a learner; False for any other file, and for none."""
    return sealed_format(path) == LEARNER


def load_learner(path: str | os.PathLike[str], backend: str | None = None) -> Learner:
    """The learner that `save` wrote, in the identical state; `backend` replaces the one it was saved with.

    Raises `FormatError` for a file that is not one, or not as it was written.
    """
    require_kind(path, LEARNING)
    header, tensors = read_sealed(path, LEARNER, range(VERSION, VERSION + 1))
    settings = {name: header[name] for name in _FIELDS}
    if "depth" in header:
        settings["front"] = Front(_graph(tensors["network"]), header["depth"])
    if "device" in header:
        settings["device"] = Device(**header["device"])
    if backend is not None:
        settings["backend"] = backend
    learner = Learner(rule=OnlineRule.from_dict(header["rule"]), **settings)
    learner.parts_learned = header["parts_learned"]
    learner.learned = from_header(header.get("learned"))
    if header.get("under_way") is not None:
        part, images = header["under_way"]
        learner.under_way = (str(part), int(images))
    for i, state in enumerate(learner.states, 1):
        for name in STATE:
            state[name][:] = tensors[f"layer{i}.{name}"]
    return learner


def _content(graph: BinaryGraph) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.safetensors"
        graph.save(path)
        return np.frombuffer(path.read_bytes(), np.uint8)


def _graph(content: np.ndarray) -> BinaryGraph:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.safetensors"
        path.write_bytes(content.tobytes())
        return BinaryGraph.load(path)
