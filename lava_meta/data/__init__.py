"""Data sets as integer tensors, and scenarios: sequences of tasks made of them."""

from lava_meta.data.datasets import DATASETS, Dataset, Images, load_dataset
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
    "Dataset",
    "Images",
    "Scenario",
    "all_together",
    "dataset_sequence",
    "load_dataset",
    "permuted_tasks",
    "split_classes",
    "stream_of_subsets",
]
