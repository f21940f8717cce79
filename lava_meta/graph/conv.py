"""The convolutional layer of a `BinaryGraph`.

    s = W * x                  over the kernel's window; what lies outside the image adds nothing, as zero padding does
    d = sum of s               over `sum_window`, if there is one (average pooling, without its division); what lies
                               outside the sums adds nothing
    a = +1 if polarity_c * d >= threshold, else -1; with a norm, what `lava_meta.graph.norm` says of d
    pooling: a window of signs is +1 if one of them is (OR), or if all are (AND)

One threshold per channel is enough if all positions have the same terms. In a padded first layer they do not: a padded
pixel is 0 *after* normalisation, which is the level `offset` and not the level 0, so positions at the border have
thresholds of their own, and the threshold is kept for every position. In hidden layers a padded sign is 0, neither +1
nor -1: the border's sums have fewer terms and meet the same threshold.

Max pooling before the sign is pooling of signs behind it, since what stands between is monotone: the greatest sum
reaches the threshold if any of them does. If the norm behind the pooling falls, the greatest of its inputs gives
the least of its outputs, and the channel fires only if the whole window does (`Pool.every`).

Images go in and come out flat, (channels, rows, columns) in C order.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.bits import pack, unpack
from lava_meta.graph.dense import check_array, check_bits, check_norm, positive_weights
from lava_meta.graph.norm import GroupNorm

Pair = tuple[int, int]
# Values that one image becomes on its way through a layer, at most: this many, or this many times its inputs. What goes
# beyond is a padding or a window out of all proportion, of which a file of a few bytes would take gigabytes.
LARGEST_MAP, LARGEST_GROWTH = 2**25, 1000


@dataclass(frozen=True)
class Window:
    """A window that slides over images; all fields are (rows, columns). Raises `ValueError` for what is no window."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)  # rows above and below, columns left and right
    dilation: Pair = (1, 1)  # distance between neighbours in the window
    # Further rows below and columns right: of windows that reach outside, of even kernels with padding "same".
    after: Pair = field(default=(0, 0), kw_only=True)

    def __post_init__(self) -> None:
        for name, least in (("kernel", 1), ("stride", 1), ("padding", 0), ("dilation", 1), ("after", 0)):
            value = getattr(self, name)
            if len(value) != 2 or min(map(operator.index, value)) < least:
                raise ValueError(f"{name} is {value}; expected (rows, columns), each at least {least}")

    def padded(self, rows: int, columns: int) -> Pair:
        """Rows and columns of an image with its padding."""
        down, across = (2 * padding + after for padding, after in zip(self.padding, self.after, strict=True))
        return rows + down, columns + across

    def positions(self, rows: int, columns: int) -> Pair:
        """How often the window fits, down and across. Raises `ValueError` if it does not."""
        fits = [
            (size - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, dilation in zip(
                self.padded(rows, columns), self.kernel, self.stride, self.dilation, strict=True
            )
        ]
        if min(fits) < 1:
            raise ValueError(f"a window of {self.kernel} (dilation {self.dilation}) does not fit {rows}x{columns}")
        return fits[0], fits[1]

    def views(self, images: NDArray[Any]) -> NDArray[Any]:
        """What the window sees: (n, c, rows, columns) to (n, c, down, across, *kernel); zeros outside the image."""
        self.positions(*images.shape[2:])
        rims = ((padding, padding + after) for padding, after in zip(self.padding, self.after, strict=True))
        padded = np.pad(images, ((0, 0), (0, 0), *rims))
        reach = [dilation * (kernel - 1) + 1 for kernel, dilation in zip(self.kernel, self.dilation, strict=True)]
        view: Any = np.lib.stride_tricks.sliding_window_view  # numpy's stubs know one axis only
        views: NDArray[Any] = view(padded, reach, axis=(2, 3))
        return views[:, :, :: self.stride[0], :: self.stride[1], :: self.dilation[0], :: self.dilation[1]]


@dataclass(frozen=True)
class Pool(Window):
    """Pooling of signs: OR over the window; AND in the channels `every`. Padded positions do not count."""

    every: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "every", tuple(int(operator.index(channel)) for channel in self.every))

    def signs(self, fires: NDArray[Any]) -> NDArray[Any]:
        """Booleans (n, c, rows, columns) to (n, c, down, across)."""
        # All are true if none is false, so AND is OR of what is turned, turned back.
        turned = np.zeros((fires.shape[1], 1, 1), dtype=bool)
        turned[list(self.every)] = True
        pooled: NDArray[Any] = self.views(fires ^ turned).any(axis=(4, 5)) ^ turned
        return pooled


@dataclass(frozen=True, eq=False)
class ConvLayer:
    """A binary convolution with its threshold neurons, and pooling; see the equations above.

    Raises `ValueError` when a field's shape, type or range does not fit the others.
    """

    bits: NDArray[Any] = field(
        repr=False
    )  # uint64 (channels, words(fan_in)): 1 is +1; a row is (inputs, rows, columns)
    input_shape: tuple[int, ...]  # (channels, rows, columns)
    window: Window
    threshold: NDArray[Any] = field(repr=False)  # int64 (channels, 1, 1), or (channels, down, across); in units of d
    polarity: NDArray[Any] = field(repr=False)  # int8 (channels,), +1 or -1: -1 if the norm falls
    groups: int = 1  # channels of one group see the inputs of that group only
    sum_window: Window | None = None
    pools: tuple[Pool, ...] = ()
    norm: GroupNorm | None = None  # decides instead of the thresholds, which are 0

    def __post_init__(self) -> None:
        if len(self.input_shape) != 3 or min(map(operator.index, self.input_shape)) < 1:
            raise ValueError(f"input_shape is {self.input_shape}; expected (channels, rows, columns)")
        if self.groups < 1 or self.input_shape[0] % self.groups or self.channels % self.groups:
            raise ValueError(
                f"{self.input_shape[0]} and {self.channels} channels do not part into {self.groups} groups"
            )
        check_bits(self.bits, self.fan_in)
        whole = self.sums_shape
        check_array("threshold", self.threshold, np.int64, whole if self.per_position else (self.channels, 1, 1))
        check_array("polarity", self.polarity, np.int8, (self.channels,))
        if not np.isin(self.polarity, (-1, 1)).all():
            raise ValueError("polarity holds a value that is neither +1 nor -1")
        check_norm(self.norm, math.prod(whole), self.threshold, self.polarity)
        for pool in self.pools:
            if not {*pool.every} <= {*range(self.channels)}:
                raise ValueError(f"a pooling names channels {pool.every}; the layer has {self.channels}")
        if self.values_an_image > max(LARGEST_MAP, LARGEST_GROWTH * self.n_in):
            raise ValueError(
                f"windows and paddings make {self.values_an_image:,} values of an image of {self.n_in:,} inputs; "
                f"at most {LARGEST_MAP:,} are made, or {LARGEST_GROWTH} times the inputs"
            )

    @classmethod
    def from_weights(
        cls,
        weight: NDArray[Any],
        input_shape: tuple[int, ...],
        threshold: NDArray[Any],
        polarity: NDArray[Any] | None = None,
        **options: Any,
    ) -> ConvLayer:
        """From weights (channels, inputs per group, rows, columns), +1 if `weight >= 0` (booleans: if True).

        `threshold`: one per channel, or (channels, down, across). `options`: the other fields, and those of `Window`.
        """
        channels, inputs, rows, columns = weight.shape
        if len(input_shape) == 3 and inputs * options.get("groups", 1) != input_shape[0]:
            raise ValueError(f"weights of shape {weight.shape} do not fit images of shape {tuple(input_shape)}")
        positive = positive_weights(np.asarray(weight).reshape(channels, -1))
        threshold = np.asarray(threshold, dtype=np.int64)
        window = {name: options.pop(name) for name in ("stride", "padding", "dilation", "after") if name in options}
        return cls(
            bits=pack(positive),
            input_shape=tuple(input_shape),
            window=Window((rows, columns), **window),
            threshold=threshold if threshold.ndim == 3 else threshold.reshape(-1, 1, 1),
            polarity=np.ones(channels, np.int8) if polarity is None else np.asarray(polarity, dtype=np.int8),
            **options,
        )

    @property
    def channels(self) -> int:
        """Output channels."""
        return len(self.bits)

    @property
    def fan_in(self) -> int:
        """Inputs of one sum, away from the border."""
        return self.input_shape[0] // self.groups * self.window.kernel[0] * self.window.kernel[1]

    @property
    def n_in(self) -> int:
        """Inputs."""
        return math.prod(self.input_shape)

    @property
    def n_out(self) -> int:
        """Outputs: channels times positions."""
        return math.prod(self.output_shape)

    @property
    def conv_shape(self) -> tuple[int, int, int]:
        """(channels, down, across) of the convolution's sums, before any pooling."""
        return (self.channels, *self.window.positions(*self.input_shape[1:]))

    @property
    def sums_shape(self) -> tuple[int, int, int]:
        """(channels, down, across) of the sums that meet the thresholds."""
        shape = self.conv_shape
        return shape if self.sum_window is None else (self.channels, *self.sum_window.positions(*shape[1:]))

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(channels, rows, columns) of what comes out."""
        rows, columns = self.sums_shape[1:]
        for pool in self.pools:
            rows, columns = pool.positions(rows, columns)
        return self.channels, rows, columns

    @property
    def values_an_image(self) -> int:
        """The most values of one image that any window takes in: its padded map, or all places that it sees."""
        channels, *extents = self.input_shape
        most = 0
        for window in (self.window, self.sum_window, *self.pools):
            if window is not None:
                padded, extents = window.padded(*extents), list(window.positions(*extents))
                seen = math.prod(extents) * math.prod(window.kernel)
                most = max(most, channels * max(seen, math.prod(padded)))
                channels = self.channels
        return most

    @property
    def per_position(self) -> bool:
        """Whether every position has a threshold of its own."""
        return self.threshold.shape[1:] != (1, 1)

    @property
    def uneven(self) -> bool:
        """Whether windows reach outside as those of earlier file versions could not."""
        windows = [self.window, *self.pools] + ([] if self.sum_window is None else [self.sum_window])
        return any(any(window.after) for window in windows) or any(self.sum_window.padding if self.sum_window else ())

    @property
    def most_terms(self) -> int:
        """The most terms that a sum has."""
        return self.fan_in * (1 if self.sum_window is None else math.prod(self.sum_window.kernel))

    @property
    def mean_over(self) -> int:
        """The number of sums whose mean is subtracted from each; 0 if none is."""
        return 0 if self.norm is None else math.prod(self.sums_shape) // self.norm.groups

    @property
    def weight(self) -> NDArray[Any]:
        """The weights unpacked: bool (channels, fan_in), True for +1."""
        return unpack(self.bits, self.fan_in)

    def sums(self, x: NDArray[Any]) -> NDArray[Any]:
        """`d` of the reference implementation, int64 (n, *sums_shape), of integers x (n, n_in)."""
        return self.convolve(x.astype(np.float64), np.where(self.weight, 1.0, -1.0)).astype(np.int64)

    def convolve(self, x: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
        """`d` (n, *sums_shape) of x (n, n_in) with the weights (channels, fan_in), in their common type."""
        _, down, across = self.conv_shape
        views = self.window.views(x.reshape(len(x), *self.input_shape))
        shares = zip(np.split(views, self.groups, axis=1), np.split(weight, self.groups), strict=True)
        products = [seen.transpose(0, 2, 3, 1, 4, 5).reshape(-1, self.fan_in) @ of_group.T for seen, of_group in shares]
        sums: NDArray[Any] = np.concatenate(products, axis=1).reshape(len(x), down, across, -1).transpose(0, 3, 1, 2)
        if self.sum_window is not None:
            sums = self.sum_window.views(sums).sum(axis=(4, 5))
        return sums

    def fires(self, sums: NDArray[Any]) -> NDArray[Any]:
        """Booleans (n, n_out), True for +1, from the integer sums (n, *sums_shape)."""
        if self.norm is not None:
            signs = self.norm.fires(sums.reshape(len(sums), -1)).reshape(sums.shape)
        else:
            signs = self.polarity[:, None, None] * sums.astype(np.int64, copy=False) >= self.threshold
        for pool in self.pools:
            signs = pool.signs(signs)
        return signs.reshape(len(signs), -1)

    def ties(self, sums: NDArray[Any]) -> NDArray[Any] | None:
        """Where a sum that is handed on, or pooled, ties with its norm's threshold, booleans (n, n_out); or None."""
        if self.norm is None:
            return None
        ties = self.norm.ties(sums.reshape(len(sums), -1)).reshape(sums.shape)
        for pool in self.pools:
            ties = replace(pool, every=()).signs(ties)
        return ties.reshape(len(ties), -1)

    def to_dict(self) -> dict[str, Any]:
        """The structure without the arrays, as JSON-ready values."""
        return {
            "input_shape": list(self.input_shape),
            "window": _fields(self.window),
            "groups": self.groups,
            "sum_window": None if self.sum_window is None else _fields(self.sum_window),
            "pools": [_fields(pool) for pool in self.pools],
        }

    @classmethod
    def from_dict(
        cls,
        structure: dict[str, Any],
        bits: NDArray[Any],
        threshold: NDArray[Any],
        polarity: NDArray[Any],
        norm: GroupNorm | None = None,
    ) -> ConvLayer:
        """Undo `to_dict`, with the arrays."""
        sum_window = structure["sum_window"]
        return cls(
            bits=bits,
            input_shape=_whole(structure["input_shape"]),
            window=Window(**_tuples(structure["window"])),
            threshold=threshold,
            polarity=polarity,
            groups=int(operator.index(structure["groups"])),
            sum_window=None if sum_window is None else Window(**_tuples(sum_window)),
            pools=tuple(Pool(**_tuples(pool)) for pool in structure["pools"]),
            norm=norm,
        )


def _fields(window: Window) -> dict[str, list[int]]:
    return {name: list(value) for name, value in vars(window).items() if name != "after" or any(value)}


def _tuples(fields: dict[str, list[int]]) -> dict[str, Any]:
    return {name: _whole(value) for name, value in fields.items()}


def _whole(values: Iterable[Any]) -> tuple[int, ...]:
    """Whole numbers of a file's header as plain ints. Raises `TypeError` for others."""
    return tuple(int(operator.index(value)) for value in values)
