"""From a layer's plan (`lava_meta.stock`) to Lava's stock Processes, as the inside of one of our own Processes."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.proc.graded.process import GradedReluVec, GradedVec
from lava.proc.lif.process import LIF
from lava.proc.sparse.process import Sparse

from lava_meta.stock import StockLayer
from lava_meta.stock.network import plan_layer

KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Conv, Dense, GradedReluVec, GradedVec, LIF, Sparse)}


class StockModel(AbstractSubProcessModel):
    """A layer's Process as stock Processes; its subclasses say of which Process, by `implements`.

    Ports carry other values than those of the models for the CPU: spikes 0 and 1 for -1 and +1, on `s_in` (pixels of a
    first layer are as ever) and on `s_out`, where a spike may be any value above 0. Answers come as many time steps
    later as the plan's `latency` says. One image a step. Raises `ConversionError` for what does not fit.
    """

    def __init__(self, proc: AbstractProcess) -> None:
        if proc.s_in.shape[0] != 1:
            raise ValueError(f"{proc.name} has {proc.s_in.shape[0]} lanes; stock Processes take one image a time step")
        for name, part in build(self.plan(proc), proc.s_in, proc.s_out).items():
            setattr(self, name, part)

    def plan(self, proc: AbstractProcess) -> StockLayer:
        """The layer of `proc`."""
        return plan_layer(proc.name, proc.proc_params["layer"], proc.proc_params["levels"])


def build(layer: StockLayer, s_in: InPort, s_out: OutPort) -> dict[str, AbstractProcess]:
    """The layer's Processes by name, wired to each other, to `s_in` and to `s_out`, whose images are flat."""
    made = {name: KINDS[part.kind](**part.arguments) for name, part in layer.parts.items()}
    for source, target in layer.links:
        if layer.parts[source].is_neurons:
            made[source].s_out.connect(made[target].s_in)
        else:
            made[source].a_out.reshape(made[target].a_in.shape).connect(made[target].a_in)
    for name in layer.inputs:
        port = made[name].s_in
        if len(port.shape) == 3:  # a map: from (channels, rows, columns) to (rows, columns, channels)
            rows, columns, channels = port.shape
            s_in.reshape((channels, rows, columns)).transpose((1, 2, 0)).connect(port)
        else:
            s_in.reshape(port.shape).connect(port)
    port = made[layer.output].s_out
    if len(port.shape) == 3:
        port = port.transpose((2, 0, 1))
    port.reshape((1, int(np.prod(port.shape)))).connect(s_out)
    return made
