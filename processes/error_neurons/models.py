"""How the error neurons run on the CPU."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import ProcessParameters
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_meta.online_learning.class_errors import ClassError
from lava_meta.processes.error_neurons.process import ErrorNeurons


class _Compares(PyLoihiProcessModel):
    s_in: PyInPort
    label_in: PyInPort
    e_out: PyOutPort
    correct: np.ndarray

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        names = ("kind", "classes", "inputs", "precision", "dead_zone")
        more = ("temperature", "class_rate", "trace")
        self.error = ClassError(*(proc_params[name] for name in names), **{name: proc_params[name] for name in more})
        self.steps = proc_params["steps"]

    def run_spk(self) -> None:
        sums = self.s_in.recv()
        labels = self.label_in.recv().astype(np.int64)  # stock sources send floats
        if self.time_step % self.steps:
            self.e_out.send(np.zeros_like(sums))
            return
        self.e_out.send(self.error(sums, labels))
        self.correct += int((sums.argmax(axis=1) == labels).sum())


@implements(proc=ErrorNeurons, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class ErrorNeuronsFixed(_Compares):
    """Integers: a table of exponentials and one division per class."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    label_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    e_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    correct: np.ndarray = LavaPyType(np.ndarray, np.int64)


@implements(proc=ErrorNeurons, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class ErrorNeuronsFloat(_Compares):
    """Floating point."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    label_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    e_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.float32)
    correct: np.ndarray = LavaPyType(np.ndarray, np.int64)
