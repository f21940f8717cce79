"""The neurons that compare a readout with its label."""

from __future__ import annotations

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from lava_meta.online_learning.settings import ERRORS, Precision


class ErrorNeurons(AbstractProcess):
    """One signed error per class; the equations are those of `lava_meta.online_learning.class_errors`.

    Ports: `s_in` (lanes, classes), int32, the readout's sums; `label_in` (lanes,), int32; `e_out` (lanes, classes),
    float32, or in fixed point int32 with 128 for 1.0. Var `correct` (1,): how many images were classified right.

    steps: time steps for which an image is shown; errors are sent in the last of them, and 0 in the others.
    inputs: of each readout unit, whose root scales the sums unless there is a temperature. kind: "softmax", "margin" or
    "ternary". class_rate and trace: how fast class neurons follow how often their class comes, and the array (classes,)
    in which they do, of the readout's state. A label that is no class ends the run with a ValueError.
    """

    def __init__(
        self,
        *,
        classes: int,
        inputs: int,
        kind: str = "softmax",
        precision: Precision = 8,
        dead_zone: float = 0.02,
        temperature: float | None = None,
        class_rate: float = 0.0,
        trace: np.ndarray | None = None,
        lanes: int = 1,
        steps: int = 1,
        name: str | None = None,
    ) -> None:
        super().__init__(
            classes=classes,
            inputs=inputs,
            kind=kind,
            precision=precision,
            dead_zone=dead_zone,
            temperature=temperature,
            class_rate=class_rate,
            trace=trace,
            steps=steps,
            name=name,
        )
        if kind not in ERRORS:
            raise ValueError(f"kind is {kind!r}; choose one of {', '.join(ERRORS)}")
        self.s_in = InPort(shape=(lanes, classes))
        self.label_in = InPort(shape=(lanes,))
        self.e_out = OutPort(shape=(lanes, classes))
        self.correct = Var(shape=(1,), init=0)
