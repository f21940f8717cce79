"""Metaplastic optimizers: torch's own steps, gated by a consolidation function."""

from lava_meta.optim.optimizers import MetaplasticAdam, MetaplasticSGD, parameter_groups

__all__ = ["MetaplasticAdam", "MetaplasticSGD", "parameter_groups"]
