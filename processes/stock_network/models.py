"""The network's layers of stock Processes, wired to each other."""

from __future__ import annotations

from lava.magma.core.decorator import implements, tag
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_meta.graph.acyclic import INPUT
from lava_meta.graph.spiking_graph import SteppedGraph
from lava_meta.processes.stock_network.process import StockNetwork
from lava_meta.processes.stock_script import wire


@implements(proc=StockNetwork, protocol=LoihiProtocol)
@tag("fixed_pt")
class StockNetworkModel(AbstractSubProcessModel):
    """Stock Processes within Loihi's ranges."""

    def __init__(self, proc: AbstractProcess) -> None:
        ports = {INPUT: proc.s_in}
        for layer in proc.layers:
            made, port = wire(layer, proc.s_in, ports)
            for name, part in made.items():
                setattr(self, f"{layer.name} {name}", part)
            ports[layer.name] = port
            leaves = proc.port(layer.name)
            port.reshape(leaves.shape).connect(leaves)
        graph = proc.proc_params["graph"]
        if isinstance(graph, SteppedGraph):
            ports[graph.output].reshape(proc.out.shape).connect(proc.out)
