"""What people give where a scenario is wanted."""

from __future__ import annotations

from typing import Any

import numpy as np

from lava_meta.data.avalanche import from_avalanche
from lava_meta.data.datasets import Dataset
from lava_meta.data.scenarios import Scenario, dataset_sequence


def scenario_of(data: Any) -> Scenario:
    """A scenario of what it is given.

    Args:
        data: a scenario; a list of data sets, learned one after the other; a benchmark of Avalanche; or one data set in
            any form that `Dataset.of` takes, which is one task.

    Raises:
        TypeError: data of another kind, or that need more to be said; the message names the call.
        DataError, ValueError: as the call that it makes.
    """
    if isinstance(data, Scenario):
        return data
    if hasattr(data, "train_stream"):
        return from_avalanche(data)
    return dataset_sequence(data if _several(data) else [Dataset.of(data)])


def has_tests(data: Any) -> bool:
    """Whether test data are among them; else `scenario_of` holds out a share."""
    return isinstance(data, Scenario | Dataset) or hasattr(data, "train_stream") or _several(data)


def _several(data: Any) -> bool:
    if isinstance(data, list) and data and isinstance(data[0], tuple) and np.ndim(data[0][-1]) == 0:
        return False  # items (x, y), as torch takes them for a data set
    return isinstance(data, list) or (isinstance(data, tuple) and all(isinstance(one, Dataset) for one in data))
