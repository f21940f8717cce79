"""A learner as one safetensors file: every layer's whole state, and its settings in the JSON header.

The frozen layers of a converted network, where there are any, lie in it as the file of that network.
"""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.errors import FormatError, available
from lava_meta.graph import BinaryGraph
from lava_meta.graph.dense import check_array
from lava_meta.io.file_kinds import LEARNING, require_kind
from lava_meta.io.files import reading
from lava_meta.io.learned import from_header, to_header
from lava_meta.io.sealed import LEARNER, read_sealed, sealed_format, write_sealed
from lava_meta.online_learning.backend import Front, State
from lava_meta.online_learning.device import Device
from lava_meta.online_learning.learner import BACKENDS, Learner
from lava_meta.online_learning.reference import STATE
from lava_meta.online_learning.settings import ENGINE_LEVELS, LayerSettings, OnlineRule

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
        tensors["network"] = np.frombuffer(learner.front.graph.to_bytes(), np.uint8)
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

    By default, one that learned in Lava goes on in the compiled kernels where Lava cannot be imported.

    Raises:
        FormatError: the file is not one, not as it was written, or its header declares what its tensors are not.
        TooLargeError: it does not fit in memory.
        ValueError: there is no such backend.
    """
    if backend is not None and backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; choose one of {', '.join(BACKENDS)}")
    require_kind(path, LEARNING)
    header, tensors = read_sealed(path, LEARNER, range(VERSION, VERSION + 1))
    with reading(path):
        settings = {name: header[name] for name in _FIELDS}
        _check_sizes(settings["sizes"], tensors)  # before anything of these sizes is made
        if "depth" in header:
            settings["front"] = Front(BinaryGraph.load(tensors["network"].tobytes()), header["depth"])
        if "device" in header:
            settings["device"] = Device(**header["device"])
        settings["backend"] = backend or available(settings["backend"])
        learner = Learner(rule=OnlineRule.from_dict(header["rule"]), **settings)
        learner.parts_learned = _count("parts_learned", header["parts_learned"])
        learner.learned = from_header(header.get("learned"))
        if header.get("under_way") is not None:
            part, images = header["under_way"]
            learner.under_way = (str(part), _count("under_way", images))
        for i, (state, of_layer) in enumerate(zip(learner.states, learner.settings, strict=True), 1):
            for name in STATE:
                value = tensors[f"layer{i}.{name}"]
                check_array(f"layer{i}.{name}", value, state[name].dtype.type, state[name].shape)
                state[name][:] = value
            _check_state(f"layer{i}", state, of_layer)
        return learner


def _check_sizes(sizes: Any, tensors: dict[str, NDArray[Any]]) -> None:
    for i, pair in enumerate(pairwise(sizes), 1):
        value = tensors[f"layer{i}.hidden"]
        if value.shape != pair:
            raise FormatError(
                f"its header says that layer {i} has {pair} inputs and units; its weights are {value.shape}"
            )


def _check_state(layer: str, state: State, settings: LayerSettings) -> None:
    """Raises `FormatError` for numbers that learning never gives: compiled code looks them up in tables."""
    if not all(np.isfinite(value).all() for value in state.values()):
        raise FormatError(f"{layer} has a number in its state that is not finite")
    largest = np.abs(state["hidden"].astype(np.float64)).max()
    fixed, engine = settings.precision != "float", settings.engine_steps > 0
    limit = ENGINE_LEVELS if engine else settings.limit_stored if fixed else float(np.float32(settings.limit))
    if largest > limit and (fixed or not engine):  # float tags of the learning engine are not clamped
        raise FormatError(f"{layer} has a hidden weight of {largest:g}, beyond its limit of {limit:g}")
    if state["images"][0] < 0:
        raise FormatError(f"{layer} has learned {state['images'][0]} images")


def _count(name: str, value: Any) -> int:
    if type(value) is not int or value < 0:
        raise FormatError(f"{name} is {value!r}; it counts from 0")
    return value
