"""What can go wrong, by name.

Every error of the library that is not a plain `ValueError` or `TypeError` about an argument derives from
`LavaMetaError`, so that scripts and the command line can catch the whole family in one line.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import sys


class LavaMetaError(Exception):
    """Base of the library's own errors."""


class DataError(LavaMetaError):
    """A data set is missing, empty or not what its name says."""


class FormatError(LavaMetaError):
    """A file is truncated, altered, or written by another version of its format."""


class ConversionError(LavaMetaError):
    """A model cannot be converted; the message names the part and what is supported."""


class TooLargeError(LavaMetaError, MemoryError):
    """Something does not fit in memory; raised before any of it is allocated."""


class RunFolderError(LavaMetaError):
    """A results folder holds another run, or cannot be written."""


class OutputError(LavaMetaError):
    """An output would replace an input or an earlier result; raised before any work is done."""


class ClusterError(LavaMetaError):
    """A cluster cannot be reached, has no worker that may work, or a worker failed; what is complete is kept."""


class DivergenceError(LavaMetaError):
    """Training produced a loss or a weight that is not a finite number."""


class PackageMissingError(LavaMetaError, ImportError):
    """An optional package is needed for this call and is not installed."""


class LavaMissingError(PackageMissingError):
    """Lava is needed for this call and cannot be imported."""


class RunError(LavaMetaError):
    """A Lava run failed; the message carries the traceback of the ProcessModel that failed."""


class RunTimeout(RunError):
    """A Lava run made no progress within its time limit and was stopped."""


_EXTRAS = {  # package -> extra
    "avalanche": "avalanche",
    "dask_jobqueue": "cluster",
    "distributed": "cluster",
    "nir": "nir",
    "optuna": "tune",
    "pandas": "pandas",
    "sklearn": "vision",
    "snntorch": "snntorch",
    "tensorboard": "tensorboard",
    "tonic": "events",
    "torchvision": "vision",
}


def require(package: str, what: str) -> None:
    """Raise `PackageMissingError` unless the optional `package` is installed; `what` names the call that needs it."""
    if not importable(package):
        install = package
        if package in _EXTRAS:
            install = f"'lava-meta[{_EXTRAS[package]}]', or 'lava-meta[all]' for everything"
        raise PackageMissingError(f"{what} needs the package {package}, which is not installed: pip install {install}")


LAVA_INSTALL = "pip install --no-deps --ignore-requires-python lava-nc==0.10.0 networkx==3.4.2 asteval==0.9.33"
_LAVA_NEEDS = {"lava.magma": "lava-nc", "networkx": "networkx", "asteval": "asteval"}  # module -> package


def importable(module: str) -> bool:
    """Whether `module` is there to be imported; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # its package is missing too, or blocked
        return False


def lava_missing() -> str | None:
    """Why Lava cannot run here, or None if it can."""
    if not hasattr(os, "fork"):
        return f"{sys.platform} cannot fork processes, as each of Lava's is"
    missing = [package for module, package in _LAVA_NEEDS.items() if not importable(module)]
    return f"not installed: {', '.join(missing)}" if missing else None


def require_posix(what: str) -> None:
    """Raise `LavaMetaError` on Windows, whose files have neither these locks nor these flags; `what` names the call."""
    if not importable("fcntl"):
        raise LavaMetaError(
            f"{what} needs a POSIX system: Linux, macOS, or Linux inside Windows (WSL). Here ({sys.platform}) runs "
            "what stays in memory: layers, optimizers, the conversion, and the compiled kernels"
        )


def require_lava(what: str) -> None:
    """Raise `LavaMissingError` unless Lava can be imported; `what` names the call that needs it."""
    reason = lava_missing()
    if reason is not None:
        raise LavaMissingError(
            f"{what} needs Intel's Lava, which cannot be imported here ({reason}). On any Python from 3.10 on: "
            f"{LAVA_INSTALL}. The compiled kernels compute the same without it"
        )


def available(backend: str) -> str:
    """`backend`; for "lava" where Lava cannot run, "kernels", which compute the same. Says so, once a process."""
    reason = lava_missing() if backend == "lava" else None
    if reason is None:
        return backend
    _tell_of_kernels(reason)
    return "kernels"


@functools.cache
def _tell_of_kernels(reason: str) -> None:
    logging.getLogger("lava_meta").warning(
        "Lava cannot be imported here (%s): the compiled kernels run instead, with equal results", reason
    )
