"""How a whole network runs on the CPU: in integers only, so that one model serves floating and fixed point."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyAsyncProcessModel, PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.process.process import AbstractProcess, ProcessParameters
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.async_protocol import AsyncProtocol
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_meta.errors import ConversionError
from lava_meta.graph import AcyclicGraph
from lava_meta.processes.binary_network.process import BinaryNetwork, StreamedNetwork
from lava_meta.processes.layered_network.process import LayeredNetwork
from lava_meta.processes.stock_network.process import StockNetwork


@implements(proc=BinaryNetwork, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt", "fixed_pt")
class BinaryNetworkModel(PyLoihiProcessModel):
    """Receives pixels, runs the packed kernels, sends what was asked for."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.uint8)
    out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int64)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self.network = proc_params["network"]
        self.output = proc_params["output"]

    def run_spk(self) -> None:
        pixels = self._pixels()
        if self.output == "readout":
            self.out.send(self.network.sums(pixels))
        elif self.output == "classes":
            self.out.send(self.network.predict(pixels))
        else:
            self.out.send(self.network.activations(pixels, [self.output])[self.output])

    def _pixels(self) -> np.ndarray:
        if len(self.s_in.csp_ports) != 1:
            # Lava would add them up in the port's 8 bits.
            raise ValueError(f"s_in has {len(self.s_in.csp_ports)} sources; the network takes its pixels from one")
        received = self.s_in.recv()
        pixels = received.astype(self.network.dtype, copy=False)
        if pixels is not received and not (pixels == received).all():
            raise ValueError(f"the network takes {self.network.domain}, and received another number")
        return pixels


@implements(proc=BinaryNetwork, protocol=LoihiProtocol)
@tag("fixed_pt")
class BinaryNetworkStock(AbstractSubProcessModel):
    """One Process per layer, each of which then is made of stock Processes; of a graph that is no chain, one."""

    def __init__(self, proc: AbstractProcess) -> None:
        output = proc.proc_params["output"]
        if output == "classes":
            raise ConversionError(
                f"{proc.name} gives classes, and stock Processes find no argmax: take the output 'readout' and "
                "graph.readout.classes"
            )
        graph, lanes = proc.proc_params["graph"], proc.s_in.shape[0]
        if isinstance(graph, AcyclicGraph):
            if lanes != 1 or output != "readout":
                raise ConversionError(
                    f"{proc.name} has {lanes} lanes and gives {output!r}; stock: one, and the readout"
                )
            self.layers = StockNetwork(graph=graph, name=proc.name)
        else:
            self.layers = LayeredNetwork(graph=graph, lanes=lanes, name=proc.name)
        proc.s_in.connect(self.layers.s_in)
        self.layers.port(output).connect(proc.out)


@implements(proc=StreamedNetwork, protocol=AsyncProtocol)
@requires(CPU)
class StreamedNetworkModel(PyAsyncProcessModel):
    """Takes a message, runs the packed kernels, puts what is wanted, until `num_steps` are done."""

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self.network = proc_params["network"]
        self.lanes = proc_params["lanes"]
        self.inlet = proc_params["inlet"]
        self.outlets = proc_params["outlets"]
        self.time_step = 0  # for the supervisor, which watches its progress

    def run_async(self) -> None:
        end = self.time_step + self.num_steps
        while self.time_step < end:
            pixels = self.inlet.get()
            self.time_step += -(-len(pixels) // self.lanes)
            outputs = self.network.activations(pixels, self.outlets, self.lanes)
            for name, ring in self.outlets.items():
                ring.put(outputs[name])
