"""Nodes of a network: integers of one source, or of two, in; integers out. See `lava_meta.graph.nodes`."""

from __future__ import annotations

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess

from lava_meta.graph.acyclic import Placed
from lava_meta.graph.spiking_inputs import check_run


class GraphNode(AbstractProcess):
    """A node of one source.

    Ports, int64, for `lanes` images per time step, flat, answered within the same time step: `s_in` (lanes, n_in) and
    `s_out` (lanes, n_out).
    """

    def __init__(self, *, placed: Placed, lanes: int = 1, name: str | None = None) -> None:
        super().__init__(placed=placed, name=name)
        # Checked after Lava's own part: without it, Lava's destructor would complain.
        if lanes < 1:
            raise ValueError(f"lanes is {lanes}; a time step takes at least one image")
        self.s_in = InPort(shape=(lanes, placed.n_in))
        self.s_out = OutPort(shape=(lanes, placed.n_out))


class GraphJoin(AbstractProcess):
    """A node of two sources: as `GraphNode`, with the ports `s_in1` and `s_in2`."""

    def __init__(self, *, placed: Placed, lanes: int = 1, name: str | None = None) -> None:
        super().__init__(placed=placed, name=name)
        if lanes < 1:
            raise ValueError(f"lanes is {lanes}; a time step takes at least one image")
        first, second = placed.sizes
        self.s_in1 = InPort(shape=(lanes, first))
        self.s_in2 = InPort(shape=(lanes, second))
        self.s_out = OutPort(shape=(lanes, placed.n_out))


class _Remembers(AbstractProcess):
    """A node of a `SteppedGraph` with a state: as `GraphNode`, at rest again every `steps` time steps, or never."""

    def __init__(self, *, placed: Placed, lanes: int = 1, steps: int | None = None, name: str | None = None) -> None:
        super().__init__(placed=placed, lanes=lanes, steps=steps, name=name)
        check_run(lanes, steps)
        self.s_in = InPort(shape=(lanes, placed.n_in))
        self.s_out = OutPort(shape=(lanes, placed.n_out))


class GraphNeurons(_Remembers):
    """Neurons; what they send are spikes, 0 and 1.

    ProcessModels: `floating_pt`, float32 as snnTorch computes; `fixed_pt`, integers
    (`lava_meta.graph.spiking_neurons`).
    """


class GraphDelay(_Remembers):
    """A delay (`lava_meta.graph.spiking_delays`). It sends before it receives, so that it may stand in a loop."""
