"""What people give a learner, as images: a stream of experiences, or pairs in their own order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from lava_meta.data import Dataset, Images, scenario_of
from lava_meta.data.arrays import as_labels, plain_array
from lava_meta.data.scenarios import Scenario
from lava_meta.data.sources import torch_arrays
from lava_meta.errors import DataError

OWN = "images of the user's own"
Stream = Scenario | Images | Iterable[Images]


def as_stream(given: Any, y: Any, classes: int, max_level: int) -> Stream:
    """What `Learner.fit` is given, as a scenario, images, or several of them.

    Raises:
        TypeError: real numbers without a scale, or what is no data; the message names the call.
        DataError: data that do not fit.
        ValueError: a scenario with a head per task.
    """
    if y is not None:
        return own_images(given, y, classes, max_level)
    if isinstance(given, Scenario) and given.heads is not None:
        raise ValueError(
            f"{given.name} compares the classes of each task alone; a learner compares all: leave the head out"
        )
    if isinstance(given, Scenario | Images):
        return given
    if isinstance(given, Dataset) or hasattr(given, "train_stream"):
        return scenario_of(given)
    if isinstance(given, list | tuple) and given and all(isinstance(one, Dataset) for one in given):
        return scenario_of(given)
    if isinstance(given, TorchDataset | DataLoader):
        return own_images(*torch_arrays(given, OWN), classes, max_level)
    if hasattr(given, "shape") or not isinstance(given, Iterable):
        raise TypeError(f"fit(x, y) takes arrays and their classes; this is a {type(given).__name__} alone")
    return map(_checked, given)


def own_images(x: Any, y: Any, classes: int, max_level: int) -> Images:
    """Images (n, ...) and classes (n,), or one of each."""
    images, labels = plain_array(x, f"{OWN}: x"), plain_array(y, f"{OWN}: y")
    if labels.ndim == 0:
        images, labels = images[None], labels[None]
    if images.ndim < 2 or not images.size:
        raise DataError(f"there are no images in x of shape {images.shape}; give images (n, ...), or one with one y")
    flat: Any = images.reshape(len(images), -1)
    return Images(flat, as_labels(labels, OWN), OWN, classes, max_level)


def in_order(given: Any, size: int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Images and classes as they come, `size` at a time; the last may be fewer.

    Args:
        given: images, or an iterable of (x, y), one image and its class or a batch of them.
        size: images per group.

    Raises:
        DataError: nothing comes.
        TypeError: what comes is no such pair.
    """
    pairs = [(given.x, given.y)] if isinstance(given, Images) else given
    if hasattr(pairs, "shape") or not isinstance(pairs, Iterable):
        raise TypeError(f"partial_fit(x, y) takes arrays and their classes; this is a {type(given).__name__} alone")
    kept: list[tuple[NDArray[Any], NDArray[Any]]] = []
    count, begun = 0, False
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) < 2:
            raise TypeError(f"the iterable gives a {type(pair).__name__}; it must give (x, y)")
        x, y = plain_array(pair[0], f"{OWN}: x"), plain_array(pair[1], f"{OWN}: y")
        kept.append((x[None], y[None]) if y.ndim == 0 else (x, y))
        count, begun = count + len(kept[-1][1]), True
        if count >= size:
            x, y = map(np.concatenate, zip(*kept, strict=True))
            whole = count // size * size
            for start in range(0, whole, size):
                yield x[start : start + size], y[start : start + size]
            kept, count = [(x[whole:], y[whole:])], count - whole
    if not begun:
        raise DataError("there are no images to learn: the iterable is empty")
    if count:
        x, y = map(np.concatenate, zip(*kept, strict=True))
        yield x, y


def _checked(part: Any) -> Images:
    if not isinstance(part, Images):
        raise TypeError(
            f"the stream gives a {type(part).__name__}; fit learns Images, experience after experience. "
            "partial_fit(iterable) learns pairs (x, y) in their own order"
        )
    return part
