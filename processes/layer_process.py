"""What the Processes of one layer have in common: ports for lanes of images, and the levels they take."""

from __future__ import annotations

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess

from lava_meta.graph.conv import ConvLayer
from lava_meta.graph.dense import DenseLayer, Readout
from lava_meta.processes.inputs import levels_of


class LayerProcess(AbstractProcess):
    """Ports `s_in` (lanes, n_in) and `s_out` (lanes, n_out). Lava finds models by the exact type: this one has none.

    Raises `ValueError` for fewer than one lane.
    """

    def __init__(
        self,
        *,
        layer: DenseLayer | ConvLayer | Readout,
        lanes: int = 1,
        max_level: int | None = None,
        min_level: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(layer=layer, levels=levels_of(min_level, max_level), name=name)
        # Checked after Lava's own part: without it, Lava's destructor would complain.
        if lanes < 1:
            raise ValueError(f"lanes is {lanes}; a time step takes at least one image")
        self.s_in = InPort(shape=(lanes, layer.n_in))
        self.s_out = OutPort(shape=(lanes, layer.n_out))
