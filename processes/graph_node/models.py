"""How nodes run on the CPU: in integers, as the reference implementation, which serves floating and fixed point."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import ProcessParameters
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_meta.processes.graph_node.process import GraphJoin, GraphNode


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
