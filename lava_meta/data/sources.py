"""Arrays out of what other libraries keep data in: torch's data sets and loaders, data frames.

Nothing is imported for it: what is known of these objects is how they are asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from lava_meta.data.arrays import as_levels, in_order
from lava_meta.errors import DataError


def check_source(source: Any, name: str, *, scaled: bool) -> None:
    """Raise `TypeError` for what is no data set of torch, and for real numbers without a scale before all are read."""
    if hasattr(source, "train_stream"):
        raise TypeError("this is a benchmark of Avalanche: lava_meta.from_avalanche(benchmark) makes a scenario of it")
    if hasattr(source, "train_dataloader"):
        raise TypeError(
            "this is a data module of Lightning: Dataset.from_torch(module.train_dataloader(), "
            "test=module.test_dataloader())"
        )
    if isinstance(source, dict):
        raise TypeError("this is a dict: give its arrays, as Dataset.from_arrays(x, y)")
    if not hasattr(source, "__getitem__") and not hasattr(source, "__iter__"):
        raise TypeError(f"{type(source).__name__} is no data set of torch: give a Dataset, a DataLoader or arrays")
    plain = isinstance(source, DataLoader) and source.collate_fn is default_collate
    items = source.dataset if plain else source
    read_one_by_one = isinstance(items, Dataset) and not isinstance(items, TensorDataset | IterableDataset)
    if read_one_by_one and not scaled and len(items):
        as_levels(_pixels(_pair(items[0], name)[0]).reshape(1, -1), 255, name)


def torch_arrays(source: Any, name: str) -> tuple[Any, Any]:
    """The arrays x (n, ...) and y (n,) of a torch `Dataset`, or of a `DataLoader`, in the order of its data set.

    A loader that collates in its own way is asked for its batches instead, in the order in which they come. An image
    of PIL becomes (height, width), or (channels, height, width). Raises `DataError` for items that are not (x, y, ...).
    """
    if isinstance(source, DataLoader):
        plain = source.collate_fn is default_collate and not isinstance(source.dataset, IterableDataset)
        if not plain:
            return _joined(source, name)
        source = source.dataset
    if isinstance(source, TensorDataset):
        if len(source.tensors) < 2:
            raise DataError(f"{name}: a TensorDataset of x alone has no labels; give TensorDataset(x, y)")
        return source.tensors[0], source.tensors[1]
    # Data sets end with an IndexError only if they care to; their length is what torch goes by.
    whole = isinstance(source, IterableDataset) or not hasattr(source, "__getitem__")  # as a generator
    items = source if whole else map(source.__getitem__, range(len(source)))
    pairs = [_pair(item, name) for item in items]
    if not pairs:
        raise DataError(f"{name}: there are no images")
    try:
        return np.stack([_pixels(x) for x, _ in pairs]), np.array([_label(y) for _, y in pairs])
    except ValueError as error:
        raise DataError(f"{name}: images differ in shape; bring them to one size first ({error})") from error


def experience_arrays(experience: Any, name: str) -> tuple[Any, Any]:
    """The arrays x and y of an experience of Avalanche's, with the transforms of its tests: nothing drawn at random."""
    dataset = experience.dataset
    return torch_arrays(dataset.eval() if hasattr(dataset, "eval") else dataset, name)


def stream_arrays(stream: Iterable[Any], name: str) -> tuple[Any, Any]:
    """The arrays x and y of all experiences of a stream of Avalanche's."""
    pairs = [experience_arrays(experience, name) for experience in stream]
    return np.concatenate([_pixels(x) for x, _ in pairs]), np.concatenate([_pixels(y) for _, y in pairs])


def frame_arrays(
    frame: Any, label: str, name: str, columns: Sequence[Any] | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Features (n, columns) and labels (n,) of a data frame, in the order of `columns` if they are given.

    Raises `DataError` for columns that hold no numbers, that are missing, or that `columns` does not name.
    """
    if label not in frame.columns:
        raise DataError(f"{name}: there is no column {label!r}; there are {', '.join(map(str, frame.columns))}")
    features = frame.drop(columns=label)
    if columns is not None:
        features = in_order(features, columns, name)
    wrong = [str(column) for column, dtype in features.dtypes.items() if dtype.kind not in "buif"]
    if wrong:
        raise DataError(f"{name}: columns {', '.join(wrong)} hold no numbers: pandas.get_dummies(frame) encodes text")
    return features.astype("float64").to_numpy(), frame[label].to_numpy()


def _joined(batches: Iterable[Any], name: str) -> tuple[Any, Any]:
    pairs = [_pair(batch, name) for batch in batches]
    if not pairs:
        raise DataError(f"{name}: there are no images")
    return np.concatenate([_pixels(x) for x, _ in pairs]), np.concatenate([_pixels(y) for _, y in pairs])


def _pair(item: Any, name: str) -> tuple[Any, Any]:
    """The x and y of an item; what follows them, as Avalanche's task labels, is left."""
    if not isinstance(item, tuple | list) or len(item) < 2:
        shown = f"a dict of {', '.join(map(str, item))}" if isinstance(item, dict) else f"a {type(item).__name__}"
        raise DataError(
            f"{name}: an item is {shown}, so there is no telling which is its label; give items (x, y), or "
            "Dataset.from_arrays(x, y)"
        )
    return item[0], item[1]


def _pixels(x: Any) -> NDArray[Any]:
    if isinstance(x, Tensor):
        return x.detach().cpu().numpy()
    array = np.asarray(x)
    # PIL's images have their channels last.
    return np.moveaxis(array, -1, 0) if hasattr(x, "getbands") and array.ndim == 3 else array


def _label(y: Any) -> Any:
    return y.item() if isinstance(y, Tensor) and y.numel() == 1 else y
