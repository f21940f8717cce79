"""Metaplastic binarized neural networks for PyTorch and Intel's Lava.

Names below are loaded when they are first used, so that importing the package stays cheap and needs no Lava.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lava_meta.moved import install
from lava_meta.providers import provide
from lava_meta.version import __version__

install()
provide("backend", "lava", "lava_meta.converters.online:LAVA")
provide("backend", "kernels", "lava_meta.online_learning.backend:KERNELS")
provide("backend", "reference", "lava_meta.online_learning.backend:REFERENCE")

if TYPE_CHECKING:
    from lava_meta.converters import LavaNetwork, convert, load
    from lava_meta.converters.backends import run
    from lava_meta.converters.bundle import bundle
    from lava_meta.converters.nir import from_nir, to_nir
    from lava_meta.converters.online import online
    from lava_meta.converters.snntorch import from_snntorch
    from lava_meta.converters.spiking.network import SpikingNetwork
    from lava_meta.data import Dataset, Images, Scale, from_avalanche, load_dataset, load_events
    from lava_meta.data.scenarios import Scenario, dataset_sequence, permuted_tasks, split_classes, stream_of_subsets
    from lava_meta.errors import LavaMetaError
    from lava_meta.graph import BinaryGraph
    from lava_meta.nn import BinaryConv2d, BinaryConvNet, BinaryLayer, BinaryLinear, BinaryMLP, mark_binary
    from lava_meta.online_learning import Learner, LearnerOverTime, OnlineRule
    from lava_meta.optim import MetaplasticAdalayer, MetaplasticAdam, MetaplasticSGD
    from lava_meta.rule import register_consolidation
    from lava_meta.rule.lowering import EngineRule, lower
    from lava_meta.rule.measured import consolidation_from_csv
    from lava_meta.training import BestCheckpoint, Callback, EarlyStopping, TrainSettings, evaluate, train
    from lava_meta.training.metrics import AccuracyMatrix
    from lava_meta.training.proposal import propose_m
    from lava_meta.tuning import tune

_HOME = {
    "converters": ("LavaNetwork", "convert", "load"),
    "converters.backends": ("run",),
    "converters.bundle": ("bundle",),
    "converters.nir": ("from_nir", "to_nir"),
    "converters.online": ("online",),
    "converters.snntorch": ("from_snntorch",),
    "converters.spiking.network": ("SpikingNetwork",),
    "data": ("Dataset", "Images", "Scale", "from_avalanche", "load_dataset", "load_events"),
    "rule.measured": ("consolidation_from_csv",),
    "errors": ("LavaMetaError",),
    "graph": ("BinaryGraph",),
    "rule.lowering": ("EngineRule", "lower"),
    "training.metrics": ("AccuracyMatrix",),
    "nn": ("BinaryConv2d", "BinaryConvNet", "BinaryLayer", "BinaryLinear", "BinaryMLP", "mark_binary"),
    "online_learning": ("Learner", "LearnerOverTime", "OnlineRule"),
    "optim": ("MetaplasticAdalayer", "MetaplasticAdam", "MetaplasticSGD"),
    "rule": ("register_consolidation",),
    "training.proposal": ("propose_m",),
    "data.scenarios": ("Scenario", "dataset_sequence", "permuted_tasks", "split_classes", "stream_of_subsets"),
    "training": ("BestCheckpoint", "Callback", "EarlyStopping", "TrainSettings", "evaluate", "train"),
    "tuning": ("tune",),
}
_NEEDS = {
    "bundle": "nir",
    "from_nir": "nir",
    "from_snntorch": "snntorch",
    "to_nir": "nir",
    "tune": "optuna",
}  # optional packages
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "AccuracyMatrix",
    "BestCheckpoint",
    "BinaryConv2d",
    "BinaryConvNet",
    "BinaryGraph",
    "BinaryLayer",
    "BinaryLinear",
    "BinaryMLP",
    "Callback",
    "Dataset",
    "EarlyStopping",
    "EngineRule",
    "Images",
    "LavaMetaError",
    "LavaNetwork",
    "Learner",
    "LearnerOverTime",
    "MetaplasticAdalayer",
    "MetaplasticAdam",
    "MetaplasticSGD",
    "OnlineRule",
    "Scale",
    "Scenario",
    "SpikingNetwork",
    "TrainSettings",
    "__version__",
    "bundle",
    "consolidation_from_csv",
    "convert",
    "dataset_sequence",
    "evaluate",
    "from_avalanche",
    "from_nir",
    "from_snntorch",
    "load",
    "load_dataset",
    "load_events",
    "lower",
    "mark_binary",
    "online",
    "permuted_tasks",
    "propose_m",
    "register_consolidation",
    "run",
    "split_classes",
    "stream_of_subsets",
    "to_nir",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'lava_meta' has no attribute {name!r}")
    if name in _NEEDS:
        from lava_meta.errors import require

        require(_NEEDS[name], f"lava_meta.{name}")
    value = getattr(importlib.import_module(f"lava_meta.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
