"""A network of any form as one Process that runs as Lava's stock Processes."""

from __future__ import annotations

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess

from lava_meta.graph.acyclic import READOUT, AcyclicGraph
from lava_meta.loihi.stock.acyclic import map_acyclic, plan_acyclic


class StockNetwork(AbstractProcess):
    """`graph` as `lava_meta.loihi.stock` maps it, within Loihi's ranges; one image per time step.

    Ports: `s_in` (1, pixels), raw pixels, or spikes 0 and 1 for inputs of -1 and +1; `out` (1, classes), the sums of
    the readout; `port(name)`, the spikes of a threshold's or pooling's units, any value above 0 for one. Answers come
    as many time steps later as `lava_meta.loihi.stock.latencies` says.

    Raises `ConversionError` naming every node that has no stock form.
    """

    def __init__(self, *, graph: AcyclicGraph, name: str | None = None) -> None:
        super().__init__(graph=graph, name=name)
        plan_acyclic(graph)
        self.s_in = InPort(shape=(1, graph.n_in))
        self.out = OutPort(shape=(1, graph.n_out))
        for layer, coded in map_acyclic(graph).coded.items():
            setattr(self, f"node {layer}", OutPort(shape=(1, coded.step.size)))

    def port(self, layer: str) -> OutPort:
        """The port of a node by its name, or of the readout."""
        return self.out if layer == READOUT else getattr(self, f"node {layer}")
