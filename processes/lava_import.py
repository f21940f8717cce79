"""Lava 0.10.0, archived, on later Pythons and numpys than it was released for; and as a guest in its user's process.

`install()` puts a finder before Python's own. It changes a few of Lava's modules while they are imported, only those
that the versions at hand need changed, and nothing on disk; what is imported already is changed at once.

| module of Lava | needed | why |
| --- | --- | --- |
| `compiler.var_model` | Python 3.11 on | instances of unhashable dataclasses are defaults of dataclass fields |
| `core.process.ports.ports` | numpy with `reshape(shape=)` | numpy renamed `reshape(newshape=)`, and then removed it |
| `proc.conv.utils` | numpy 2 on | no Python integer widens int8 any more: neither a 24-bit limit nor 130 channels |
| `core.process.interfaces` | always | two threads could get the same number for two Processes or Vars |
| what uses `multiprocessing` | always | Lava sets the start method of the whole process, or fails where one is set |

Needs the standard library and numpy only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import itertools
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

import numpy as np

Adaptation = Callable[[ModuleType], contextlib.AbstractContextManager[None]]  # what surrounds a module's execution

_MESSAGES = "lava.magma.runtime.message_infrastructure.multiprocessing"
_CHANNELS = (
    "lava.magma.compiler.builders.channel_builder",
    "lava.magma.compiler.channels.pypychannel",
    "lava.magma.compiler.channels.watchdog",
    "lava.magma.runtime.runtime",
)


def install() -> None:
    """Adapt Lava's modules from now on. May be called again."""
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    adaptations = needed()
    sys.meta_path.insert(0, _Finder(adaptations))
    for name, adapted in adaptations.items():
        if name in sys.modules:
            with adapted(sys.modules[name]):
                pass


def needed() -> dict[str, Adaptation]:
    """The adaptations that these versions of Python and numpy need, by the name of Lava's module."""
    found: dict[str, Adaptation] = {"lava.magma.core.process.interfaces": _one_number_each}
    if hasattr(os, "fork"):
        found |= dict.fromkeys(_CHANNELS, _forking_names) | {_MESSAGES: _no_start_method}
    if sys.version_info >= (3, 11):
        found["lava.magma.compiler.var_model"] = _hashable_dataclasses
    if "shape" in inspect.signature(np.reshape).parameters:
        found["lava.magma.core.process.ports.ports"] = _reshape_by_shape
    if int(np.__version__.split(".")[0]) >= 2:
        found["lava.proc.conv.utils"] = _wide_integers
    return found


class _Finder(MetaPathFinder):
    """Finds the modules to be adapted where Python finds them, and surrounds their execution."""

    def __init__(self, adaptations: dict[str, Adaptation]) -> None:
        self._adaptations = adaptations

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's spec, or None for any module that needs no adaptation."""
        if fullname not in self._adaptations:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            execute = functools.partial(_execute, self._adaptations[fullname], spec.loader.exec_module)
            spec.loader.exec_module = execute  # type: ignore[method-assign]
        return spec


def _execute(adapted: Adaptation, exec_module: Callable[[ModuleType], None], module: ModuleType) -> None:
    with adapted(module):
        exec_module(module)


@contextlib.contextmanager
def _one_number_each(module: ModuleType) -> Iterator[None]:
    """Numbers are handed out one at a time, whichever threads ask."""
    yield

    def get_next_id(server: Any) -> int:
        # Each of the two is one step of the interpreter; a lock could be held by another thread during a fork.
        return next(vars(server).setdefault("_numbers", itertools.count(server._next_id)))

    module.IdGeneratorSingleton.get_next_id = get_next_id


@contextlib.contextmanager
def _hashable_dataclasses(module: ModuleType) -> Iterator[None]:
    """The module's dataclasses are made with a hash; all others as ever."""
    original = dataclasses.dataclass

    def dataclass(cls: Any = None, /, **options: Any) -> Any:
        if cls is not None and cls.__module__ == module.__name__:
            options["unsafe_hash"] = True
        return original(cls, **options)

    with _replaced(dataclasses, "dataclass", dataclass):
        yield


@contextlib.contextmanager
def _reshape_by_shape(module: ModuleType) -> Iterator[None]:
    yield
    module.ReshapePort.get_transform_func_fwd = lambda port: functools.partial(np.reshape, shape=port.shape)
    module.ReshapePort.get_transform_func_bwd = lambda port: functools.partial(np.reshape, shape=port.old_shape)


@contextlib.contextmanager
def _wide_integers(module: ModuleType) -> Iterator[None]:
    """Integers are widened, as numpy 1 does by itself when it meets a larger one."""
    yield
    original, original_conv = module.signed_clamp, module.conv

    def signed_clamp(x: Any, bits: int) -> Any:
        if isinstance(x, np.ndarray) and x.dtype.kind in "iu":
            x = x.astype(np.promote_types(x.dtype, np.int32), copy=False)
        return original(x, bits)

    def conv(*arguments: Any) -> Any:
        *others, groups = arguments
        return original_conv(*others, int(groups))

    vars(module).update(signed_clamp=signed_clamp, conv=conv)


@contextlib.contextmanager
def _no_start_method(module: ModuleType) -> Iterator[None]:
    """The module's own call is left out: the start method stays the user's. What it starts is forked all the same."""
    original, here = multiprocessing.set_start_method, threading.get_ident()

    def set_start_method(*arguments: Any, **options: Any) -> None:
        if threading.get_ident() != here:
            original(*arguments, **options)

    with _replaced(multiprocessing, "set_start_method", set_start_method):
        yield
    fork = multiprocessing.get_context("fork")
    vars(module)["mp"] = fork
    module.SystemProcess._Popen = staticmethod(fork.Process._Popen)


@contextlib.contextmanager
def _forking_names(module: ModuleType) -> Iterator[None]:
    """What the module took from `multiprocessing` is taken from the context that forks, whatever the start method."""
    yield
    fork = multiprocessing.get_context("fork")
    for name in ("Event", "Manager", "Process", "Queue", "Semaphore"):
        if getattr(vars(module).get(name), "__module__", "").startswith("multiprocessing"):
            setattr(module, name, getattr(fork, name))


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)
