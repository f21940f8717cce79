"""The stock form: a network as Lava's own Processes only, within Loihi's integer ranges.

ProcessModels of our own run on a CPU; what reaches a chip are networks of stock Processes. Here every layer of a
`BinaryGraph` is mapped as such a network, which computes the same integers, one image per time step:

    plan(graph)       `StockLayer`s: stock Processes by the names of their classes, with their arguments and
                      connections. Nothing here imports Lava.

Between layers go spikes s of 0 and 1, for the signs x = 2s - 1; pixels p (or signed features) enter as graded spikes,
inputs that are signs as spikes. A weight of +1 or -1 is held as +2 or -2, since synapses of mixed sign lose the last
bit. So a layer gets a = 2y with y = W s (or W p), and `sum(w x) >= T` becomes `y >= theta`:

    spikes  theta = ceil((T + sum(w)) / 2)      because sum(w x) = 2 sum(w s) - sum(w)
    pixels  theta = T

Rows of inverted units (polarity -1) are negated first. Thresholds that no input can tell apart are moved to where they
take the fewest bits. Every bound below is over all inputs that a layer can get, not over some data.

A threshold unit without memory is one of two Processes, whichever fits:

    LIF             du = dv = 4095, vth = 0, bias 128 (1 - theta): v = 128 (y - theta + 1) + r fires above 0. The
                    current keeps nothing from one step to the next, and the potential a 4096th of itself, r: 0 after
                    a spike and otherwise between -127 and 0, as long as no y is more than 4096 below its theta. That
                    cannot change which units fire.
    GradedReluVec   vth = 0: v = 2y + b sends its value above 0 and keeps nothing, with 24 bits. It has no bias: b comes
                    from constant units, LIF neurons that fire in every step. What reads its spikes takes any value as
                    one spike (`num_message_bits` 0).
"""

from __future__ import annotations

from lava_meta.loihi.stock.network import latencies, plan
from lava_meta.loihi.stock.parts import Part, StockLayer

__all__ = ["Part", "StockLayer", "latencies", "plan"]
