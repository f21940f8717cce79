"""A whole network that learns, as one Process: the fast form, for the CPU."""

from __future__ import annotations

import numpy as np
from lava.magma.core.process.process import AbstractProcess

from lava_meta.online_learning.network import PlasticNetwork


class MetaplasticNetwork(AbstractProcess):
    """What `MetaplasticDense` layers and `ErrorNeurons` compute between a `LabelledSource` and the last of them.

    The same equations and, in fixed point, the same bits; but what passes between layers stays inside one actor. A
    time step of ports costs Lava's simulator more than the step of learning. It follows Lava's asynchronous protocol:
    a run of N steps learns the next N groups of `lanes` images.

    All of it lies in memory that the user's process shares (`shared_memory.shared_array`): `images` (n, n_in) int16
    and `labels` (n,) int32, from which groups are taken in order; the network's states; `progress` int64 (2,), the
    next image and how many were classified right before they were learned. A step past the last whole group ends the
    run with a `DataError`.

    network: whose states lie in shared memory.
    """

    def __init__(
        self,
        *,
        network: PlasticNetwork,
        images: np.ndarray,
        labels: np.ndarray,
        progress: np.ndarray,
        lanes: int = 1,
        name: str | None = None,
    ) -> None:
        super().__init__(network=network, images=images, labels=labels, progress=progress, lanes=lanes, name=name)
