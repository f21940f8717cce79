"""What upper rooms offer to lower ones, by name.

A learner may learn inside Lava, but `online_learning` imports nothing that runs Lava. It asks for the backend "lava",
and `lava_meta/__init__.py`, which knows all rooms, says where that is. `provide` adds one of your own.
"""

from __future__ import annotations

import importlib
from typing import Any

_PROVIDED: dict[str, dict[str, Any]] = {}  # kind -> name -> object or "module:name"


def provide(kind: str, name: str, what: Any) -> None:
    """Let `find(kind, name)` give `what`: an object, or "module:name" of one that is imported when it is asked for."""
    _PROVIDED.setdefault(kind, {})[name] = what


def check(kind: str, name: str) -> None:
    """Raise ValueError, with the names that there are, unless `name` is one of them. Nothing is imported."""
    known = _PROVIDED.get(kind, {})
    if name not in known:
        raise ValueError(f"{kind} is {name!r}; choose one of {', '.join(known)}")


def find(kind: str, name: str) -> Any:
    """What was provided under this name. Raises ValueError for an unknown one, with those that there are."""
    check(kind, name)
    what = _PROVIDED[kind][name]
    if isinstance(what, str):
        module, _, attribute = what.partition(":")
        what = getattr(importlib.import_module(module), attribute)
    return what
