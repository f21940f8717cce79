"""Recordings of events (of event cameras, or of a model of the cochlea) as data sets of frames or of spikes.

    n-mnist      34x34 pixels, 2 polarities, 10 classes, 60,000 + 10,000 recordings     Orchard et al. 2015
    shd          700 channels, 1 polarity, 20 classes, 8,156 + 2,264 recordings         Cramer et al. 2020
    dvs-gesture  128x128 pixels, 2 polarities, 11 classes, 1,077 + 264 recordings       Amir et al. 2017

The time of each recording, from its first to its last event, is cut into `bins` of equal length, of which each counts
the events per pixel and polarity:

    frames   the counts, levels 0 .. 255; greater ones are cut
    spikes   1 if there is any event, else 0

Bins are channels, (bins * polarities, height, width), those of one bin together; of a cochlea one image, (1, bins,
channels). Files are read by Tonic (the extra "events"), from folders laid out as Tonic does it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lava_meta.data.datasets import Dataset, data_folders
from lava_meta.data.images import Images
from lava_meta.errors import DataError, require
from lava_meta.io.memory import require_memory

Kind = Literal["frames", "spikes"]


@dataclass(frozen=True)
class _Recordings:
    """What Tonic calls a data set, and what is in it."""

    tonic: str
    classes: int
    ending: str  # of its files


_KNOWN = {
    "n-mnist": _Recordings("NMNIST", 10, ".bin"),
    "shd": _Recordings("SHD", 20, ".h5"),
    "dvs-gesture": _Recordings("DVSGesture", 11, ".npy"),
}
EVENT_DATASETS = tuple(_KNOWN)


def load_events(
    name: str,
    folder: str | os.PathLike[str] | None = None,
    *,
    bins: int = 10,
    kind: Kind = "frames",
    pool: int = 1,
    download: bool = False,
) -> Dataset:
    """Load one of `EVENT_DATASETS`.

    Args:
        name: "n-mnist", "shd" or "dvs-gesture".
        folder: holds Tonic's folder of that data set; by default the places of `load_dataset`.
        bins: of time.
        kind: "frames" or "spikes".
        pool: the events of so many pixels by so many count as of one; of a cochlea, of so many channels.
        download: let Tonic fetch it into the folder if it is missing.

    Raises:
        PackageMissingError: Tonic is not installed.
        DataError: it is missing, which names the places that were looked at and how to get it; or broken.
        TooLargeError: the frames do not fit in memory.
        ValueError: another name or kind, or a number below 1.
    """
    if name not in _KNOWN:
        raise ValueError(f"no event data {name!r}; choose one of {', '.join(_KNOWN)}")
    _check(bins, pool, kind)
    require("tonic", f"Reading {name}")
    known = _KNOWN[name]
    places = [Path(folder)] if folder is not None else data_folders()
    found = next((place for place in places if any((place / known.tonic).rglob(f"*{known.ending}"))), None)
    if found is None and not download:
        raise DataError(
            f"{name} is in none of these folders: {', '.join(str(place / known.tonic) for place in places)}. It must "
            f"be downloaded: load_events({name!r}, download=True) lets Tonic do it"
        )
    place = found or places[0 if folder is not None else -1]
    parts = []
    for train in (True, False):
        try:
            parts.append(_recordings(known, place, train=train, complete=found is not None))
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise DataError(f"{name}: the files in {place / known.tonic} cannot be read: {error}") from error
    images = [
        _images(recordings, f"{name} {what}", known.classes, bins, kind, pool)
        for recordings, what in zip(parts, ("train", "test"), strict=True)
    ]
    return Dataset(f"{name} {kind}", images[0], images[1])


def event_frames(
    events: NDArray[Any], sensor: Sequence[int], *, bins: int = 10, kind: Kind = "frames", pool: int = 1
) -> NDArray[np.uint8]:
    """One recording as levels, uint8 (bins * polarities, height, width), or (1, bins, width) if events have no y.

    Args:
        events: a structured array (n,) with the fields x, t, p and, of a camera, y, in any order of time.
        sensor: width, height and polarities.
        bins: as of `load_events`.
        kind: likewise.
        pool: likewise.

    Raises:
        DataError: no events, a field that is missing, or an event outside of the sensor.
    """
    _check(bins, pool, kind)
    fields = events.dtype.names or ()
    missing = {"x", "t", "p"} - set(fields)
    if missing:
        raise DataError(f"events have no field {', '.join(sorted(missing))}; they have {', '.join(fields) or 'none'}")
    if not len(events):
        raise DataError("the recording has no events")
    width, height, polarities = sensor
    t = events["t"].astype(np.int64)
    time = (t - t.min()) * bins // (t.max() - t.min() + 1)
    x, y = events["x"].astype(np.int64), events["y"].astype(np.int64) if "y" in fields else np.zeros_like(t)
    p = events["p"].astype(np.int64) if polarities > 1 else np.zeros_like(t)
    for value, end, what in ((x, width, "x"), (y, height, "y"), (p, polarities, "p")):
        if value.min() < 0 or value.max() >= end:
            raise DataError(f"{what} of events runs from {value.min()} to {value.max()}; the sensor has 0..{end - 1}")
    shape = (bins, polarities, -(-height // pool), -(-width // pool))
    place = np.ravel_multi_index((time, p, y // pool, x // pool), shape)
    counts = np.bincount(place, minlength=int(np.prod(shape)))
    levels = np.minimum(counts, 1 if kind == "spikes" else 255).astype(np.uint8)
    return levels.reshape((bins * polarities, *shape[2:]) if "y" in fields else (1, bins, shape[3]))


def time_steps(images: Images, bins: int) -> NDArray[np.uint8]:
    """The frames of images made of `bins`, one after the other: (bins, n, pixels), as `SpikingNetwork` takes them."""
    if images.features % bins:
        raise ValueError(f"{images.name} has {images.features} pixels, which {bins} bins do not divide")
    array: NDArray[np.uint8] = images.x.cpu().numpy()
    return np.ascontiguousarray(array.reshape(len(images), bins, -1).swapaxes(0, 1))


def _images(recordings: Any, name: str, classes: int, bins: int, kind: Kind, pool: int) -> Images:
    if not len(recordings):
        raise DataError(f"{name}: there are no recordings")
    # Tonic lists files as the file system does: their paths give one order everywhere.
    order = np.argsort(recordings.data, kind="stable") if len(recordings.data) else range(len(recordings))
    frames: Any = None
    labels = np.empty(len(recordings), np.int64)
    for row, index in enumerate(order):
        events, labels[row] = recordings[int(index)]
        try:
            levels = event_frames(events, recordings.sensor_size, bins=bins, kind=kind, pool=pool)
        except DataError as error:
            raise DataError(f"{name}, recording {index}: {error}") from error
        if frames is None:
            require_memory(len(recordings) * levels.size, f"{name} in {bins} bins", "take fewer bins, or pool pixels")
            frames = np.empty((len(recordings), *levels.shape), np.uint8)
        frames[row] = levels
    return Images(frames, labels, name, classes, 1 if kind == "spikes" else 255)  # type: ignore[arg-type]


def _recordings(known: _Recordings, place: Path, *, train: bool, complete: bool) -> Any:
    """Tonic's data set. complete: what is there is taken for all of it, and nothing is fetched."""
    import numpy.lib.recfunctions  # noqa: F401 (Tonic uses it without importing it)
    import tonic.datasets

    kind = getattr(tonic.datasets, known.tonic)
    if complete:  # Tonic goes by the class's name for the folder
        kind = type(known.tonic, (kind,), {"_check_exists": lambda self: True})
    return kind(str(place), train=train)


def _check(bins: int, pool: int, kind: str) -> None:
    if bins < 1 or pool < 1:
        raise ValueError(f"bins is {bins} and pool {pool}; they must be at least 1")
    if kind not in ("frames", "spikes"):
        raise ValueError(f"kind is {kind!r}; choose 'frames' or 'spikes'")
