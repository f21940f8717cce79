"""A binary convolution with its threshold neurons and its pooling: a layer of a network."""

from __future__ import annotations

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess

from lava_meta.conv import ConvLayer
from lava_meta.processes.inputs import levels_of


class BinaryConv(AbstractProcess):
    """One hidden layer: `a = +1` where `polarity_c * d >= threshold`, else -1, then OR or AND over pooling windows.

    `d` is the convolution with weights +1 and -1, zeros outside the image; see `lava_meta.conv` for the equations.

    Ports, for `lanes` images a time step, flat in the order (channels, rows, columns), both int32 and answered within
    the same time step:

    - `s_in` (lanes, n_in): +1 and -1; for a first layer integers `min_level` .. `max_level`. Other values end the run
      with a `ValueError`.
    - `s_out` (lanes, n_out): +1 and -1.

    The weights travel to the model as packed bits in `proc_params`: as a Var they would pass through float64.
    """

    def __init__(
        self,
        *,
        layer: ConvLayer,
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
