"""A metaplastic layer as stock Lava can have it: its synapses are a `LearningDense`."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements
from lava.magma.core.learning.learning_rule import Loihi3FLearningRule
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.dense.process import LearningDense

from lava_meta.errors import ConversionError
from lava_meta.online_learning.learning_engine.layer import ENGINE_SEED, NO_WAY_DOWN
from lava_meta.processes.engine_layer.process import NEURON_STATE, EngineNeurons, EngineRelay
from lava_meta.processes.metaplastic_dense.process import MetaplasticDense
from lava_meta.rule.lowering import WEIGHT


@implements(proc=MetaplasticDense, protocol=LoihiProtocol)
class MetaplasticDenseEngine(AbstractSubProcessModel):
    """Relay, `LearningDense` with the lowered rule, neurons.

    Chosen by a run configuration with `select_sub_proc_model=True`; the tag chooses integers or floating point,
    as it does for stock Processes.

    An image takes `settings.engine_steps` time steps (`lava_meta.online_learning.learning_engine.layer`).
    """

    def __init__(self, proc: AbstractProcess) -> None:
        settings, state = proc.proc_params["settings"], proc.proc_params["state"]
        if not settings.engine_steps:
            raise ConversionError(
                "select_sub_proc_model=True puts a metaplastic layer into Lava's learning engine, where an image takes "
                "several time steps: give its LayerSettings engine_steps, the number of layers + 4"
            )
        if proc.s_in.shape[0] != 1:
            raise ConversionError(f"the learning engine sees one image at a time, not {proc.s_in.shape[0]} lanes")
        if proc.e_out.get_dst_ports():
            raise ConversionError(NO_WAY_DOWN)
        tags, rule = state["hidden"].T, settings.engine_rule
        self.relay = EngineRelay(settings=settings)
        self.dense = LearningDense(
            weights=np.where(tags >= 0, WEIGHT, -WEIGHT),
            tag_1=tags,
            learning_rule=Loihi3FLearningRule(dw=rule.dw, dt=rule.dt, x1_tau=1, t_epoch=1, rng_seed=ENGINE_SEED),
        )
        self.neurons = EngineNeurons(settings=settings, state=state, feedback=proc.proc_params["feedback"])
        proc.s_in.connect(self.relay.s_in)
        self.relay.x_out.connect(self.dense.s_in)
        self.dense.a_out.connect(self.neurons.a_in)
        self.neurons.s_out.connect(proc.s_out)
        proc.e_in.connect(self.neurons.e_in)
        self.neurons.bap_out.connect(self.dense.s_in_bap)
        self.neurons.y1_out.connect(self.dense.s_in_y1)
        self.neurons.y2_out.connect(self.dense.s_in_y2)
        self.neurons.y3_out.connect(self.dense.s_in_y3)
        for name in (*NEURON_STATE, "learning_rate", "consolidation_range", "learning"):
            getattr(proc, name).alias(getattr(self.neurons, name))
        proc.hidden.aliased_var = _Transposed(self.dense.tag_1)


class _Transposed:
    """A Var (units, inputs) of the `LearningDense`, seen through one of (inputs, units). Lava's alias keeps shapes."""

    def __init__(self, var: Var) -> None:
        self.var, self.name = var, var.name

    @property
    def process(self) -> Any:
        return self.var.process

    def get(self, idx: np.ndarray | None = None) -> np.ndarray:
        return self.var.get(idx).T

    def set(self, value: np.ndarray, idx: np.ndarray | None = None) -> None:
        self.var.set(np.ascontiguousarray(value.T), idx)
