"""Images as people have them: arrays and tensors, DataLoaders and Datasets; integers, bits, floats that are levels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = Callable[[NDArray[Any]], NDArray[Any]]  # images (n, ...) of scaled floats to integers

_ODD = {
    "is_sparse": "is sparse: pass .to_dense()",
    "is_quantized": "is quantized: pass .int_repr(), or .dequantize()",
    "is_meta": "has no values, only a shape",
}
_MOST = 2.0**62  # that an integer may reach
_TOGETHER = 256  # items of a Dataset that are read together


def batches(images: Any) -> Iterator[NDArray[Any]] | None:
    """The images of a DataLoader, or of a Dataset, in parts, without their labels; None for an array or a tensor."""
    if hasattr(images, "shape") or isinstance(images, (list, tuple, dict, np.generic)):
        return None
    if hasattr(images, "dataset") and hasattr(images, "__iter__"):
        return (as_array(_without_label(batch)) for batch in images)
    if hasattr(images, "__getitem__") and hasattr(images, "__len__"):
        return _of_items(images)
    return None


def _of_items(dataset: Any) -> Iterator[NDArray[Any]]:
    for start in range(0, len(dataset), _TOGETHER):
        items = range(start, min(start + _TOGETHER, len(dataset)))
        yield np.stack([as_array(_without_label(dataset[i])) for i in items])


def _without_label(item: Any) -> Any:
    return item[0] if isinstance(item, (list, tuple)) else item


def as_array(images: Any) -> NDArray[Any]:
    """A numpy array of an array, a tensor on any device, or a picture.

    Raises:
        ValueError: Values are masked, so that nobody says what they are.
        TypeError: It is no array of numbers, or a tensor that is sparse, quantized, or without values.
    """
    if np.ma.is_masked(images):
        raise ValueError(f"{np.ma.count_masked(images)} values of the images are masked: fill them in, as .filled(0)")
    if hasattr(images, "detach"):
        tensor = images.detach()
        odd = next((name for name in _ODD if getattr(tensor, name, False)), None)
        if odd is not None:
            raise TypeError(f"images are a tensor that {_ODD[odd]}")
        tensor = tensor.cpu()
        # numpy has no bfloat16; float32 holds its values.
        return np.asarray(tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor)
    found = np.asarray(images)
    if found.dtype == object:
        raise TypeError(
            f"images are a {type(images).__name__}, which makes no array of numbers: pass an array, a tensor, a "
            "DataLoader or a Dataset; of images that come one after the other, np.stack(list(images)), or net.stream"
        )
    return found


def whole(array: NDArray[Any]) -> bool:
    """Whether all floats are integers of up to 62 bits."""
    return odd_one(array) is None


def odd_one(array: NDArray[Any]) -> float | None:
    """The first float that is no such integer."""
    odd = array[(array != np.rint(array)) | ~(np.abs(array) < _MOST)].reshape(-1)
    return float(odd[0]) if len(odd) else None
