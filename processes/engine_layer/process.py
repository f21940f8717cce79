"""What stands around a `LearningDense` that learns the metaplastic rule: the relay of its inputs, and its neurons."""

from __future__ import annotations

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from lava_meta.online_learning.reference import STATE
from lava_meta.online_learning.settings import LayerSettings

NEURON_STATE = tuple(name for name in STATE if name != "hidden")


class EngineRelay(AbstractProcess):
    """Sends an image on as spikes, and in the third time step of each image a spike on every line.

    Ports: `s_in` (1, n_in), 0 or 1, or if the layer's inputs are signs -1 or +1, of which +1 is a spike; `x_out`
    (n_in,). An input of any other value ends the run with a ValueError.
    """

    def __init__(self, *, settings: LayerSettings, name: str | None = None) -> None:
        super().__init__(settings=settings, name=name)
        self.s_in = InPort(shape=(1, settings.n_in))
        self.x_out = OutPort(shape=(settings.n_in,))


class EngineNeurons(AbstractProcess):
    """The neurons of `lava_meta.online_learning.learning_engine.layer`.

    Ports: `a_in` (n_out,), sums of weights +-128; `s_out` (1, n_out); `e_in` (1, n_out), or (1, classes) with
    `feedback`; `y1_out`, `y2_out`, `y3_out` and `bap_out` (n_out,), the traces and the spikes that go back to the
    synapses. Vars as those of `MetaplasticDense`, without `hidden`.
    """

    def __init__(
        self,
        *,
        settings: LayerSettings,
        state: dict[str, np.ndarray],
        feedback: np.ndarray | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(settings=settings, feedback=feedback, name=name)
        units = settings.n_out
        self.a_in = InPort(shape=(units,))
        self.s_out = OutPort(shape=(1, units))
        self.e_in = InPort(shape=(1, units if feedback is None else feedback.shape[0]))
        self.y1_out = OutPort(shape=(units,))
        self.y2_out = OutPort(shape=(units,))
        self.y3_out = OutPort(shape=(units,))
        self.bap_out = OutPort(shape=(units,))
        for part in NEURON_STATE:
            setattr(self, part, Var(shape=state[part].shape, init=state[part]))
        self.learning_rate = Var(shape=(1,), init=settings.rule.lr)
        self.consolidation_range = Var(shape=(1,), init=1.0)
        self.learning = Var(shape=(1,), init=1)
