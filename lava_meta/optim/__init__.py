"""Metaplastic optimizers: torch's own steps, gated by a consolidation function; and their Bayesian neighbours."""

from lava_meta.optim.bayesian import BiMUOptimizer, MESUOptimizer
from lava_meta.optim.groups import parameter_groups
from lava_meta.optim.optimizers import MetaplasticAdalayer, MetaplasticAdam, MetaplasticSGD

__all__ = [
    "BiMUOptimizer",
    "MESUOptimizer",
    "MetaplasticAdalayer",
    "MetaplasticAdam",
    "MetaplasticSGD",
    "parameter_groups",
]
