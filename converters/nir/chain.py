"""Layers of a `BinaryGraph` from a chain of NIR nodes, taken one by one; see `lava_meta.converters.nir`."""

from __future__ import annotations

from functools import singledispatchmethod
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from lava_meta.converters.nir.reading import ConvSums, DenseSums, Inputs, Spikes
from lava_meta.errors import ConversionError
from lava_meta.graph import DenseLayer, Readout
from lava_meta.graph.conv import ConvLayer
from lava_meta.graph.inputs import Binarize


def chain_of(graph: nir.NIRGraph) -> list[tuple[str, Any]]:
    """The nodes by name, from the input to the output."""
    inputs = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    if len(inputs) != 1:
        raise ConversionError(f"the graph has {len(inputs)} input nodes; a chain from one input is supported")
    after: dict[str, str] = {}
    for source, target in graph.edges:
        if source in after:
            raise ConversionError(f"{source} is connected to {after[source]} and to {target}; a chain is supported")
        after[source] = target
    names = inputs
    while names[-1] in after:
        if after[names[-1]] in names:
            raise ConversionError(f"{names[-1]} leads back to {after[names[-1]]}; a chain is supported")
        names.append(after[names[-1]])
    left = [name for name in graph.nodes if name not in names]
    if left:
        raise ConversionError(f"{left[0]} is not on the way from {names[0]} to {names[-1]}; a chain is supported")
    if not isinstance(graph.nodes[names[-1]], nir.Output):
        raise ConversionError(f"{names[-1]} is where the graph ends, but it is not an Output node")
    return [(name, graph.nodes[name]) for name in names]


class ChainReader:
    """What the nodes so far make: layers that are complete, and sums that wait for a threshold.

    Args:
        shape: of what enters.
        time_step: of the simulation for which `to_nir` wrote the graph; None if it wrote none.
    """

    def __init__(self, shape: tuple[int, ...], time_step: float | None) -> None:
        self.layers: list[DenseLayer | ConvLayer] = []
        self.binarize: Binarize | None = None
        self._shape = shape  # of what comes out of the nodes so far
        self._pending: DenseSums | ConvSums | Spikes | Inputs | None = None
        self._time_step = time_step

    def take(self, node: Any, label: str) -> None:
        """The next node. Raises `ConversionError` for one that cannot be converted exactly, by its label."""
        if self._pending is not None and isinstance(node, _WEIGHTED):
            self._pending.follow(label, node)
        else:
            self._take(node, label)

    def readout(self, last: str) -> Readout:
        """The readout that the last node gives, whose name is for the error."""
        if not isinstance(self._pending, DenseSums):
            raise ConversionError(f"{last} is the last node; the output must be that of an Affine or Linear")
        return self._pending.readout()

    @property
    def _first(self) -> bool:
        """Whether there are nothing but inputs so far."""
        return not self.layers and self.binarize is None

    @singledispatchmethod
    def _take(self, node: Any, label: str) -> None:
        raise ConversionError(
            f"{label} is not supported; supported are Affine, Linear, Scale, Conv2d, SumPool2d, AvgPool2d, Flatten "
            "and Threshold"
        )

    @_take.register(nir.Flatten)
    def _flatten(self, node: Any, label: str) -> None:
        flat = (int(np.prod(self._shape)),)
        if self._pending is not None or _flat_shape(self._shape, node) != flat:
            raise ConversionError(f"{label} must flatten all dimensions into one, in front or behind a threshold")
        self._shape = flat

    @_take.register(nir.Threshold)
    @_take.register(nir.LIF)
    def _threshold(self, node: Any, label: str) -> None:
        thresholds = _thresholds(label, node, self._time_step)
        pending, self._pending = self._pending, None
        if pending is None and self._first:
            pending = Inputs(label, self._shape)
        if pending is None:
            raise ConversionError(f"{label} has no Affine, Linear or Conv2d in front of it")
        if isinstance(pending, Inputs):
            self.binarize = pending.binarize(label, thresholds)
            return
        layer = pending.layer(label, node, thresholds)
        if isinstance(pending, Spikes):  # the convolution again, with this pooling behind it
            self.layers.pop()
        self.layers.append(layer)
        self._shape = layer.output_shape

    @_take.register(nir.Conv2d)
    def _convolution(self, node: Any, label: str) -> None:
        if "pool" in node.metadata:
            self._pooling(node, label)
        else:
            self._pending = ConvSums(label, node, self._shape, pixels=self._first)

    @_take.register(nir.SumPool2d)
    @_take.register(nir.AvgPool2d)
    def _pooling(self, node: Any, label: str) -> None:
        if not self.layers or not isinstance(self.layers[-1], ConvLayer) or len(self._shape) != 3:
            raise ConversionError(f"{label} must follow a convolution")
        self._pending = Spikes(label, node, self.layers[-1])

    @_take.register(nir.Scale)
    def _factors(self, node: Any, label: str) -> None:
        if self._first:
            self._pending = Inputs(label, self._shape, node.scale)
        else:
            self._sums(node, label)

    @_take.register(nir.Affine)
    @_take.register(nir.Linear)
    def _sums(self, node: Any, label: str) -> None:
        if len(self._shape) != 1:
            raise ConversionError(f"{label} gets shape {self._shape} and has no Flatten in front of it")
        self._pending = DenseSums(label, node, pixels=self._first)


_WEIGHTED = (nir.Affine, nir.Linear, nir.Scale, nir.Conv2d, nir.SumPool2d, nir.AvgPool2d)


def _thresholds(label: str, node: nir.Threshold | nir.LIF, time_step: float | None) -> NDArray[Any]:
    if isinstance(node, nir.Threshold):
        thresholds: NDArray[Any] = node.threshold
        return thresholds
    if time_step is None or (node.tau != time_step).any() or (node.r != 1).any() or node.v_leak.any():
        raise ConversionError(
            f"{label} remembers earlier time steps, which a binarized network does not; use Threshold, or a graph "
            "written by to_nir(time_step=...)"
        )
    thresholds = node.v_threshold
    return thresholds


def _flat_shape(shape: tuple[int, ...], node: nir.Flatten) -> tuple[int, ...]:
    """What `node` makes of `shape`, which counts no batch."""
    first, last = int(node.start_dim), int(node.end_dim) % len(shape)
    return (*shape[:first], int(np.prod(shape[first : last + 1])), *shape[last + 1 :])
