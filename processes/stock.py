"""Processes of our own as Lava's stock Processes: the SubProcessModels that `select_sub_proc_model=True` selects."""

from __future__ import annotations

from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.process.process import AbstractProcess

from lava_meta.loihi.stock import StockLayer
from lava_meta.loihi.stock.network import plan_layer
from lava_meta.processes.stock_script import wire


class StockModel(AbstractSubProcessModel):
    """A layer's Process as stock Processes; its subclasses say of which Process, by `implements`.

    Ports carry other values than those of the models for the CPU: spikes 0 and 1 for -1 and +1, on `s_in` (pixels of a
    first layer are as ever) and on `s_out`, where a spike may be any value above 0. Answers come as many time steps
    later as the plan's `latency` says. One image a step. Raises `ConversionError` for what does not fit.
    """

    def __init__(self, proc: AbstractProcess) -> None:
        if proc.s_in.shape[0] != 1:
            raise ValueError(f"{proc.name} has {proc.s_in.shape[0]} lanes; stock Processes take one image a time step")
        made, port = wire(self.plan(proc), proc.s_in)
        for name, part in made.items():
            setattr(self, name, part)
        port.reshape(proc.s_out.shape).connect(proc.s_out)

    def plan(self, proc: AbstractProcess) -> StockLayer:
        """The layer of `proc`."""
        return plan_layer(proc.name, proc.proc_params["layer"], proc.proc_params["levels"])
