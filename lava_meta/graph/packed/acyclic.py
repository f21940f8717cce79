"""An `AcyclicGraph`, compiled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.acyclic import AcyclicGraph


class PackedAcyclic:
    """`sums`, `predict` and `activations` equal the graph's own, integer for integer.

    Takes inputs that `AcyclicGraph.check_images` returned, (n, n_in) of type `graph.dtype`.
    """

    def __init__(self, graph: AcyclicGraph) -> None:
        self.n_in, self.n_out = graph.n_in, graph.n_out
        self.dtype, self.domain = graph.dtype, graph.domain
        self.names = tuple(name for name, _ in graph.named_layers())
        self._graph = graph

    def sums(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The readout's integers, int64 (n, classes)."""
        return self._graph.sums(pixels)

    def classes(self, sums: NDArray[Any]) -> NDArray[Any]:
        """int64 (n,): argmax of the values, lowest index on ties."""
        return self._graph.readout.classes(sums)

    def predict(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The classes, int64 (n,)."""
        return self.classes(self.sums(pixels))

    def activations(
        self, pixels: NDArray[Any], names: Iterable[str] | None = None, lanes: int = 256
    ) -> dict[str, NDArray[Any]]:
        """The integers of the nodes `names` (default: of all), `lanes` images at a time."""
        names = self.names if names is None else tuple(names)
        if {*names} == {self.names[-1]}:
            return {self.names[-1]: self.sums(pixels)}
        parts = [self._graph.activations(pixels[start : start + lanes]) for start in range(0, len(pixels), lanes)]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}
