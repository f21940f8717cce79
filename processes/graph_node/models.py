"""How nodes run on the CPU: as the reference implementation; in integers, except for neurons in floating point."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import ProcessParameters
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_meta.graph.spiking_delays import Past
from lava_meta.graph.spiking_neurons import state_of
from lava_meta.processes.graph_node.process import GraphDelay, GraphJoin, GraphNeurons, GraphNode


class _Computes(PyLoihiProcessModel):
    """Receives from every source, computes, sends."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int64)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self.placed = proc_params["placed"]

    def run_spk(self) -> None:
        values = [
            received.reshape(-1, *shape)
            for received, shape in zip(self.received(), self.placed.input_shapes, strict=True)
        ]
        self.s_out.send(self.placed.node(values).reshape(len(values[0]), -1))

    def received(self) -> tuple[np.ndarray, ...]:
        raise NotImplementedError


@implements(proc=GraphNode, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt", "fixed_pt")
class GraphNodeModel(_Computes):
    """A node of one source."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int64)

    def received(self) -> tuple[np.ndarray, ...]:
        return (self.s_in.recv(),)


@implements(proc=GraphJoin, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt", "fixed_pt")
class GraphJoinModel(_Computes):
    """A node of two sources."""

    s_in1: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int64)
    s_in2: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int64)

    def received(self) -> tuple[np.ndarray, ...]:
        return self.s_in1.recv(), self.s_in2.recv()


class _Remembers(PyLoihiProcessModel):
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int64)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int64)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self.placed, self.lanes, self.steps = (proc_params[name] for name in ("placed", "lanes", "steps"))

    def begins(self) -> bool:
        """Whether inputs meet a network at rest in this time step."""
        return self.time_step == 1 or (self.steps is not None and (self.time_step - 1) % self.steps == 0)


@implements(proc=GraphDelay, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt", "fixed_pt")
class GraphDelayModel(_Remembers):
    """Sends what it received some time steps before."""

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        (self.source,) = self.placed.node.sources
        self.past = Past({"delay": self.placed.node})

    def run_spk(self) -> None:
        if self.begins():
            self.past.restart()
        self.s_out.send(self.past.given(self.lanes)["delay"].reshape(self.lanes, -1).astype(np.int64))
        self.past.keep({self.source: self.s_in.recv()})


class _Neurons(_Remembers):
    form: str

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self.shape = self.placed.output_shape
        self.neurons = state_of(self.placed.node, self.shape, self.form)

    def run_spk(self) -> None:
        sums = self.s_in.recv()
        if self.begins():
            self.neurons.restart(len(sums))
        spikes = self.neurons.step(sums.reshape(-1, *self.shape))
        self.s_out.send(spikes.reshape(len(sums), -1).astype(np.int64))


@implements(proc=GraphNeurons, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class GraphNeuronsFloat(_Neurons):
    """Potentials in float32."""

    form = "floating_pt"


@implements(proc=GraphNeurons, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class GraphNeuronsFixed(_Neurons):
    """Potentials in integers."""

    form = "fixed_pt"
