"""A binary convolution with its threshold neurons and its pooling: a layer of a network."""

from __future__ import annotations

from lava_meta.processes.layer_process import LayerProcess


class BinaryConv(LayerProcess):
    """One hidden layer: `a = +1` where `polarity_c * d >= threshold`, else -1, then OR or AND over pooling windows.

    `d` is the convolution with weights +1 and -1, zeros outside the image; see `lava_meta.graph.conv` for the
    equations.

    Ports, for `lanes` images per time step, flat in the order (channels, rows, columns), both int32 and answered within
    the same time step:

    - `s_in` (lanes, n_in): +1 and -1; for a first layer integers `min_level` .. `max_level`. Other values end the run
      with a `ValueError`.
    - `s_out` (lanes, n_out): +1 and -1.

    The weights travel to the model as packed bits in `proc_params`: as a Var they would pass through float64.
    """
