"""A readout that learns in Lava's own learning engine, and the neurons that supply its third factor."""

from __future__ import annotations

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from lava_meta.online_learning.learning_engine import EngineRule

STEPS = 3  # time steps an image is shown


class EngineReadout(AbstractProcess):
    """Binary weights and metaplastic tags in a stock `LearningDense`, floating point; see `learning_engine`.

    An image and its label are shown for three time steps: in the first the weights take the signs of their tags, in
    the second the spikes are summed, in the third the sums reach the neurons and the tags step.

    Ports: `s_in` (n_in,), spikes 0 and 1; `label_in` (1,). Vars: `tag` (classes, n_in), the hidden weights; `correct`
    (1,), how many images were classified right before they were learned.

    tag: where it starts, no tag 0. lr: tag units by which a unit of softmax error lowers a synapse.
    """

    def __init__(self, *, tag: np.ndarray, rule: EngineRule, lr: float, name: str | None = None) -> None:
        super().__init__(tag=tag, rule=rule, lr=lr, name=name)
        if tag.ndim != 2 or not np.isfinite(tag).all() or (tag == 0).any():
            raise ValueError(
                "tag is (classes, inputs), finite, and nowhere 0: the engine gives a tag of 0 the weight 0"
            )
        self.s_in = InPort(shape=(tag.shape[1],))
        self.label_in = InPort(shape=(1,))
        self.tag = Var(shape=tag.shape, init=tag)
        self.correct = Var(shape=(1,), init=0)


class EngineNeurons(AbstractProcess):
    """Softmax errors of the sums in every third time step, as the traces e and |e| of the learning engine.

    Ports: `a_in` (classes,), sums of weights +-128; `label_in` (1,); `y1_out`, `y2_out` (classes,).
    """

    def __init__(self, *, classes: int, inputs: int, lr: float, name: str | None = None) -> None:
        super().__init__(classes=classes, inputs=inputs, lr=lr, name=name)
        self.a_in = InPort(shape=(classes,))
        self.label_in = InPort(shape=(1,))
        self.y1_out = OutPort(shape=(classes,))
        self.y2_out = OutPort(shape=(classes,))
        self.correct = Var(shape=(1,), init=0)
