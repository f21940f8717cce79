"""Choosing settings on images held out of training: `tune`, and the search that it and the experiments share."""

from lava_meta.tuning.models import Tuned, tune
from lava_meta.tuning.trial import Budget, Trial

__all__ = ["Budget", "Trial", "Tuned", "tune"]
