"""A whole network that learns from spikes over time, as one Process."""

from __future__ import annotations

from lava_meta.processes.metaplastic_network.process import MetaplasticNetwork


class MetaplasticOverTime(MetaplasticNetwork):
    """As `MetaplasticNetwork`, of a `NetworkOverTime`: a run of N steps learns the next N groups of `lanes` images.

    `images` are spikes (n, steps * n_in), the first time step's before the next one's; all time steps of an image are
    within one time step of Lava's.
    """
