"""Compiled passes over long arrays, on as many threads as torch may use.

The passes release Python's lock, so plain threads do: numba's own threads cannot follow `torch.set_num_threads`, and
abort in a process that was forked after their first use, as Lava's actors are.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

LEAST = 1 << 17
"""Elements for which a further thread pays: waking one costs about as much as passing over 50,000."""

_ALIGN = 1024  # elements: whole vectors in every part but the last, whatever the number of parts

_pools: dict[int, ThreadPoolExecutor] = {}
# The threads of a pool do not come along into a forked process, where waiting for them would never end.
os.register_at_fork(after_in_child=_pools.clear)


def in_parts(function: Callable[[int, int], bool], size: int) -> bool:
    """`function(start, end)` over 0 .. size in as many parts as there are threads.

    Returns whether all parts returned True.
    """
    parts = min(torch.get_num_threads(), size // LEAST)
    if parts < 2:
        return function(0, size)
    length = -(-size // (parts * _ALIGN)) * _ALIGN
    if parts not in _pools:
        _pools[parts] = ThreadPoolExecutor(parts - 1, thread_name_prefix="lava_meta")
    others = [_pools[parts].submit(function, start, min(start + length, size)) for start in range(length, size, length)]
    try:
        first = function(0, length)
    finally:
        rest = [other.result() for other in others]
    return first and all(rest)
