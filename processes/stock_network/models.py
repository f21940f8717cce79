"""The network's layers of stock Processes, wired to each other."""

from __future__ import annotations

from lava.magma.core.decorator import implements, tag
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_meta.graph.acyclic import INPUT
from lava_meta.loihi.stock.acyclic import plan_acyclic
from lava_meta.processes.stock_network.process import StockNetwork
from lava_meta.processes.stock_script import wire


@implements(proc=StockNetwork, protocol=LoihiProtocol)
@tag("fixed_pt")
class StockNetworkModel(AbstractSubProcessModel):
    """Stock Processes within Loihi's ranges."""

    def __init__(self, proc: AbstractProcess) -> None:
        ports = {INPUT: proc.s_in}
        for layer in plan_acyclic(proc.proc_params["graph"]):
            made, port = wire(layer, proc.s_in, ports)
            for name, part in made.items():
                setattr(self, f"{layer.name} {name}", part)
            ports[layer.name] = port
            leaves = proc.port(layer.name)
            port.reshape(leaves.shape).connect(leaves)
