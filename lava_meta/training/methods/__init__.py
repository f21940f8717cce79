"""Ways of continual learning that attach to the training loop: what a run adds to ordinary steps.

The metaplastic rule itself lives in the optimizer and needs none of this. A *method* watches the run, adds to its
batches or gradients, and consolidates at the end of each part: EWC, SI, replay and their like. Methods are declared as
frozen dataclasses and handed to `train(..., method=EWC(strength=1000.0))`; they work with every norm, optimizer and
scenario, and are part of the checkpoint, so that a stopped run goes on to the bitwise identical result.
"""

from lava_meta.training.methods.base import Hooks, Method, check_method, synapses, weights
from lava_meta.training.methods.bayesian import MESU, BiMU
from lava_meta.training.methods.beakers import Beakers
from lava_meta.training.methods.ewc import EWC
from lava_meta.training.methods.fisher import diagonal_fisher
from lava_meta.training.methods.levels import Levels
from lava_meta.training.methods.replay import Replay
from lava_meta.training.methods.si import SI

__all__ = [
    "EWC",
    "MESU",
    "SI",
    "Beakers",
    "BiMU",
    "Hooks",
    "Levels",
    "Method",
    "Replay",
    "check_method",
    "diagonal_fisher",
    "synapses",
    "weights",
]
