"""The engine form: a stock LearningDense, and its neurons."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.learning.learning_rule import Loihi3FLearningRule
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.process.process import AbstractProcess, ProcessParameters
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.dense.process import LearningDense

from lava_meta.online_learning.class_errors import ClassError
from lava_meta.processes.engine_readout.process import STEPS, EngineNeurons, EngineReadout


@implements(proc=EngineReadout, protocol=LoihiProtocol)
@tag("floating_pt")
class EngineReadoutModel(AbstractSubProcessModel):
    """Spikes enter the dense layer, its sums the neurons, and their errors the dense layer's traces."""

    def __init__(self, proc: AbstractProcess) -> None:
        tags, rule = proc.proc_params["tag"], proc.proc_params["rule"]
        classes, inputs = tags.shape
        self.dense = LearningDense(
            weights=np.where(tags >= 0, 128.0, -128.0),
            tag_1=tags,
            learning_rule=Loihi3FLearningRule(dw=rule.dw, dt=rule.dt, x1_tau=1, t_epoch=1),
        )
        self.neurons = EngineNeurons(classes=classes, inputs=inputs, lr=proc.proc_params["lr"])
        proc.s_in.connect(self.dense.s_in)
        proc.label_in.connect(self.neurons.label_in)
        self.dense.a_out.connect(self.neurons.a_in)
        self.neurons.y1_out.connect(self.dense.s_in_y1)
        self.neurons.y2_out.connect(self.dense.s_in_y2)
        proc.tag.alias(self.dense.tag_1)
        proc.correct.alias(self.neurons.correct)


@implements(proc=EngineNeurons, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class EngineNeuronsModel(PyLoihiProcessModel):
    """Compares in the last step of an image, is silent in the others."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    label_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    y1_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    y2_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    correct: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self.classes, self.lr = proc_params["classes"], proc_params["lr"]
        self.error = ClassError("softmax", self.classes, proc_params["inputs"], "float")

    def run_spk(self) -> None:
        sums = self.a_in.recv()
        labels = self.label_in.recv().astype(np.int64)  # stock sources send floats
        step = np.zeros(self.classes)
        if self.time_step % STEPS == 0:
            whole = np.rint(sums / 128).astype(np.int64)[None]
            step = self.lr * self.error(whole, labels)[0].astype(np.float64)
            self.correct += int(whole[0].argmax() == labels[0])
        self.y1_out.send(step)
        self.y2_out.send(np.abs(step))
