"""numba's `njit` as this package compiles its own functions: whatever the machine and the environment are.

Some of them hold single instructions, which have no form in Python, so they are compiled under `NUMBA_DISABLE_JIT` too:
that is for looking into functions of one's own. And where neither the installation nor the home can be written they are
compiled again in every process, instead of none being importable.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numba
from numba.core.registry import cpu_target

_compile: Any = numba.njit
_config: Any = numba.config


def njit(*signatures: Any, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator: `numba.njit(*signatures, **options)`, with a cache if there is a place for it."""

    def compiled(function: Callable[..., Any]) -> Any:
        with _enabled():
            try:
                made = _compile(*signatures, **options)(function)
            except RuntimeError as error:
                if "no locator available" not in str(error):
                    raise
                _tell_of_no_cache()
                made = _compile(*signatures, **{**options, "cache": False})(function)
        made.compile = _enabled()(made.compile)  # at the first call, with functions of numba's own
        return made

    return compiled


def compiles_for(*features: str) -> bool:
    """Whether numba compiles for a processor that has all these features, by LLVM's names of them."""
    return {f"+{feature}" for feature in features} <= set(
        cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    )


@contextlib.contextmanager
def _enabled() -> Iterator[None]:
    disabled = _config.DISABLE_JIT
    _config.DISABLE_JIT = 0
    try:
        yield
    finally:
        _config.DISABLE_JIT = disabled


@functools.cache
def _tell_of_no_cache() -> None:
    logging.getLogger("lava_meta").warning(
        "numba can write neither beside its functions nor to the home folder, so they are compiled again in every "
        "process: set NUMBA_CACHE_DIR to a folder of your own"
    )
