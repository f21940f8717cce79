"""Binary synapses with their threshold neurons, and binary synapses that only sum: the layers of a network."""

from __future__ import annotations

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess

from lava_meta.graph import DenseLayer, Readout
from lava_meta.processes.inputs import levels_of


class BinaryDense(AbstractProcess):
    """One hidden layer: `a_j = +1` where `polarity_j * d_j >= threshold_j`, else -1.

    `d = W x`, or `n_out * (W x)_j - sum_k (W x)_k` where the layer is centred; `W` holds +1 and -1.

    Ports, for `lanes` images a time step, both int32 and answered within the same time step:

    - `s_in` (lanes, n_in): +1 and -1; for a first layer integers `min_level` .. `max_level`. Other values end the run
      with a `ValueError`, since 0/1 spikes would otherwise compute something else silently.
    - `s_out` (lanes, n_out): +1 and -1.

    The weights travel to the model as packed bits in `proc_params`: as a Var they would pass through float64.
    """

    def __init__(
        self,
        *,
        layer: DenseLayer,
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


class BinaryReadout(AbstractProcess):
    """The last layer: the integer sums `u = W x`, whose affine map and argmax are left to the reader.

    Ports, int32: `s_in` (lanes, n_in) as for `BinaryDense`; `s_out` (lanes, n_out), the sums.
    """

    def __init__(
        self,
        *,
        layer: Readout,
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
