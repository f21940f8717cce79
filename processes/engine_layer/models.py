"""How relay and neurons of the engine form run on the CPU."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import ProcessParameters
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_meta.online_learning.learning_engine import layer as form
from lava_meta.processes.engine_layer.process import NEURON_STATE, EngineNeurons, EngineRelay
from lava_meta.rule.lowering import WEIGHT


@implements(proc=EngineRelay, protocol=LoihiProtocol)
@requires(CPU)
class EngineRelayModel(PyLoihiProcessModel):
    """One model for both forms: nothing is computed."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    x_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self.settings = proc_params["settings"]
        self.known = (0, 1) if self.settings.engine_rule.inputs == "spikes" else (-1, 1)

    def run_spk(self) -> None:
        x = self.s_in.recv()[0]
        if not np.isin(x, self.known).all():
            raise ValueError(
                f"this layer in the learning engine takes inputs of {self.known[0]} and {self.known[1]}; got "
                f"{x.min()} to {x.max()}: put an encoder before it"
            )
        spikes = (x > 0).astype(np.int32)
        self.x_out.send(np.ones_like(spikes) if _moment(self) == form.ALL_SPIKE else spikes)


class _Neurons(PyLoihiProcessModel):
    float_form = False
    a_in: PyInPort
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    e_in: PyInPort
    y1_out: PyOutPort
    y2_out: PyOutPort
    y3_out: PyOutPort
    bap_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, bool)
    balance: np.ndarray = LavaPyType(np.ndarray, np.int32)
    learning_rate: np.ndarray = LavaPyType(np.ndarray, np.float64)
    consolidation_range: np.ndarray = LavaPyType(np.ndarray, np.float64)
    learning: np.ndarray = LavaPyType(np.ndarray, np.int32)
    images: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self.settings, self.feedback = proc_params["settings"], proc_params["feedback"]
        self.neurons: form.EngineNeurons | None = None
        if (self.settings.precision == "float") != self.float_form:
            raise ValueError(
                f"a hidden weight of precision {self.settings.precision!r} does not run in this form of the learning "
                "engine: select the tag 'fixed_pt' for 9 bits, 'floating_pt' for 'float'"
            )

    def run_spk(self) -> None:
        s, neurons, moment = self.settings, self._ready(), _moment(self)
        sums = np.rint(self.a_in.recv() / WEIGHT).astype(np.int64)
        if moment == form.SUMS_OF_ALL:
            self.balance[:] = sums
        self.s_out.send(neurons.fire(sums if s.engine_rule.inputs == "spikes" else 2 * sums - self.balance))
        error = self.e_in.recv()
        traces = form.no_traces(s.n_out)
        if moment == s.engine_steps and self.learning[0]:
            traces = neurons.learn(error if self.feedback is None else error @ self.feedback)
        self.bap_out.send(np.full(s.n_out, moment == form.SPIKE_BACK))
        self.y1_out.send(traces["y1"])
        self.y2_out.send(traces["y2"])
        self.y3_out.send(traces["y3"])

    def on_var_update(self) -> None:
        """Derive again what follows from the Vars."""
        self._ready().set_rule(float(self.learning_rate[0]), float(self.consolidation_range[0]))

    def _ready(self) -> form.EngineNeurons:
        """The neurons, which work in place on this model's Vars. Lava sets these only after the model is made."""
        if self.neurons is None:
            self.neurons = form.EngineNeurons(self.settings, {name: getattr(self, name) for name in NEURON_STATE})
        return self.neurons


def _moment(model: PyLoihiProcessModel) -> int:
    """Which time step of an image this is, from 1."""
    return (model.time_step - 1) % model.settings.engine_steps + 1


@implements(proc=EngineNeurons, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class EngineNeuronsFixed(_Neurons):
    """Integers only."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    e_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    y1_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    y2_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    y3_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    mean: np.ndarray = LavaPyType(np.ndarray, np.int32)
    deviation: np.ndarray = LavaPyType(np.ndarray, np.int32)
    trace: np.ndarray = LavaPyType(np.ndarray, np.int32)


@implements(proc=EngineNeurons, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class EngineNeuronsFloat(_Neurons):
    """Floating point."""

    float_form = True
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    e_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.float32)
    y1_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    y2_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    y3_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    mean: np.ndarray = LavaPyType(np.ndarray, np.float32)
    deviation: np.ndarray = LavaPyType(np.ndarray, np.float32)
    trace: np.ndarray = LavaPyType(np.ndarray, np.float32)
