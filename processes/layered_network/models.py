"""The network as a chain of layers."""

from __future__ import annotations

from lava.magma.core.decorator import implements
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_meta.conv import ConvLayer
from lava_meta.layers import DenseLayer, Readout
from lava_meta.processes.binary_conv.process import BinaryConv
from lava_meta.processes.binary_dense.process import BinaryDense, BinaryReadout
from lava_meta.processes.layered_network.process import LayeredNetwork

_PROCESSES = {DenseLayer: BinaryDense, ConvLayer: BinaryConv, Readout: BinaryReadout}


@implements(proc=LayeredNetwork, protocol=LoihiProtocol)
class LayeredNetworkModel(AbstractSubProcessModel):
    """Pixels enter the first layer; each layer's signs go to the next one and to the port of its name."""

    def __init__(self, proc: AbstractProcess) -> None:
        graph, lanes = proc.proc_params["graph"], proc.proc_params["lanes"]
        port = proc.s_in
        max_level: int | None = graph.max_level
        for name, layer in graph.named_layers():
            label = f"{proc.name}.{name}"
            part = _PROCESSES[type(layer)](layer=layer, lanes=lanes, max_level=max_level, name=label)
            setattr(self, name, part)
            port.connect(part.s_in)
            part.s_out.connect(proc.out if isinstance(layer, Readout) else getattr(proc, name))
            port, max_level = part.s_out, None
