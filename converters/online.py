"""Learning on-line inside Lava, and learners from whatever converts.

learner = lava_meta.online([784, 512, 10])          # a new network
learner = lava_meta.online(lava_meta.convert(model), model=model)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.converters import convert
from lava_meta.converters.lava import LavaNetwork
from lava_meta.errors import available, require_lava
from lava_meta.graph import BinaryGraph, Graph, require_chain
from lava_meta.io.learned import learned_of
from lava_meta.online_learning import Learner
from lava_meta.online_learning.backend import Engine
from lava_meta.online_learning.converted import from_graph
from lava_meta.online_learning.network import PlasticNetwork
from lava_meta.online_learning.options import LearnerOptions

if TYPE_CHECKING:
    from torch import nn


def online(
    source: Any = None,
    *,
    sizes: Sequence[int] | None = None,
    plastic: Sequence[str] | None = None,
    model: nn.Module | None = None,
    strength: float = 0.5,
    **options: Any,
) -> Learner:
    """A learner from sizes, from a network, or from a model.

    Args:
        source: sizes, a `LavaNetwork` or `BinaryGraph`, or a model that `convert` takes.
        sizes: inputs, units of hidden layers, classes, instead of a source.
        plastic: names of the layers that learn; by default all. The others compute what they always have.
        model: where the network came from; its hidden weights come along. A model as `source` is converted first.
        strength: without a model, where hidden weights of a network start, as a share of their limit, 0 to 1.
        options: as for `Learner`; without a backend, "lava" where Lava can be imported, and otherwise "kernels".

    Raises:
        ConversionError: layers that cannot learn, by name.
        TypeError, ValueError: other arguments that do not fit.
    """
    if (source is None) == (sizes is None):
        raise TypeError("give sizes, or a network or model to go on from")
    options.setdefault("backend", available("lava"))
    if sizes is not None or (isinstance(source, Sequence) and not isinstance(source, str)):
        return Learner(sizes if sizes is not None else source, plastic=plastic, **options)
    if hasattr(source, "named_modules"):
        source, model = convert(source), source
    graph = getattr(source, "graph", source)
    if not isinstance(graph, Graph):
        raise TypeError(f"cannot learn from a {type(source).__name__}; give sizes, a LavaNetwork, or a model")
    learner = from_graph(
        require_chain(graph, "On-line learning"), model=model, strength=strength, plastic=plastic, **options
    )
    learner.learned = learned_of(source)
    return learner


class LavaBackend:
    """Lava's simulator: the backend "lava" of a `Learner`."""

    def check(self) -> None:
        """Raise LavaMissingError if Lava cannot be imported."""
        require_lava('online(backend="lava")')

    def start(self, network: PlasticNetwork, options: LearnerOptions) -> Engine:
        """The network in Lava, in the form that the options have."""
        from lava_meta.processes.online_run import LavaEngine

        return LavaEngine(network, lanes=options.lanes, timeout=options.timeout, form=options.form)

    def classes(self, graph: BinaryGraph, inputs: NDArray[Any], options: LearnerOptions) -> NDArray[np.int64]:
        """By a `LavaNetwork`."""
        return LavaNetwork(graph, timeout=options.timeout).predict(inputs)


LAVA = LavaBackend()
