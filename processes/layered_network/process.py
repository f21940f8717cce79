"""A whole network as one Process, made of one Process per layer or node."""

from __future__ import annotations

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess

from lava_meta.graph import Graph, SteppedGraph
from lava_meta.graph.acyclic import READOUT, NodeGraph
from lava_meta.graph.spiking_inputs import check_run


class LayeredNetwork(AbstractProcess):
    """`graph` as one Process per layer, to be wired to other Processes.

    A chain is made of `BinaryConv`, `BinaryDense` and a `BinaryReadout`; if it binarizes its inputs, a `BinaryInput`
    stands in front. Any other graph has a `GraphNode` or `GraphJoin` per node (one more for each source beyond two),
    and a `BinaryReadout` for binary linear nodes of flat inputs. Of a `SteppedGraph` a time step is one of the network;
    its neurons are `GraphNeurons`, which start again from rest every `steps` time steps, or without `steps` never.

    Ports for `lanes` images per time step, whose answer comes within the same step:

    - `s_in` (lanes, pixels): what `graph.domain` says, for images raw pixels 0 .. `graph.max_level`.
    - `out` (lanes, classes), int64: the readout's integer sums; `graph.readout.classes` makes classes of them. Of a
      `SteppedGraph` the spikes of its output.
    - `hidden1`, `hidden2`, ... (lanes, units), int32: the signs of each hidden layer, for who wants to look inside.
      Those of nodes are int64, and `port(name)` gives them: names of nodes may be any words.

    Images and maps are flat, in the order (channels, rows, columns).
    """

    def __init__(
        self, *, graph: Graph | SteppedGraph, lanes: int = 1, steps: int | None = None, name: str | None = None
    ) -> None:
        super().__init__(graph=graph, lanes=lanes, steps=steps, name=name)
        # Checked after Lava's own part: without it, Lava's destructor would complain.
        check_run(lanes, steps)
        self.s_in = InPort(shape=(lanes, graph.n_in))
        self.out = OutPort(shape=(lanes, graph.n_out))
        self._prefix = "node " if isinstance(graph, NodeGraph) else ""
        for layer_name, layer in graph.placed.items() if isinstance(graph, NodeGraph) else graph.named_layers():
            if layer_name != READOUT:
                setattr(self, f"{self._prefix}{layer_name}", OutPort(shape=(lanes, layer.n_out)))

    def port(self, layer: str) -> OutPort:
        """The port of a layer or node by its name, or of the readout."""
        return self.out if layer == READOUT else getattr(self, f"{self._prefix}{layer}")
