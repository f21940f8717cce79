"""Operations as the simpler ones of which they are made, written when they are lowered.

The run that is recorded, and that which the self-check compares with, carry the operations out as PyTorch does. (What
must be written out in these runs already is in `lava_meta.converters.written_out`.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lava_meta.converters.written_volumes import adapted_greatest, adapted_mean, averaged, greatest

WRITTEN: dict[str, Callable[..., Any]] = {
    "max_pool3d_with_indices": greatest,
    "avg_pool3d": averaged,
    "_adaptive_avg_pool3d": adapted_mean,
    "adaptive_max_pool3d": adapted_greatest,
}
