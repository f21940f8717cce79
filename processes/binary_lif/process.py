"""Binary synapses and their leaky integrate-and-fire neurons as one Process."""

from __future__ import annotations

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess

from lava_meta.graph.spiking import LIFLayer
from lava_meta.graph.spiking_inputs import check_run


class BinaryLIF(AbstractProcess):
    """One layer of `lava_meta.graph.spiking`, for `lanes` inputs at once.

    Its neurons start again from rest every `steps` time steps.

    Ports, int32, answered within the same time step:

    - `s_in` (lanes, n_in): spikes 0 and 1; for a first layer, with `max_level`, integers 0 .. `max_level`, from which
      `offset` is taken. Other values end the run with a `ValueError`.
    - `s_out` (lanes, n_out): spikes 0 and 1.

    ProcessModels: `floating_pt`, float32 as snnTorch computes; `fixed_pt`, integers with the quantisation of
    `lava_meta.graph.spiking`. Without `steps` the neurons never start again; with it, they do `delay` steps after the
    first time step, then every `steps`: behind Processes that answer later, a layer's inputs begin later.
    """

    _runtime = None  # Lava's `__del__` reads it, even where `__init__` has raised

    def __init__(
        self,
        *,
        layer: LIFLayer,
        lanes: int = 1,
        steps: int | None = None,
        delay: int = 0,
        max_level: int | None = None,
        offset: int = 0,
        name: str | None = None,
    ) -> None:
        check_run(lanes, steps)
        if delay < 0:
            raise ValueError(f"delay is {delay}; it is a number of time steps")
        super().__init__(layer=layer, steps=steps, delay=delay, largest=max_level or 1, offset=offset, name=name)
        self.s_in = InPort(shape=(lanes, layer.n_in))
        self.s_out = OutPort(shape=(lanes, layer.n_out))
