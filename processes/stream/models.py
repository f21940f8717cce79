"""How the stream's Processes run on the CPU; one model serves floating and fixed point, since nothing is computed."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import ProcessParameters
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_meta.processes.stream.process import PixelSource, Sink, Source


class _SendsFromRing(PyLoihiProcessModel):
    s_out: PyOutPort

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self.ring = proc_params["ring"]

    def run_spk(self) -> None:
        batch = self.ring.get()
        missing = self.ring.shape[0] - len(batch)
        self.s_out.send(np.concatenate([batch, batch[-1:].repeat(missing, axis=0)]) if missing else batch)


@implements(proc=Source, protocol=LoihiProtocol)
@requires(CPU)
class SourceModel(_SendsFromRing):
    """Sends int32."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)


@implements(proc=PixelSource, protocol=LoihiProtocol)
@requires(CPU)
class PixelSourceModel(_SendsFromRing):
    """Sends uint8."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.uint8)


@implements(proc=Sink, protocol=LoihiProtocol)
@requires(CPU)
class SinkModel(PyLoihiProcessModel):
    """Receives and stores."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self.ring = proc_params["ring"]

    def run_spk(self) -> None:
        self.ring.put(self.a_in.recv())
