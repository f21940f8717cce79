"""A network of any form as one Process that runs as Lava's stock Processes."""

from __future__ import annotations

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess

from lava_meta.graph.acyclic import READOUT, AcyclicGraph
from lava_meta.graph.spiking_graph import SteppedGraph
from lava_meta.loihi.stock.acyclic import accepted, map_acyclic
from lava_meta.loihi.stock.stepped import map_stepped


class StockNetwork(AbstractProcess):
    """`graph` as `lava_meta.loihi.stock` maps it, within Loihi's ranges; one image per time step.

    Ports: `s_in` (1, pixels), raw pixels, or spikes 0 and 1 for inputs of -1 and +1; `out` (1, classes), the sums of
    the readout; `port(name)`, the spikes of a threshold's or pooling's units, any value above 0 for one. Answers come
    as many time steps later as `lava_meta.loihi.stock.latencies` says.

    Of a `SteppedGraph` a time step is one of the network, and `out` are the spikes of its output. Its neurons start
    again for every input, `lava_meta.loihi.stock.stepped.period(graph, steps)` time steps behind the one before;
    without `steps` never.

    Raises `ConversionError` naming every node that has no stock form.
    """

    def __init__(
        self, *, graph: AcyclicGraph | SteppedGraph, steps: int | None = None, name: str | None = None
    ) -> None:
        super().__init__(graph=graph, name=name)
        mapped = map_stepped(graph, steps) if isinstance(graph, SteppedGraph) else map_acyclic(graph)
        self.layers = accepted(mapped)
        self.s_in = InPort(shape=(1, graph.n_in))
        self.out = OutPort(shape=(1, graph.n_out))
        for layer, coded in mapped.coded.items():
            setattr(self, f"node {layer}", OutPort(shape=(1, coded.step.size)))

    def port(self, layer: str) -> OutPort:
        """The port of a node by its name, or of the readout."""
        return self.out if layer == READOUT else getattr(self, f"node {layer}")
