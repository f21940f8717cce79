"""The network as a chain of layers."""

from __future__ import annotations

from lava.magma.core.decorator import implements
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_meta.graph.conv import ConvLayer
from lava_meta.graph.dense import DenseLayer, Readout
from lava_meta.processes.binary_conv.process import BinaryConv
from lava_meta.processes.binary_dense.process import BinaryDense, BinaryReadout
from lava_meta.processes.binary_input.process import BinaryInput
from lava_meta.processes.layered_network.process import LayeredNetwork

_PROCESSES = {DenseLayer: BinaryDense, ConvLayer: BinaryConv, Readout: BinaryReadout}


@implements(proc=LayeredNetwork, protocol=LoihiProtocol)
class LayeredNetworkModel(AbstractSubProcessModel):
    """The inputs, or their signs, enter the first layer; a layer's signs go to the next and to the port of its name."""

    def __init__(self, proc: AbstractProcess) -> None:
        graph, lanes = proc.proc_params["graph"], proc.proc_params["lanes"]
        port = proc.s_in
        if graph.binarize is not None:
            levels = {"max_level": graph.max_level, "min_level": graph.min_level}
            self.inputs = BinaryInput(binarize=graph.binarize, lanes=lanes, name=f"{proc.name}.inputs", **levels)
            port.connect(self.inputs.s_in)
            port = self.inputs.s_out
        low, high = graph.first_levels or (0, None)
        for name, layer in graph.named_layers():
            label = f"{proc.name}.{name}"
            part = _PROCESSES[type(layer)](layer=layer, lanes=lanes, min_level=low, max_level=high, name=label)
            setattr(self, name, part)
            port.connect(part.s_in)
            part.s_out.connect(proc.out if isinstance(layer, Readout) else getattr(proc, name))
            port, low, high = part.s_out, 0, None
