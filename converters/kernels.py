"""A network in the calling process, without Lava: `processes.streaming.StreamingRun`'s counterpart on the kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from lava_meta.graph import Graph
from lava_meta.graph.packed.compiled import compiled

_MESSAGE_BYTES = 2**24  # of a layer's outputs that are given out together


class KernelsRun:
    """The compiled kernels on `graph`, from which the outputs of `names` are wanted, `lanes` images at a time."""

    def __init__(self, graph: Graph, lanes: int, names: tuple[str, ...]) -> None:
        self.lanes = lanes
        self.names = names
        widest = max(layer.n_out for name, layer in graph.named_layers() if name in names)
        self._rows = lanes * max(1, _MESSAGE_BYTES // (8 * widest * lanes))
        self._network = compiled(graph)

    def stream(self, pixels: NDArray[Any]) -> Iterator[dict[str, NDArray[Any]]]:
        """The outputs (count, units) of every wanted layer for `pixels` (n, n_in), some images at a time."""
        for start in range(0, len(pixels), self._rows):
            yield self._network.activations(pixels[start : start + self._rows], self.names, self.lanes)

    def close(self) -> None:
        """There is nothing to end."""
