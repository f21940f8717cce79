"""How binary layers run on the CPU: in floating point through BLAS, and in integers only. Both give equal integers.

Floating point is exact here: every partial sum of a product of integers below 2**24 (2**53) is an integer that float32
(float64) holds, in whatever order BLAS adds. A layer uses float32 where its largest possible sum is below 2**24, which
is every layer of +1 and -1 with fewer than 16 million inputs and every 8-bit first layer with fewer than 65 thousand.
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

from lava_meta.processes.binary_dense.process import BinaryDense, BinaryReadout
from lava_meta.processes.inputs import check_inputs, largest
from lava_meta.processes.stock import StockModel


class _Synapses(PyLoihiProcessModel):
    """Receives, checks and multiplies; `weight_type` of the class or of the layer's size decides the arithmetic."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self.layer = proc_params["layer"]
        self.levels = proc_params["levels"]
        dtype = self.weight_type(self.layer.most_terms * largest(self.levels))
        self.weight = np.where(self.layer.weight, dtype(1), dtype(-1)).T

    def weight_type(self, largest_sum: int) -> type:
        raise NotImplementedError

    def sums(self) -> np.ndarray:
        """`W x` (lanes, n_out) of what has arrived."""
        x = self.s_in.recv()
        check_inputs(x, self.levels)
        return x.astype(self.weight.dtype) @ self.weight


class _Floating(_Synapses):
    def weight_type(self, largest_sum: int) -> type:
        return np.float32 if largest_sum < 2**24 else np.float64


class _Fixed(_Synapses):
    def weight_type(self, largest_sum: int) -> type:
        return np.int32 if largest_sum < 2**31 else np.int64


class _Fires(_Synapses):
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def run_spk(self) -> None:
        self.s_out.send(np.where(self.layer.fires(self.sums()), 1, -1))


class _Reads(_Synapses):
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int64)  # 16-bit inputs can sum to more than int32 holds

    def run_spk(self) -> None:
        self.s_out.send(self.sums())


@implements(proc=BinaryDense, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class BinaryDenseFloat(_Floating, _Fires):
    """Sums by BLAS in float32 (float64 for sums from 2**24), thresholds in int64."""


@implements(proc=BinaryDense, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class BinaryDenseFixed(_Fixed, _Fires):
    """Integers only: sums in int32 (int64 for sums from 2**31), thresholds in int64."""


@implements(proc=BinaryReadout, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class BinaryReadoutFloat(_Floating, _Reads):
    """Sums by BLAS."""


@implements(proc=BinaryReadout, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class BinaryReadoutFixed(_Fixed, _Reads):
    """Sums in integers."""


@implements(proc=BinaryDense, protocol=LoihiProtocol)
@tag("fixed_pt")
class BinaryDenseStock(StockModel):
    """Stock Processes within Loihi's ranges."""


@implements(proc=BinaryReadout, protocol=LoihiProtocol)
@tag("fixed_pt")
class BinaryReadoutStock(StockModel):
    """Stock Processes within Loihi's ranges."""
