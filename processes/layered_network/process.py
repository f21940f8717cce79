"""A whole network as one Process, made of one Process per layer."""

from __future__ import annotations

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess

from lava_meta.graph import BinaryGraph


class LayeredNetwork(AbstractProcess):
    """`graph` as a chain of `BinaryConv`, `BinaryDense` and a `BinaryReadout`, to be wired to other Processes.

    Where the graph binarizes its inputs, a `BinaryInput` stands in front.

    Ports, int32 except `out`, for `lanes` images per time step, whose answer comes within the same step:

    - `s_in` (lanes, pixels): what `graph.domain` says, for images raw pixels 0 .. `graph.max_level`.
    - `out` (lanes, classes), int64: the readout's integer sums; `graph.readout.classes` makes classes of them.
    - `hidden1`, `hidden2`, ... (lanes, units): the signs of each hidden layer, for who wants to look inside.

    Images and the maps of convolutions are flat, in the order (channels, rows, columns).
    """

    def __init__(self, *, graph: BinaryGraph, lanes: int = 1, name: str | None = None) -> None:
        super().__init__(graph=graph, lanes=lanes, name=name)
        # Checked after Lava's own part: without it, Lava's destructor would complain.
        if lanes < 1:
            raise ValueError(f"lanes is {lanes}; a time step takes at least one image")
        self.s_in = InPort(shape=(lanes, graph.n_in))
        self.out = OutPort(shape=(lanes, graph.n_out))
        for i, layer in enumerate(graph.layers, 1):
            setattr(self, f"hidden{i}", OutPort(shape=(lanes, layer.n_out)))
