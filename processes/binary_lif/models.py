"""How spiking layers run on the CPU. Sums go through BLAS, exactly; the neurons are `lava_meta.graph.spiking`'s."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import AbstractProcess, ProcessParameters
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_meta.graph.spiking import DYNAMICS
from lava_meta.loihi.stock import StockLayer
from lava_meta.loihi.stock.spiking import lif_layer
from lava_meta.processes.binary_lif.process import BinaryLIF
from lava_meta.processes.stock import StockModel


class _Spikes(PyLoihiProcessModel):
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    form: str

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self.weight = proc_params["layer"].weight.T
        self.neurons = DYNAMICS[self.form](proc_params["layer"])
        self.steps, self.largest, self.offset = (proc_params[name] for name in ("steps", "largest", "offset"))
        self.first = 1 + proc_params["delay"]

    def run_spk(self) -> None:
        x = self.s_in.recv()
        if x.min() < 0 or x.max() > self.largest:
            raise ValueError(f"inputs run from {x.min()} to {x.max()}; this layer takes 0 to {self.largest}")
        if self.steps is not None and (self.time_step - self.first) % self.steps == 0:
            self.neurons.restart()
        sums = (x.astype(np.float32) - np.float32(self.offset)) @ self.weight
        self.s_out.send(self.neurons.step(sums).astype(np.int32))


@implements(proc=BinaryLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class BinaryLIFFloat(_Spikes):
    """Potentials in float32."""

    form = "floating_pt"


@implements(proc=BinaryLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class BinaryLIFFixed(_Spikes):
    """Potentials in integers."""

    form = "fixed_pt"


@implements(proc=BinaryLIF, protocol=LoihiProtocol)
@tag("fixed_pt")
class BinaryLIFStock(StockModel):
    """Stock Processes within Loihi's ranges: the integers of `fixed_pt`, one time step later."""

    def plan(self, proc: AbstractProcess) -> StockLayer:
        p = proc.proc_params
        levels = None if p["largest"] == 1 else (0, p["largest"])
        return lif_layer(proc.name, p["layer"], levels, p["offset"], p["steps"], p["delay"])
