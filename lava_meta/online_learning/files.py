"""A network that learns as one safetensors file: every layer's whole state, and a JSON header.

The frozen layers of a converted network, where there are any, lie in it as the file of that network.
"""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.errors import FormatError
from lava_meta.graph import BinaryGraph
from lava_meta.graph.dense import check_array
from lava_meta.io.file_kinds import LEARNING, require_kind
from lava_meta.io.sealed import LEARNER, read_sealed, sealed_format, write_sealed
from lava_meta.online_learning.encoding import Front
from lava_meta.online_learning.learning_engine.synapses import TAG_RANGE
from lava_meta.online_learning.network import PlasticNetwork
from lava_meta.online_learning.neurons import State
from lava_meta.online_learning.reference import STATE
from lava_meta.online_learning.settings import CLASS_BITS, LayerSettings

VERSION = 2
Tensors = dict[str, NDArray[Any]]


def is_learner(path: str | os.PathLike[str]) -> bool:
    """Whether the file says that it is a learner; False for any other file, and for none."""
    return sealed_format(path) == LEARNER


def write_network(path: str | os.PathLike[str], network: PlasticNetwork, header: dict[str, Any]) -> None:
    """Write `network` with what its learner adds in `header`, whole or not at all."""
    tensors = {
        f"layer{i}.{name}": np.ascontiguousarray(state[name])
        for i, state in enumerate(network.states, 1)
        for name in STATE
    }
    if network.front is not None:
        header = header | {"depth": network.front.depth}
        tensors["network"] = np.frombuffer(network.front.graph.to_bytes(), np.uint8)
    write_sealed(path, header | {"format": LEARNER, "version": VERSION}, tensors)


def read_network(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Tensors]:
    """Header and tensors of a file. Raises FormatError for one that is no learner's, or not as it was written."""
    require_kind(path, LEARNING)
    return read_sealed(path, LEARNER, range(VERSION, VERSION + 1))


def front_of(header: dict[str, Any], tensors: Tensors) -> Front | None:
    """The frozen layers in a file, or None."""
    if "depth" not in header:
        return None
    return Front(BinaryGraph.load(tensors["network"].tobytes()), header["depth"])


def check_declared_sizes(sizes: Any, tensors: Tensors) -> None:
    """Raise FormatError unless the weights have these sizes: before anything of them is made."""
    for i, pair in enumerate(pairwise(sizes), 1):
        value = tensors[f"layer{i}.hidden"]
        if value.shape != pair:
            raise FormatError(
                f"its header says that layer {i} has {pair} inputs and units; its weights are {value.shape}"
            )


def restore(network: PlasticNetwork, tensors: Tensors) -> None:
    """Put a file's states into the network. Raises FormatError for those that learning never gives."""
    for i, (state, settings) in enumerate(zip(network.states, network.settings, strict=True), 1):
        for name in STATE:
            value = tensors[f"layer{i}.{name}"]
            check_array(f"layer{i}.{name}", value, state[name].dtype.type, state[name].shape)
            state[name][:] = value
        _check_state(f"layer{i}", state, settings)


def check_count(name: str, value: Any) -> int:
    """`value`, a number of things. Raises FormatError for anything else."""
    if type(value) is not int or value < 0:
        raise FormatError(f"{name} is {value!r}; it counts from 0")
    return value


def _check_state(layer: str, state: State, settings: LayerSettings) -> None:
    """Compiled code looks these numbers up in tables."""
    if not all(np.isfinite(value).all() for value in state.values()):
        raise FormatError(f"{layer} has a number in its state that is not finite")
    limits = _range(settings)
    for found in (float(state["hidden"].min()), float(state["hidden"].max())):
        if limits is not None and not limits[0] <= found <= limits[1]:
            limit = limits[0] if found < 0 else limits[1]
            raise FormatError(f"{layer} has a hidden weight of {found:g}, beyond its limit of {limit:g}")
    if settings.readout and settings.rule.class_rate:
        whole = 1.0 if settings.precision == "float" else 2**CLASS_BITS
        if not (state["trace"].min() >= 0 and state["trace"].max() <= whole):
            raise FormatError(f"{layer} has a trace of its classes beyond 0 to {whole:g}")
    if state["images"][0] < 0:
        raise FormatError(f"{layer} has learned {state['images'][0]} images")


def _range(settings: LayerSettings) -> tuple[float, float] | None:
    """Least and largest hidden weight; None for float tags of the learning engine, which are not clamped."""
    if settings.engine_steps:
        return None if settings.precision == "float" else TAG_RANGE
    limit = float(np.float32(settings.limit)) if settings.precision == "float" else settings.limit_stored
    return -limit, limit
