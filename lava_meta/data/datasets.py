"""Data sets as unsigned 8-bit tensors in memory.

    digits         scikit-learn's 8x8 digits, levels 0..16, 1,437 + 360 images; comes with the package, needs no file
    mnist          28x28, levels 0..255, 60,000 + 10,000 images
    fashion-mnist  as mnist
    usps           16x16, levels 0..255, 7,291 + 2,007 images
    cifar10        3x32x32, levels 0..255, 50,000 + 10,000 images, 10 classes
    cifar100       the same of 100 classes

All but the digits are read from a data folder laid out as torchvision does it (`MNIST/raw/...`, `FashionMNIST/raw/...`,
`USPS/usps.npz` or torchvision's `USPS/usps.bz2` with `USPS/usps.t.bz2`, `cifar-10-batches-py`, `cifar-100-python`).
CIFAR is read by torchvision itself, which checks its files first. Places are tried in this order: the
`folder` given, alone; else the folder that the environment variable LAVA_META_DATA names, and
the user's cache folder, into which `load_dataset(name, download=True)` may put a data set that is missing.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lava_meta.data.arrays import Scale, Scaling, numbered, scale_of
from lava_meta.data.images import Images
from lava_meta.data.sources import check_source, frame_arrays, stream_arrays, torch_arrays
from lava_meta.errors import DataError, require

DATASETS = ("digits", "mnist", "fashion-mnist", "usps", "cifar10", "cifar100")
_FOLDERS = {
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "usps": "USPS",
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
}


@dataclass(frozen=True)
class Dataset:
    """Training and test images of one kind. Raises `DataError` when shape, classes or levels differ.

    `from_arrays`, `from_torch`, `from_pandas` and `from_avalanche` make one of your own data. They have in common:

    Args:
        test: the test data, in the form of the training data; None holds out a share of the training data instead.
        scale: None for whole numbers that are levels already; (low, high), the range that becomes levels 0 ..
            `max_level`; "features", each feature's own range in the training data, or "all", one range for all of them;
            or the `Scale` of another data set. The `scale` of the data set does the same to new values.
        max_level: the greatest level.
        classes: width of the readout; 0: up to the greatest label.
        name: what tables call it.
        held_out: the share of each class that is held out if there is no `test`.
        seed: of what is held out.
    """

    name: str
    train: Images
    test: Images
    source: dict[str, Any] | None = None  # JSON-ready: which of `load_dataset`, and what was held out; None: one's own
    scale: Scale | None = None  # from values to levels, if these were not levels
    class_names: tuple[str, ...] | None = None  # if labels were text

    def __post_init__(self) -> None:
        for field in ("shape", "classes", "max_level"):
            ours, theirs = getattr(self.train, field), getattr(self.test, field)
            if ours != theirs:
                raise DataError(f"{self.name}: {field} is {ours} in training and {theirs} in test images")

    def hold_out(self, fraction: float, seed: int) -> Dataset:
        """The training images alone, split in two: choose settings on this, and look at the test images once."""
        rest, held = self.train.split(fraction, seed)
        whole = self.source is not None and "held_out" not in self.source
        source = {**self.source, "held_out": fraction, "seed": seed} if self.source and whole else None
        return replace(self, name=f"{self.name} held out", train=rest, test=held, source=source)

    @classmethod
    def of(cls, data: Any) -> Dataset:
        """A data set of what it is given: one, a torch `Dataset` or `DataLoader`, or arrays (x, y).

        Raises:
            TypeError: data of another kind, or that need more to be said; the message names the call.
            DataError: as the call that it makes.
        """
        if isinstance(data, Dataset):
            return data
        if isinstance(data, tuple) and len(data) == 2:
            return cls.from_arrays(*data)
        if isinstance(data, Images):
            return cls(data.name, *data.split(0.2, 0))
        if hasattr(data, "columns"):
            raise TypeError('of a data frame, say which column has the classes: Dataset.from_pandas(frame, "label")')
        if hasattr(data, "shape"):
            raise TypeError("there are no labels beside this array: give (x, y), or Dataset.from_arrays(x, y)")
        return cls.from_torch(data)

    @classmethod
    def from_arrays(
        cls,
        x: Any,
        y: Any,
        *,
        test: tuple[Any, Any] | None = None,
        scale: Scale | Scaling | tuple[Any, Any] | None = None,
        max_level: int = 255,
        classes: int = 0,
        name: str = "own data",
        held_out: float = 0.2,
        seed: int = 0,
    ) -> Dataset:
        """A data set of arrays or tensors, x (n, features), (n, height, width) or (n, channels, height, width), y (n,).

        Labels are whole numbers from 0 of any type, or text, which is numbered in alphabetical order (`class_names`).

        Raises:
            DataError: values or labels that are missing, differ in number or do not fit.
            TypeError: real numbers without a `scale`; a `test` of another form.
        """
        if test is not None and not (isinstance(test, tuple | list) and len(test) == 2):
            raise TypeError(f"test is a {type(test).__name__}; give (x_test, y_test)")
        kept = scale_of(scale, x, max_level)
        y, names = numbered(y, name)

        def images(x: Any, y: Any, kind: str, classes: int = 0) -> Images:
            levels: Any = x if kept is None else kept(x)
            return Images(levels, y, f"{name} {kind}".strip(), classes, max_level if kept is None else kept.max_level)

        classes = classes or (len(names) if names else 0)
        if test is None:
            train, held = images(x, y, "", classes).split(held_out, seed)
        else:
            y_test, _ = numbered(test[1], f"{name} test", names)
            train, held = images(x, y, "train", classes), images(test[0], y_test, "test", classes)
            classes = max(train.classes, held.classes)
            train, held = replace(train, classes=classes), replace(held, classes=classes)
        return cls(name, train, held, scale=kept, class_names=names)

    @classmethod
    def from_torch(cls, train: Any, *, test: Any = None, name: str = "own data", **options: Any) -> Dataset:
        """A data set of torch `Dataset`s or `DataLoader`s, whose items are (x, y, ...); options: as of `from_arrays`.

        A loader's images are kept in the order of its data set, and learned in batches of `TrainSettings.batch_size`.
        """
        check_source(train, name, scaled=options.get("scale") is not None)
        own = None if test is None else torch_arrays(test, f"{name} test")
        return cls.from_arrays(*torch_arrays(train, name), test=own, name=name, **options)

    @classmethod
    def from_avalanche(cls, benchmark: Any, *, name: str = "own data", **options: Any) -> Dataset:
        """All images of a benchmark of Avalanche together; `lava_meta.from_avalanche` keeps its experiences apart.

        Options: as of `from_arrays`. Classes must be numbered over all experiences.
        """
        x, y = stream_arrays(benchmark.train_stream, name)
        return cls.from_arrays(x, y, test=stream_arrays(benchmark.test_stream, f"{name} test"), name=name, **options)

    @classmethod
    def from_pandas(
        cls,
        frame: Any,
        label: str,
        *,
        test: Any = None,
        scale: Any = "features",
        name: str = "own data",
        **options: Any,
    ) -> Dataset:
        """A data set of a data frame, one row per item; column `label` has the classes, the others are features.

        Columns have units of their own, so each is scaled by its own range in `frame`. Those of `test`, and of frames
        that `dataset.scale` is given later, are taken by name. Options: as of `from_arrays`.
        """
        x, y = frame_arrays(frame, label, name)
        columns = tuple(column for column in frame.columns if column != label)
        own = None if test is None else frame_arrays(test, label, f"{name} test", columns)
        made = cls.from_arrays(x, y, test=own, scale=scale, name=name, **options)
        return made if made.scale is None else replace(made, scale=replace(made.scale, columns=columns))


def data_folders() -> list[Path]:
    """The places where data sets are looked for, in order; the last is where downloads go by default."""
    given = os.environ.get("LAVA_META_DATA")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lava_meta"
    return [*([Path(given)] if given else []), cache]


def load_dataset(name: str, folder: str | os.PathLike[str] | None = None, *, download: bool = False) -> Dataset:
    """Load one of `DATASETS`; images are (n, 1, height, width), or (n, 3, 32, 32) for CIFAR.

    Raises `ValueError` for another name, and `DataError` for a data set that is missing (naming the places that were
    looked at and how to get it) or broken.
    """
    if name == "digits":
        return _digits()
    if name not in _FOLDERS:
        raise ValueError(f"no data set {name!r}; choose one of {', '.join(DATASETS)}")
    places = [Path(folder)] if folder is not None else data_folders()
    roots = [place / _FOLDERS[name] for place in places]
    read = {"usps": _read_usps, "cifar10": _read_cifar, "cifar100": _read_cifar}.get(name, _read_mnist)
    found = next((root for root in roots if _present(name, root)), None)
    if found is None and download:
        found = roots[0] if folder is not None else roots[-1]
        _download(name, found)
    if found is None:
        raise DataError(
            f"{name} is in none of these folders: {', '.join(map(str, roots))}. Set LAVA_META_DATA to a folder that "
            f"has {_FOLDERS[name]}, or let torchvision fetch it: load_dataset({name!r}, download=True)."
        )
    try:
        train, test = read(found)
    except (OSError, EOFError, ValueError, KeyError, RuntimeError) as error:
        raise DataError(f"{name}: the files in {found} cannot be read: {error}") from error
    classes = 100 if name == "cifar100" else 10
    images, held = _images(f"{name} train", *train, classes), _images(f"{name} test", *test, classes)
    return Dataset(name, images, held, {"name": name})


def _images(name: str, x: NDArray[Any], y: NDArray[Any], classes: int = 10, max_level: int = 255) -> Images:
    if x.ndim not in (3, 4) or x.dtype != np.uint8:
        raise DataError(f"{name}: images are {x.dtype} of shape {x.shape}; expected uint8 (n, height, width, or more)")
    x = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)
    labels = torch.from_numpy(y.astype(np.int64))
    return Images(torch.from_numpy(np.ascontiguousarray(x)), labels, name, classes, max_level)


def _digits() -> Dataset:
    require("sklearn", "The data set digits")
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    train, test = train_test_split(np.arange(len(digits.target)), test_size=360, stratify=digits.target, random_state=0)
    x = digits.images.astype(np.uint8)
    parts = [
        _images(f"digits {kind}", x[np.sort(index)], digits.target[np.sort(index)], max_level=16)
        for kind, index in (("train", train), ("test", test))
    ]
    return Dataset("digits", parts[0], parts[1], {"name": "digits"})


def _present(name: str, root: Path) -> bool:
    if name in ("cifar10", "cifar100"):
        return root.is_dir()
    if name == "usps":
        return (root / "usps.npz").is_file() or all((root / f).is_file() for f in ("usps.bz2", "usps.t.bz2"))
    return all((root / "raw" / f"{kind}-{what}").is_file() for kind in ("train", "t10k") for what in _IDX)


_IDX = ("images-idx3-ubyte", "labels-idx1-ubyte")
_Arrays = tuple[NDArray[Any], NDArray[Any]]


def _read_mnist(root: Path) -> tuple[_Arrays, _Arrays]:
    train, test = (
        (_read_idx(root / "raw" / f"{kind}-{_IDX[0]}", 3), _read_idx(root / "raw" / f"{kind}-{_IDX[1]}", 1))
        for kind in ("train", "t10k")
    )
    return train, test


def _read_idx(path: Path, dims: int) -> NDArray[Any]:
    """An IDX file of unsigned bytes: two zeros, type 8, the number of dimensions, each extent as big-endian uint32."""
    content = path.read_bytes()
    start = 4 + 4 * dims
    if len(content) < start or content[:4] != bytes((0, 0, 8, dims)):
        raise ValueError(f"{path.name} is not an IDX file of {dims}-dimensional unsigned bytes")
    shape = tuple(np.frombuffer(content, ">u4", dims, 4).tolist())
    if len(content) - start != math.prod(shape):
        raise ValueError(f"{path.name} has {len(content) - start} bytes of data; its header says {math.prod(shape)}")
    return np.frombuffer(bytearray(content[start:]), np.uint8).reshape(shape)


def _read_usps(root: Path) -> tuple[_Arrays, _Arrays]:
    if (root / "usps.npz").is_file():
        import zipfile

        try:
            with np.load(root / "usps.npz", allow_pickle=False) as file:
                return (file["x_train"], file["y_train"]), (file["x_test"], file["y_test"])
        except zipfile.BadZipFile as error:
            raise ValueError(error) from error
    require("torchvision", "Reading USPS as torchvision keeps it")
    from torchvision.datasets import USPS

    train, test = (USPS(root, train=is_train) for is_train in (True, False))
    return (train.data, np.asarray(train.targets)), (test.data, np.asarray(test.targets))


def _read_cifar(root: Path) -> tuple[_Arrays, _Arrays]:
    require("torchvision", "Reading CIFAR")
    from torchvision import datasets

    read = datasets.CIFAR10 if root.name == _FOLDERS["cifar10"] else datasets.CIFAR100
    train, test = (read(root.parent, train=is_train) for is_train in (True, False))
    return (train.data, np.asarray(train.targets)), (test.data, np.asarray(test.targets))


def _download(name: str, root: Path) -> None:
    require("torchvision", f"Downloading {name}")
    from torchvision import datasets

    try:
        if name == "usps":
            root.mkdir(parents=True, exist_ok=True)
            for is_train in (True, False):
                datasets.USPS(root, train=is_train, download=True)
        else:
            kind = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}.get(name) or _FOLDERS[name]
            getattr(datasets, kind)(root.parent, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{name} could not be downloaded into {root}: {error}") from error
