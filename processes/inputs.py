"""What may enter a binary layer: signs, or pixels of the network's range."""

from __future__ import annotations

import numpy as np


def check_inputs(x: np.ndarray, max_level: int | None) -> None:
    """Raises `ValueError` unless x holds +1 and -1, or, with a `max_level`, pixels 0 .. max_level."""
    if max_level is None:
        if not (np.abs(x) == 1).all():
            raise ValueError("a layer of +1 and -1 received another value (0/1 spikes s become signs as 2*s - 1)")
    elif x.min() < 0 or x.max() > max_level:
        raise ValueError(f"pixels run from {x.min()} to {x.max()}; this layer takes 0 to {max_level}")
