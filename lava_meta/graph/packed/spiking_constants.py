"""What the loops of neurons need to know of a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray

from lava_meta.graph.packed import spiking_loops as loops
from lava_meta.graph.spiking_neurons import Neurons


class Constants(NamedTuple):
    """Those of a layer's neurons, (units,)."""

    gain: NDArray[Any]
    constant: NDArray[Any]
    alpha: NDArray[Any]
    beta: NDArray[Any]
    threshold: NDArray[Any]
    synaptic: bool
    reset: int
    delayed: bool


def constants_of(node: Neurons, laid: Callable[[NDArray[Any]], NDArray[Any]]) -> Constants:
    """Of neurons of a model in `loops.STATES`; `laid` gives a constant for each neuron, in the order that is wanted."""
    c = {name: laid(value).flatten() for name, value in node.constants.items()}
    return Constants(
        laid(node.gain).flatten(),
        laid(node.constant).flatten(),
        c.get("alpha", c["beta"]),
        c["beta"],
        c["threshold"],
        node.model == "synaptic",
        loops.RESETS[node.reset],
        node.reset_delay,
    )
