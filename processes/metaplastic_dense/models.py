"""How a metaplastic layer runs on the CPU: float32, or integers by compiled, serial kernels."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import ProcessParameters
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_meta.online_learning.forms import make_layer
from lava_meta.online_learning.reference import STATE, Layer
from lava_meta.processes.metaplastic_dense.process import MetaplasticDense


class _Learns(PyLoihiProcessModel):
    form = ""
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    e_in: PyInPort
    e_out: PyOutPort
    hidden: np.ndarray
    learning_rate: np.ndarray = LavaPyType(np.ndarray, np.float64)
    consolidation_range: np.ndarray = LavaPyType(np.ndarray, np.float64)
    learning: np.ndarray = LavaPyType(np.ndarray, np.int32)
    balance: np.ndarray = LavaPyType(np.ndarray, np.int32)
    images: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self.settings = proc_params["settings"]
        self.feedback = proc_params["feedback"]
        self.shared = proc_params["shared"]
        self.layer: Layer | None = None
        if self.settings.engine_steps:
            raise ValueError(
                "a layer with engine_steps runs in Lava's learning engine: give the run configuration "
                "select_sub_proc_model=True"
            )
        if (self.settings.precision == "float") != (self.form == "floating_pt"):
            raise ValueError(
                f"a hidden weight of precision {self.settings.precision!r} does not run in the form {self.form}: "
                "select the tag 'fixed_pt' for bits, 'floating_pt' for 'float'"
            )

    def run_spk(self) -> None:
        layer = self._ready()
        x = self.s_in.recv()
        lowest, highest = (-1, 1) if self.settings.max_level == 1 else (0, self.settings.max_level)
        if x.min() < lowest or x.max() > highest:
            raise ValueError(
                f"this metaplastic layer takes inputs of {lowest} to {highest}; got {x.min()} to {x.max()}: put an "
                "encoder before it"
            )
        self.s_out.send(layer.forward(x))
        error = self.e_in.recv()
        if self.feedback is not None:
            error = error @ self.feedback
        wanted = len(self.e_out.csp_ports) > 0
        self.e_out.send(layer.backward(error, learn=bool(self.learning[0]), pass_down=wanted))

    def on_var_update(self) -> None:
        """Derive again what follows from the Vars; hidden weights past their limit are clamped."""
        layer = self._ready()
        s = self.settings
        limit = s.limit if s.precision == "float" else s.limit_stored
        np.clip(self.hidden, -limit, limit, out=self.hidden)
        layer.set_rule(float(self.learning_rate[0]), float(self.consolidation_range[0]))

    def _ready(self) -> Layer:
        """The layer, which works in place on this model's Vars. Lava sets these only after the model is made."""
        if self.layer is None:
            if self.shared is not None:
                for name in STATE:
                    setattr(self, name, self.shared[name])
            self.layer = make_layer(self.settings, {name: getattr(self, name) for name in STATE}, compiled=True)
        return self.layer


@implements(proc=MetaplasticDense, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class MetaplasticDenseFixed(_Learns):
    """Integers only; see the widths in `lava_meta.online_learning.reference`."""

    form = "fixed_pt"
    e_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    e_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    hidden: np.ndarray = LavaPyType(np.ndarray, np.int16)
    mean: np.ndarray = LavaPyType(np.ndarray, np.int32)
    deviation: np.ndarray = LavaPyType(np.ndarray, np.int32)
    trace: np.ndarray = LavaPyType(np.ndarray, np.int32)


@implements(proc=MetaplasticDense, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class MetaplasticDenseFloat(_Learns):
    """float32, with any consolidation function."""

    form = "floating_pt"
    e_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.float32)
    e_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.float32)
    hidden: np.ndarray = LavaPyType(np.ndarray, np.float32)
    mean: np.ndarray = LavaPyType(np.ndarray, np.float32)
    deviation: np.ndarray = LavaPyType(np.ndarray, np.float32)
    trace: np.ndarray = LavaPyType(np.ndarray, np.float32)
