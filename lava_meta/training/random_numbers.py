"""Random numbers of a run's own, fixed by its seed, whatever was drawn before in the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def order_of_images(seed: int) -> torch.Generator:
    """What draws the order of the images."""
    return torch.Generator().manual_seed(_derived(seed, 0))


@contextmanager
def own_random_numbers(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators inside the block (for models that draw at random), and restore them after it."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(_derived(seed, 1))
        yield


def _derived(seed: int, use: int) -> int:
    return int(np.random.SeedSequence([seed, use]).generate_state(1, np.uint64)[0])
