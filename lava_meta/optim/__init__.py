"""Metaplastic optimizers: torch's own steps, gated by a consolidation function."""

from lava_meta.optim.groups import parameter_groups
from lava_meta.optim.optimizers import MetaplasticAdalayer, MetaplasticAdam, MetaplasticSGD

__all__ = ["MetaplasticAdalayer", "MetaplasticAdam", "MetaplasticSGD", "parameter_groups"]
