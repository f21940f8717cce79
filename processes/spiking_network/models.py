"""How a whole spiking network runs on the CPU."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyAsyncProcessModel, PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import ProcessParameters
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.async_protocol import AsyncProtocol
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_meta.graph.packed.spiking import CompiledRun
from lava_meta.processes.spiking_network.process import SpikingNetworkProcess, StreamedSpikes


class _Steps(PyLoihiProcessModel):
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    form: str

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        graph = proc_params["graph"]
        self.low, self.high = graph.min_level, graph.max_level
        self.run_of = CompiledRun(graph, self.form)
        self.steps, self.output = proc_params["steps"], proc_params["output"]

    def run_spk(self) -> None:
        x = self.s_in.recv()
        if x.min() < self.low or x.max() > self.high:
            raise ValueError(f"inputs run from {x.min()} to {x.max()}; this network takes {self.low} to {self.high}")
        if self.steps is not None and (self.time_step - 1) % self.steps == 0:
            self.run_of.restart()
        self.s_out.send(self.run_of.step(x)[self.output].astype(np.int32))


@implements(proc=SpikingNetworkProcess, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class SpikingNetworkFloat(_Steps):
    """Potentials in float32."""

    form = "floating_pt"


@implements(proc=SpikingNetworkProcess, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class SpikingNetworkFixed(_Steps):
    """Potentials in integers."""

    form = "fixed_pt"


@implements(proc=StreamedSpikes, protocol=AsyncProtocol)
@requires(CPU)
class StreamedSpikesModel(PyAsyncProcessModel):
    """Takes a message, runs all its time steps, puts what is wanted, until `num_steps` are done."""

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self.run_of = CompiledRun(proc_params["graph"], proc_params["form"])
        self.steps = proc_params["steps"]
        self.inlet, self.outlets = proc_params["inlet"], proc_params["outlets"]
        self.time_step = 0  # for the supervisor, which watches its progress

    def run_async(self) -> None:
        end = self.time_step + self.num_steps
        while self.time_step < end:
            inputs = self.inlet.get()
            self.time_step += 1
            held = inputs.shape[1] == 1 and self.steps > 1
            outputs = self.run_of.trains(inputs.swapaxes(0, 1), self.steps if held else None, [*self.outlets])
            for name, ring in self.outlets.items():
                ring.put(np.ascontiguousarray(outputs[name].swapaxes(0, 1)))
