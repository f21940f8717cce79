"""Arrays as people have them, as levels and classes.

    level = round((value - low) / (high - low) * max_level), clipped to 0 .. max_level

Networks take unsigned levels of at most 8 bits. Whole numbers in that range are levels already; anything else needs a
`Scale`, which says what was done to the values and does the same to new ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lava_meta.errors import DataError

Scaling = Literal["features", "all"]  # measured per feature, or over all of them


@dataclass(frozen=True, eq=False)
class Scale:
    """Values `low` .. `high` as levels 0 .. `max_level`; those beyond are clipped. Called with values, gives levels.

    Raises `ValueError` unless low < high; where `Scale.of` measured one value only, that value is level 0.
    """

    low: float | NDArray[np.float64]  # one number, or one per feature, in the shape of one image
    high: float | NDArray[np.float64]
    max_level: int = 255
    columns: tuple[Any, ...] | None = None  # of a data frame, whose frames are taken by name

    def __post_init__(self) -> None:
        if not 1 <= self.max_level <= 255:
            raise ValueError(f"max_level is {self.max_level}; 8-bit levels end between 1 and 255")
        if isinstance(self.low, int | float) and isinstance(self.high, int | float) and not self.low < self.high:
            raise ValueError(f"scale is ({self.low:g}, {self.high:g}); give (low, high) with low < high")

    @classmethod
    def of(cls, values: Any, kind: Scaling = "features", max_level: int = 255) -> Scale:
        """The range of these values (n, ...): of each feature, or of all together."""
        array = known_numbers(values, "x").astype(np.float64)
        if kind == "features":
            return cls(array.min(axis=0), array.max(axis=0), max_level)
        return cls(float(array.min()), float(array.max()), max_level)

    def __call__(self, values: Any) -> NDArray[np.uint8]:
        """Levels, in the shape of `values` (n, ...). Raises `DataError` for values that are missing or do not fit."""
        if self.columns is not None and hasattr(values, "columns"):
            values = in_order(values, self.columns, "x")
        array = known_numbers(values, "x").astype(np.float64)
        span = np.subtract(self.high, self.low)
        try:
            share = np.broadcast_to((array - self.low) / np.where(span == 0, 1.0, span), array.shape)
        except ValueError:
            raise DataError(
                f"x has items of shape {array.shape[1:]}; this scale is of items of shape {np.shape(span)}"
            ) from None
        levels: NDArray[np.uint8] = np.rint(share.clip(0, 1) * self.max_level).astype(np.uint8)
        return levels


def scale_of(scale: Scale | Scaling | tuple[Any, Any] | None, values: Any, max_level: int) -> Scale | None:
    """What `scale=` means for these training values: a `Scale`, (low, high), "features", "all", or None for levels."""
    if scale is None or isinstance(scale, Scale):
        return scale
    if isinstance(scale, str):  # text of any kind may come
        if scale not in ("features", "all"):
            raise ValueError(f'scale is {scale!r}; give (low, high), "features" or "all"')
        return Scale.of(values, scale, max_level)
    try:
        low, high = scale
    except (TypeError, ValueError):
        raise ValueError(f'scale is {scale!r}; give (low, high), "features" or "all"') from None
    return Scale(low, high, max_level)


def in_order(frame: Any, columns: Sequence[Any], name: str) -> Any:
    """The data frame with these columns, in this order. Raises `DataError` for columns missing, and for others."""
    missing = [str(column) for column in columns if column not in frame.columns]
    others = [str(column) for column in frame.columns if column not in columns]
    if missing or others:
        lacks, has = ", ".join(missing) or "none", ", ".join(others) or "none"
        raise DataError(f"{name} has other columns than the training frame: missing {lacks}, not known {has}")
    return frame[list(columns)]


def known_numbers(values: Any, name: str) -> NDArray[Any]:
    """An array of numbers, none missing. Raises `DataError` that says what else there is, and where."""
    array = plain_array(values, name)
    if array.dtype.kind not in "buif":
        raise DataError(f"{name} holds {_kind(array)}, not numbers: encode it first, as pandas.get_dummies does")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        rows = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
        what = "NaN" if np.isnan(array).any() else "infinity"
        raise DataError(
            f"{name} has {what} in {len(rows)} of {len(array)} rows, first in row {rows[0]}: fill these values in, or "
            "drop the rows"
        )
    return array


def as_levels(values: Any, max_level: int, name: str) -> Tensor:
    """Raw levels as uint8 (n, features) or (n, channels, height, width), of whole numbers 0 .. 255.

    Raises `TypeError` for real numbers, and `DataError` for whole ones out of range or another shape.
    """
    if isinstance(values, Tensor) and values.dtype == torch.uint8:
        levels = values
    else:
        array = known_numbers(values, f"{name}: x")
        low, high = (array.min(), array.max()) if array.size else (0, 0)
        if array.dtype.kind == "f":
            raise TypeError(
                f"{name}: x is {_dtype(values)}, from {low:.6g} to {high:.6g}; images hold raw levels, not scaled "
                "ones. State the range that becomes levels 0..255: Dataset.from_arrays(x, y, scale=(low, high)), "
                'Dataset.from_torch(data, scale=(low, high)), or scale="features" for each feature\'s own'
            )
        if low < 0 or high > 255:
            raise DataError(
                f"{name}: x runs from {low} to {high}; levels lie in 0..{max_level}. "
                "Dataset.from_arrays(x, y, scale=(low, high)) makes levels of any numbers"
            )
        levels = torch.from_numpy(np.require(array, np.uint8, ["C", "W"]))
    if levels.dim() == 3:
        levels = levels[:, None]
    if levels.dim() not in (2, 4):
        raise DataError(
            f"{name}: x has shape {tuple(levels.shape)}; give (n, features), (n, height, width) or (n, channels, "
            "height, width): time steps of images count as channels"
        )
    return levels


def as_labels(values: Any, name: str) -> Tensor:
    """Classes as int64 (n,), of whole numbers in any type. Raises `DataError` for missing ones and for no classes."""
    if isinstance(values, Tensor) and values.dtype == torch.int64 and values.dim() == 1:
        return values
    array = plain_array(values, f"{name}: y")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        hint = ": of one-hot rows, y.argmax(1)" if array.ndim == 2 else ""
        raise DataError(f"{name}: y has shape {array.shape}; give one class per image, (n,){hint}")
    missing = _missing(array)
    if missing.any():
        raise DataError(
            f"{name}: {missing.sum()} of {len(array)} images have no label, first image {missing.argmax()}: leave them "
            "out, or label them"
        )
    if array.dtype.kind not in "buif":
        raise DataError(
            f"{name}: y holds {_kind(array)}; give classes 0, 1, ...: Dataset.from_arrays(x, y) numbers them"
        )
    if array.dtype.kind == "f" and (array != np.rint(array)).any():
        raise DataError(f"{name}: y has fractions such as {array[array != np.rint(array)][0]:g}; give whole classes")
    if array.size and array.min() < 0:
        raise DataError(
            f"{name}: y has negative labels, down to {array.min():g}; classes count from 0 (-1 often stands for an "
            "image without label: leave those out)"
        )
    return torch.from_numpy(array.astype(np.int64))


def numbered(y: Any, name: str, names: Sequence[str] | None = None) -> tuple[Any, tuple[str, ...] | None]:
    """Labels that are text as numbers in alphabetical order, or in the order of `names`, and their names.

    Labels that are numbers stay. Raises `DataError` for labels missing from `names`.
    """
    if y is None:
        raise DataError(f"{name}: there are no labels; give y, one class per image")
    array = plain_array(y, f"{name}: y")
    if array.dtype.kind not in "OUS" or _missing(array).any():
        return y, None
    texts = array.astype(str)
    known = tuple(np.unique(texts).tolist()) if names is None else tuple(names)
    unknown = sorted(set(texts.flatten().tolist()) - set(known))
    if unknown:
        raise DataError(f"{name}: there is no class {unknown[0]!r} in the training labels {', '.join(known)}")
    return np.array([known.index(text) for text in texts.flatten().tolist()]).reshape(texts.shape), known


def plain_array(values: Any, name: str) -> NDArray[Any]:
    """A numpy array. Raises `DataError` for masked values, of which nobody says what they are."""
    if np.ma.is_masked(values):
        raise DataError(f"{name} has {np.ma.count_masked(values)} masked values: fill them in, as .filled(0)")
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _missing(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Labels that are None, NaN or NA."""
    if labels.dtype.kind == "O":
        return np.array([_is_missing(label) for label in labels.flat], bool).reshape(labels.shape)
    return np.isnan(labels) if labels.dtype.kind == "f" else np.zeros(labels.shape, bool)


def _is_missing(label: Any) -> bool:
    try:
        return label is None or bool(label != label)
    except TypeError:  # pandas.NA is neither equal nor unequal
        return True


def _kind(array: NDArray[Any]) -> str:
    return "text" if array.dtype.kind in "US" else f"objects such as {array.flat[0]!r}" if array.size else "nothing"


def _dtype(values: Any) -> str:
    return str(getattr(values, "dtype", type(values).__name__))
