"""The signs of a network's inputs: what stands before a binarized first layer."""

from __future__ import annotations

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess

from lava_meta.graph.inputs import Binarize
from lava_meta.processes.inputs import levels_of


class BinaryInput(AbstractProcess):
    """`a_i = +1` where `polarity_i * p_i >= threshold_i`, else -1; see `lava_meta.graph.inputs.Binarize`.

    Ports, for `lanes` images per time step, both int32 (lanes, n_in) and answered within the same time step: `s_in`,
    integers `min_level` .. `max_level` (others end the run with a `ValueError`), and `s_out`, +1 and -1.
    """

    def __init__(
        self, *, binarize: Binarize, max_level: int, min_level: int = 0, lanes: int = 1, name: str | None = None
    ) -> None:
        super().__init__(binarize=binarize, levels=levels_of(min_level, max_level), name=name)
        # Checked after Lava's own part: without it, Lava's destructor would complain.
        if lanes < 1:
            raise ValueError(f"lanes is {lanes}; a time step takes at least one image")
        self.s_in = InPort(shape=(lanes, binarize.threshold.size))
        self.s_out = OutPort(shape=(lanes, binarize.threshold.size))
