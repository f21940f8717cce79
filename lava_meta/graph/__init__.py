"""The network as it is deployed: packed binary weights, integer thresholds, an affine readout.

`lava_meta.graph.network` is the reference implementation that every backend is held to; `packed` is its compiled form.
"""

from lava_meta.graph.conv import ConvLayer, Pool
from lava_meta.graph.dense import DenseLayer, Readout
from lava_meta.graph.inputs import Binarize
from lava_meta.graph.network import BinaryGraph
from lava_meta.graph.norm import GroupNorm
from lava_meta.graph.spiking import LIFLayer, SpikingGraph

__all__ = [
    "Binarize",
    "BinaryGraph",
    "ConvLayer",
    "DenseLayer",
    "GroupNorm",
    "LIFLayer",
    "Pool",
    "Readout",
    "SpikingGraph",
]
