"""A whole spiking network as one Process: with ports, a time step at a time; from ring to ring, images at a time."""

from __future__ import annotations

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess

from lava_meta.graph.spiking_graph import SteppedGraph
from lava_meta.graph.spiking_inputs import check_run
from lava_meta.processes.ring import Ring


class SpikingNetworkProcess(AbstractProcess):
    """`graph` within one actor, a time step of the network each time step, to be wired to other Processes.

    Its neurons start again from rest every `steps` time steps; without `steps` never, so a stream may have no end.

    Ports, int32, for `lanes` inputs, answered within the same time step:

    - `s_in` (lanes, n_in): integers of the graph's levels, for spikes 0 and 1. Others end the run with a `ValueError`.
    - `s_out` (lanes, units): spikes 0 and 1 of the layer `output`, by default the last.

    ProcessModels: `floating_pt`, float32 as snnTorch computes; `fixed_pt`, integers
    (`lava_meta.graph.spiking_neurons`).
    """

    _runtime = None  # Lava's `__del__` reads it, even where `__init__` has raised

    def __init__(
        self,
        *,
        graph: SteppedGraph,
        lanes: int = 1,
        steps: int | None = None,
        output: str | None = None,
        name: str | None = None,
    ) -> None:
        check_run(lanes, steps)
        output = graph.output if output is None else output
        if output not in graph.neurons:
            raise ValueError(f"output is {output!r}; this network has {', '.join(graph.neurons)}")
        super().__init__(graph=graph, steps=steps, output=output, name=name)
        self.s_in = InPort(shape=(lanes, graph.n_in))
        self.s_out = OutPort(shape=(lanes, graph.placed[output].n_out))


class StreamedSpikes(AbstractProcess):
    """`graph` from a ring of inputs to a ring for each wanted layer: all time steps of `lanes` inputs in a message.

    It follows Lava's asynchronous protocol, as `StreamedNetwork` does: no step waits for other Processes.

    `inlet`: (lanes, frames, n_in), one frame that is held for `steps` time steps, or `steps` frames. `outlets`: rings
    (lanes, steps, units) by layer, of uint8 spikes; by "layer.mem", of float32 potentials.
    """

    _runtime = None  # Lava's `__del__` reads it, even where `__init__` has raised

    def __init__(
        self,
        *,
        graph: SteppedGraph,
        form: str,
        steps: int,
        inlet: Ring,
        outlets: dict[str, Ring],
        name: str | None = None,
    ) -> None:
        super().__init__(graph=graph, form=form, steps=steps, inlet=inlet, outlets=outlets, name=name)
