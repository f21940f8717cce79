"""How inputs become signs on the CPU: one comparison of integers, which serves floating and fixed point."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import AbstractProcess, ProcessParameters
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_meta.loihi.stock.dense import binarized_inputs
from lava_meta.loihi.stock.parts import StockLayer
from lava_meta.processes.binary_input.process import BinaryInput
from lava_meta.processes.inputs import check_inputs
from lava_meta.processes.stock import StockModel


@implements(proc=BinaryInput, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt", "fixed_pt")
class BinaryInputModel(PyLoihiProcessModel):
    """Receives, checks and compares."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self.binarize = proc_params["binarize"]
        self.levels = proc_params["levels"]

    def run_spk(self) -> None:
        p = self.s_in.recv()
        check_inputs(p, self.levels)
        self.s_out.send(np.where(self.binarize.fires(p), 1, -1))


@implements(proc=BinaryInput, protocol=LoihiProtocol)
@tag("fixed_pt")
class BinaryInputStock(StockModel):
    """Stock Processes within Loihi's ranges."""

    def plan(self, proc: AbstractProcess) -> StockLayer:
        return binarized_inputs(proc.name, proc.proc_params["binarize"], proc.proc_params["levels"])
