"""What can go wrong, by name.

Every error of the library that is not a plain `ValueError` or `TypeError` about an argument derives from
`LavaMetaError`, so that scripts and the command line can catch the whole family in one line.
"""

from __future__ import annotations

import importlib.util


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


_EXTRAS = {"nir": "nir", "sklearn": "vision", "snntorch": "snntorch", "torchvision": "vision"}  # package -> extra


def require(package: str, what: str) -> None:
    """Raise `PackageMissingError` unless the optional `package` is installed; `what` names the call that needs it."""
    if importlib.util.find_spec(package) is None:
        raise PackageMissingError(
            f"{what} needs the package {package}, which is not installed: pip install 'lava-meta[{_EXTRAS[package]}]', "
            "or 'lava-meta[all]' for everything"
        )


def require_lava(what: str) -> None:
    """Raise `LavaMissingError` unless Lava can be imported; `what` names the call that needs it."""
    try:
        found = importlib.util.find_spec("lava.magma") is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise LavaMissingError(
            f"{what} needs Intel's Lava, which is not importable here. Lava 0.10.0 runs on Python 3.10 only: "
            "use Python 3.10 and install lava-nc==0.10.0. Training, the numpy oracle and files work without it."
        )
