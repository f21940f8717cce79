"""Binary synapses with their threshold neurons, and binary synapses that only sum: the layers of a network."""

from __future__ import annotations

from lava_meta.processes.layer_process import LayerProcess


class BinaryDense(LayerProcess):
    """One hidden layer: `a_j = +1` where `polarity_j * d_j >= threshold_j`, else -1.

    `d = W x`, or `n_out * (W x)_j - sum_k (W x)_k` where the layer is centred; `W` holds +1 and -1.

    Ports, for `lanes` images per time step, both int32 and answered within the same time step:

    - `s_in` (lanes, n_in): +1 and -1; for a first layer integers `min_level` .. `max_level`. Other values end the run
      with a `ValueError`, since 0/1 spikes would otherwise compute something else silently.
    - `s_out` (lanes, n_out): +1 and -1.

    The weights travel to the model as packed bits in `proc_params`: as a Var they would pass through float64.
    """


class BinaryReadout(LayerProcess):
    """The last layer: the integer sums `u = W x`, whose affine map and argmax are left to the reader.

    Ports: `s_in` (lanes, n_in), int32, as for `BinaryDense`; `s_out` (lanes, n_out), int64, the sums.
    """
