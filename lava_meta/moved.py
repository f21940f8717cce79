"""What moved in version 0.2 is still found by its old name, with a warning, until 0.3.

`import lava_meta` puts `OldNames` at the end of Python's finders: it is asked only for names that no file has.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {
    "checkpoint": "training.checkpoint",
    "conv": "graph.conv",
    "device_curve": "rule.measured",
    "evaluation": "training.evaluation",
    "figures": "plotting.figures",
    "files": "io.files",
    "hardware": "loihi.cost",
    "inputs": "graph.inputs",
    "layers": "graph.dense",
    "lowering": "rule.lowering",
    "methods": "training.methods",
    "metrics": "training.metrics",
    "model_file": "training.model_file",
    "picture": "plotting.network",
    "sealed": "io.sealed",
    "settings": "training.settings",
    "spiking": "graph.spiking",
    "stock": "loihi.stock",
    "streams": "data",
}

NAMES = {  # old name -> module and name
    "lava_meta.online_learning.online": ("lava_meta.converters.online", "online"),
    "Learner.network": ("lava_meta.converters", "convert"),
}


class OldNames(MetaPathFinder, Loader):
    """Finds `lava_meta.streams` as `lava_meta.data`, and so on: the very same module object."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        return ModuleSpec(fullname, self) if package == "lava_meta" and name in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__
        new = f"lava_meta.{MOVED[old.partition('.')[2]]}"
        warnings.warn(f"{old} moved to {new}; the old name goes away in 0.3", DeprecationWarning, stacklevel=2)
        sys.modules[old] = importlib.import_module(new)


def by_old_name(old: str) -> Any:
    """What is found elsewhere by now, by `NAMES`. Warns."""
    module, name = NAMES[old]
    warnings.warn(f"{old} is {module}.{name} now; the old name goes away in 0.3", DeprecationWarning, stacklevel=3)
    return getattr(importlib.import_module(module), name)


def install() -> None:
    """Let old names be found. Repeatable."""
    if not any(isinstance(finder, OldNames) for finder in sys.meta_path):
        sys.meta_path.append(OldNames())
