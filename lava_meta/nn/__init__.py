"""Binarized networks in PyTorch: hidden weights that train, signs that compute.

A binary layer keeps a real *hidden weight* `h` for every synapse, uses `w = sign(h)` in its products, and passes the
gradient of `w` straight through to `h` (Courbariaux et al. 2016). With an optimizer of `lava_meta.optim` the hidden
weight is also what consolidates the synapse; a layer of one's own derives from `BinaryLayer`, by which they know its
weights. `sign(0) = +1` everywhere, so that a weight or an activation is one bit.

    pixels (0 .. max_level) -> Pixels -> BinaryLinear -> norm -> Sign -> ... -> BinaryLinear -> norm -> logits

Three norms are offered for `BinaryMLP`:

`fixed` (the default)
    a constant: `v / sqrt(fan_in)` in hidden layers, `v / (std * sqrt(fan_in))` in the first, whose pixels are centred
    by a constant integer. The logits are normed within each sample, in training only. No statistics, no label, no
    state: what is trained is what is deployed, in exact integers.
`batch`
    the paper's: batch norm with an affine and statistics per task (`TaskBatchNorm`).
`layer`
    each sample normed over its units, no affine (`SampleNorm`).
"""

from lava_meta.nn.bayesian import BayesianMLP, BernoulliLinear, GaussianLinear
from lava_meta.nn.binary import BinaryLayer, hidden_weights, is_binary, mark_binary
from lava_meta.nn.engrams import Engrams
from lava_meta.nn.heads import TaskHeads
from lava_meta.nn.layers import AbsStep, BinaryConv2d, BinaryLinear, Pixels, Sign, SignSTE, sign_ste
from lava_meta.nn.leaky import leaky_spikes
from lava_meta.nn.networks import BinaryConvNet, BinaryMLP
from lava_meta.nn.norms import FixedNorm, SampleNorm, TaskBatchNorm, recalibrate, select_task, use_statistics
from lava_meta.nn.real import RealMLP
from lava_meta.nn.window import learning_shares

__all__ = [
    "AbsStep",
    "BayesianMLP",
    "BernoulliLinear",
    "BinaryConv2d",
    "BinaryConvNet",
    "BinaryLayer",
    "BinaryLinear",
    "BinaryMLP",
    "Engrams",
    "FixedNorm",
    "GaussianLinear",
    "Pixels",
    "RealMLP",
    "SampleNorm",
    "Sign",
    "SignSTE",
    "TaskBatchNorm",
    "TaskHeads",
    "hidden_weights",
    "is_binary",
    "leaky_spikes",
    "learning_shares",
    "mark_binary",
    "recalibrate",
    "select_task",
    "sign_ste",
    "use_statistics",
]
