"""How binary convolutions run on the CPU: in floating point through BLAS, and in integers only, with equal integers.

Each position's window becomes a row of a matrix, which the weights multiply. Floating point is exact here for the
reason given in `lava_meta.processes.binary_dense.models`: float32 holds all sums below 2**24, float64 below 2**53.
"""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import ProcessParameters
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_meta.processes.binary_conv.process import BinaryConv
from lava_meta.processes.inputs import check_inputs, largest
from lava_meta.processes.stock import StockModel


class _Convolves(PyLoihiProcessModel):
    """Receives, checks, convolves and compares; `weight_type` decides the arithmetic."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self.layer = proc_params["layer"]
        self.levels = proc_params["levels"]
        dtype = self.weight_type(self.layer.most_terms * largest(self.levels))
        self.weight = np.where(self.layer.weight, dtype(1), dtype(-1))

    def weight_type(self, largest_sum: int) -> type:
        raise NotImplementedError

    def run_spk(self) -> None:
        x = self.s_in.recv()
        check_inputs(x, self.levels)
        sums = self.layer.convolve(x.astype(self.weight.dtype), self.weight)
        self.s_out.send(np.where(self.layer.fires(sums), 1, -1))


@implements(proc=BinaryConv, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class BinaryConvFloat(_Convolves):
    """Sums by BLAS in float32 (float64 for sums from 2**24), thresholds in int64."""

    def weight_type(self, largest_sum: int) -> type:
        return np.float32 if largest_sum < 2**24 else np.float64


@implements(proc=BinaryConv, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class BinaryConvFixed(_Convolves):
    """Integers only: sums in int32 (int64 for sums from 2**31), thresholds in int64."""

    def weight_type(self, largest_sum: int) -> type:
        return np.int32 if largest_sum < 2**31 else np.int64


@implements(proc=BinaryConv, protocol=LoihiProtocol)
@tag("fixed_pt")
class BinaryConvStock(StockModel):
    """Stock Processes within Loihi's ranges."""
