"""Data sets as integer tensors, and scenarios: sequences of tasks made of them."""

from lava_meta.data.arrays import Scale
from lava_meta.data.avalanche import from_avalanche
from lava_meta.data.datasets import DATASETS, Dataset, load_dataset
from lava_meta.data.events import EVENT_DATASETS, event_frames, load_events, time_steps
from lava_meta.data.given import scenario_of
from lava_meta.data.images import Images
from lava_meta.data.scenarios import (
    Scenario,
    all_together,
    dataset_sequence,
    permuted_tasks,
    split_classes,
    stream_of_subsets,
)

__all__ = [
    "DATASETS",
    "EVENT_DATASETS",
    "Dataset",
    "Images",
    "Scale",
    "Scenario",
    "all_together",
    "dataset_sequence",
    "event_frames",
    "from_avalanche",
    "load_dataset",
    "load_events",
    "permuted_tasks",
    "scenario_of",
    "split_classes",
    "stream_of_subsets",
    "time_steps",
]
