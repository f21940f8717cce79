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

Images stay raw: a network's first module turns levels into numbers, so that the network carries its own convention.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lava_meta.errors import DataError, require

DATASETS = ("digits", "mnist", "fashion-mnist", "usps", "cifar10", "cifar100")
_FOLDERS = {
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "usps": "USPS",
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
}


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images, checked when made.

    Raises `TypeError` for tensors of another type, and `DataError` when there are no images, when images and labels
    differ in number, or when a label or a pixel is out of range.
    """

    x: Tensor  # uint8 (n, features) or (n, channels, height, width), levels 0 .. max_level
    y: Tensor  # int64 (n,), classes 0 .. classes - 1
    name: str
    classes: int  # width of the readout; not every class need be present
    max_level: int = 255  # the brightest level that a pixel can have

    def __post_init__(self) -> None:
        for field, tensor, dtype in (("x", self.x, torch.uint8), ("y", self.y, torch.int64)):
            if not isinstance(tensor, Tensor):
                raise TypeError(f"{self.name}: {field} is a {type(tensor).__name__}; give a torch tensor of {dtype}")
            if tensor.dtype != dtype:
                raise TypeError(f"{self.name}: {field} is {tensor.dtype}; it must be {dtype} (raw levels, not scaled)")
        if self.x.dim() not in (2, 4) or self.y.dim() != 1:
            raise DataError(
                f"{self.name}: x has shape {tuple(self.x.shape)} and y {tuple(self.y.shape)}; they must be "
                "(n, features) or (n, channels, height, width), and (n,)"
            )
        if len(self.x) != len(self.y):
            raise DataError(f"{self.name}: {len(self.x)} images but {len(self.y)} labels")
        if self.x.numel() == 0:
            raise DataError(f"{self.name}: there are no images (shape {tuple(self.x.shape)})")
        if not 1 <= self.max_level <= 255:
            raise ValueError(f"{self.name}: max_level is {self.max_level}; 8-bit levels end between 1 and 255")
        if self.classes < 1 or int(self.y.min()) < 0 or int(self.y.max()) >= self.classes:
            raise DataError(
                f"{self.name}: labels run from {int(self.y.min())} to {int(self.y.max())}; with {self.classes} classes "
                f"they must lie in 0..{self.classes - 1}"
            )
        if int(self.x.max()) > self.max_level:
            raise DataError(f"{self.name}: a pixel is {int(self.x.max())}, above max_level = {self.max_level}")

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"Images({self.name!r}, {len(self)} of {shape}, {self.classes} classes, levels 0..{self.max_level})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image: (features,) or (channels, height, width)."""
        return tuple(self.x.shape[1:])

    @property
    def features(self) -> int:
        """Pixels of one image."""
        return math.prod(self.shape)

    @property
    def mean_level(self) -> float:
        """Mean pixel, in levels (0 .. max_level): MNIST's is 33.3."""
        return self._moments[0]

    @property
    def std_level(self) -> float:
        """Standard deviation of all pixels about `mean_level`, in levels: MNIST's is 78.6."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[float, float]:
        # Exact integer sums over a histogram: no float copy of the images, and the same value on every machine.
        counts = torch.bincount(self.x.reshape(-1), minlength=256).tolist()
        total = sum(counts)
        first = sum(level * count for level, count in enumerate(counts))
        second = sum(level * level * count for level, count in enumerate(counts))
        return first / total, math.sqrt(total * second - first * first) / total

    def to(self, device: torch.device | str) -> Images:
        """The same images in the memory of `device`."""
        if self.x.device == self.y.device == torch.device(device):
            return self
        return replace(self, x=self.x.to(device), y=self.y.to(device))

    def take(self, indices: Tensor | NDArray[Any] | Sequence[int], name: str | None = None) -> Images:
        """The images at `indices`, in that order. Raises `IndexError` outside the data set."""
        index = torch.as_tensor(indices, dtype=torch.int64, device=self.x.device)
        if index.numel() and (int(index.min()) < 0 or int(index.max()) >= len(self)):
            raise IndexError(f"{self.name}: indices must lie in 0..{len(self) - 1}")
        return replace(self, x=self.x.index_select(0, index), y=self.y.index_select(0, index), name=name or self.name)

    def permuted(self, permutation: Tensor | NDArray[Any], name: str | None = None) -> Images:
        """Pixels rearranged, the shape kept: pixel i of the result is pixel `permutation[i]`, counted in C order.

        Raises `ValueError` unless `permutation` holds each of 0 .. features - 1 once.
        """
        order = torch.as_tensor(permutation, dtype=torch.int64, device=self.x.device)
        if order.dim() != 1 or not torch.equal(order.sort().values, torch.arange(self.features, device=order.device)):
            raise ValueError(f"{self.name}: not a permutation of the {self.features} pixels")
        x = self.x.reshape(len(self), -1).index_select(1, order).reshape(self.x.shape)
        return replace(self, x=x, name=name or f"{self.name} permuted")

    def classes_only(self, labels: Sequence[int], name: str | None = None) -> Images:
        """The images of these classes; labels and `classes` stay as they are.

        Raises `ValueError` for a label out of range or one that no image has.
        """
        wanted = torch.as_tensor(list(labels), dtype=torch.int64, device=self.y.device)
        missing = sorted(set(wanted.tolist()) - set(self.y.unique().tolist()))
        if missing or not len(wanted):
            raise ValueError(
                f"{self.name}: no images of class {', '.join(map(str, missing))}"
                if missing
                else f"{self.name}: give at least one class"
            )
        return self.take(torch.isin(self.y, wanted).nonzero().flatten(), name)

    def padded(self, height: int, width: int) -> Images:
        """Images centred on a black field of `height` x `width`; an odd rest goes below and to the right.

        Raises `ValueError` for flat images, or when the field is smaller than the images.
        """
        if self.x.dim() != 4:
            raise ValueError(f"{self.name}: flat images of shape {self.shape} cannot be padded")
        down, right = height - self.shape[1], width - self.shape[2]
        if down < 0 or right < 0:
            raise ValueError(f"{self.name}: images of {self.shape[1]}x{self.shape[2]} do not fit in {height}x{width}")
        sides = (right // 2, right - right // 2, down // 2, down - down // 2)
        return replace(self, x=torch.nn.functional.pad(self.x, sides))

    def split(self, fraction: float, seed: int) -> tuple[Images, Images]:
        """Two sets, (the rest, held out); of every class the rounded `fraction` is held out, drawn from `seed`.

        Raises `ValueError` unless 0 < fraction < 1 and both have images.
        """
        if not 0 < fraction < 1:
            raise ValueError(f"fraction is {fraction}; it must lie strictly between 0 and 1")
        rng = np.random.default_rng(seed)
        y = self.y.cpu().numpy()
        held = np.zeros(len(y), dtype=bool)
        for label in range(self.classes):
            members = rng.permutation(np.flatnonzero(y == label))
            held[members[: round(fraction * len(members))]] = True
        if held.all() or not held.any():
            raise ValueError(f"{self.name}: holding out {fraction:g} of {len(self)} images leaves one set empty")
        rest, out = np.flatnonzero(~held), np.flatnonzero(held)
        return self.take(rest, f"{self.name} training"), self.take(out, f"{self.name} held out")


@dataclass(frozen=True)
class Dataset:
    """Training and test images of one kind. Raises `DataError` when shape, classes or levels differ."""

    name: str
    train: Images
    test: Images
    source: dict[str, Any] | None = None  # JSON-ready: which of `load_dataset`, and what was held out; None: one's own

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
        return Dataset(f"{self.name} held out", rest, held, source)


def batches(images: Images, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Every image once, in an order drawn from `generator`: x uint8 (b, ...), y int64 (b,).

    The last batch is smaller if `batch_size` does not divide the number of images. Raises `ValueError` for a
    `batch_size` below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    order = torch.randperm(len(images), generator=generator, device=generator.device).to(images.x.device)
    for index in order.split(batch_size):
        yield images.x.index_select(0, index), images.y.index_select(0, index)


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
