"""Layers of a `BinaryGraph` from nodes of NIR, without rounding; see `lava_meta.converters.nir`.

Linear nodes between two thresholds are gathered as `scale * d + offset`, in rationals, with `d` as in the graph's
layers. The threshold that follows turns them into a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from lava_meta.converters.nir.writing import centring, pool_limits, sums_of_weights
from lava_meta.errors import ConversionError
from lava_meta.graph import DenseLayer, Readout
from lava_meta.graph.conv import ConvLayer, Pair, Pool, Window
from lava_meta.graph.dense import reachable
from lava_meta.graph.inputs import Binarize


class Inputs:
    """Inputs times a factor each, which a threshold turns into spikes."""

    def __init__(self, label: str, shape: tuple[int, ...], scale: NDArray[Any] | None = None) -> None:
        self.label, self.shape = label, shape
        self.scale = None if scale is None else np.asarray(scale, np.float64)
        if self.scale is not None and not (
            self.scale.shape == shape and np.isfinite(self.scale).all() and self.scale.all()
        ):
            raise ConversionError(f"{label} needs one finite factor, not 0, for each input of shape {shape}")

    def follow(self, label: str, node: Any) -> None:
        raise ConversionError(f"{label} follows {self.label}: inputs are weighted as they are, or behind a threshold")

    def binarize(self, label: str, thresholds: NDArray[Any]) -> Binarize:
        """The signs of the inputs."""
        if thresholds.shape != self.shape or not np.isfinite(thresholds).all():
            raise ConversionError(f"{label} needs one finite threshold for each input of shape {self.shape}")
        # The shape is only what a file declares until an array of the file has it.
        scale = np.ones(self.shape) if self.scale is None else self.scale
        pairs = zip(thresholds.flat, scale.flat, strict=True)
        reached = np.array([_reached(Fraction(float(t)), Fraction(float(s))) for t, s in pairs], object)
        return Binarize(_int64(reached), np.where(scale.reshape(-1) > 0, 1, -1).astype(np.int8))


class DenseSums:
    """`scale_j * d_j + offset_j` of units j."""

    scale: Sequence[Fraction | float]
    offset: Sequence[Fraction | float]

    def __init__(self, label: str, node: Any, *, pixels: bool) -> None:
        if isinstance(node, nir.Scale) or node.weight.ndim != 2:
            raise ConversionError(f"{label} must be an Affine or Linear with a matrix of weights")
        self.label = label
        self.centred = False
        polarity = _polarity(label, node, len(node.weight))
        self.positive, size = _signs(label, node.weight, polarity)
        # On pixels the sums are W p = u; on spikes z = (a + 1) / 2 they are W z = (u + R) / 2.
        row = np.zeros(len(size)) if pixels else 2 * self.positive.sum(axis=1) - self.positive.shape[1]
        factors = [Fraction(float(c)) / (1 if pixels else 2) for c in polarity * size]
        self.scale = factors
        self.offset = [
            Fraction(b) + factor * int(r)
            for b, factor, r in zip(_bias(label, node, len(size)), factors, row, strict=True)
        ]

    def follow(self, label: str, node: Any) -> None:
        """Another linear node: factors of the units, or the centring of a layer norm."""
        units = len(self.scale)
        if not isinstance(node, (nir.Affine, nir.Linear, nir.Scale)):
            raise ConversionError(f"{label} follows {self.label} without a threshold between them")
        matrix = np.diag(node.scale) if isinstance(node, nir.Scale) else np.asarray(node.weight, np.float64)
        factors, bias = [float(factor) for factor in np.diag(matrix)], _bias(label, node, len(matrix))
        plain = not self.centred and all(s == 1 for s in self.scale) and not any(self.offset)
        square = matrix.shape == (units, units)
        if square and "polarity" not in node.metadata and (matrix == np.diag(factors)).all():
            if plain:  # as they are: rationals would lose the sign of -0.0
                self.scale, self.offset = factors, bias
            else:
                self.offset = [
                    Fraction(f) * Fraction(o) + Fraction(b) for f, o, b in zip(factors, self.offset, bias, strict=True)
                ]
                self.scale = [Fraction(f) * Fraction(s) for f, s in zip(factors, self.scale, strict=True)]
            return
        polarity = _polarity(label, node, len(matrix), np.where(np.diag(matrix) < 0, -1, 1))
        if not (square and plain and np.array_equal(matrix, polarity[:, None] * centring(units))):
            raise ConversionError(
                f"{label} follows {self.label} without a threshold between them, and is neither a factor for each unit "
                "(a diagonal matrix) nor the centring n I - 1 of sums of +1 and -1"
            )
        self.centred, self.scale, self.offset = True, [float(p) for p in polarity], bias

    def layer(self, label: str, node: nir.NIRNode, thresholds: NDArray[Any]) -> DenseLayer:
        """The layer that fires if `scale * d + offset > threshold`."""
        if thresholds.shape != (len(self.scale),) or not np.isfinite(thresholds).all():
            raise ConversionError(f"{label} needs one finite threshold for each of {len(self.scale)} units")
        if not all(self.scale):
            raise ConversionError(f"{label} follows {self.label} and a factor of 0: a unit that never changes")
        reached = [
            _reached(Fraction(float(t)) - Fraction(o), Fraction(s))
            for t, o, s in zip(thresholds, self.offset, self.scale, strict=True)
        ]
        polarity = np.array([1 if s > 0 else -1 for s in self.scale])
        return DenseLayer.from_weights(self.positive, _int64(np.array(reached, object)), polarity, centred=self.centred)

    def readout(self) -> Readout:
        """The last layer, if float64 holds its scales and offsets."""
        scale, offset = [float(s) for s in self.scale], [float(o) for o in self.offset]
        if self.centred or scale != self.scale or offset != self.offset:
            raise ConversionError(
                f"{self.label} is the readout; written for inputs of +1 and -1, its values are centred or need more "
                "bits than float64 has"
            )
        return Readout.from_weights(self.positive, np.array(scale), np.array(offset))


class ConvSums:
    """`scale_c * d + offset_c` of channels c, and of positions on spikes: `d` is what a `ConvLayer` sums."""

    def __init__(self, label: str, node: nir.Conv2d, shape: tuple[int, ...], *, pixels: bool) -> None:
        weight, groups = grouped(label, node)
        if weight.ndim != 4 or len(shape) != 3 or weight.shape[1] * groups != shape[0] or len(weight) % groups:
            raise ConversionError(f"{label} has weights of shape {weight.shape} and {groups} groups on {shape}")
        self.label, self.pixels, self.shape, self.groups = label, pixels, shape, groups
        weight, self.window = cropped(label, node, weight)
        self.polarity = _polarity(label, node, len(weight))
        self.positive, size = _signs(label, weight.reshape(len(weight), -1), self.polarity)
        self.positive = self.positive.reshape(weight.shape)
        self.scale = [Fraction(float(c)) for c in size]
        self.bias = [Fraction(b) for b in _bias(label, node, len(weight))]
        self.per_position = bool(node.metadata.get("per_position", False))
        self.sum_window: Window | None = None

    def follow(self, label: str, node: Any) -> None:
        """Sums or means over windows."""
        if not isinstance(node, (nir.SumPool2d, nir.AvgPool2d)) or self.sum_window is not None:
            raise ConversionError(
                f"{label} follows {self.label} without a threshold between them; behind a convolution one SumPool2d or "
                "AvgPool2d is supported"
            )
        self.sum_window = _window(label, node, _pair(node.kernel_size))
        if isinstance(node, nir.AvgPool2d):  # of all places of the window, those outside too
            terms = int(np.prod(self.sum_window.kernel))
            self.scale = [s / terms for s in self.scale]
            self.bias = [b / terms for b in self.bias]

    def layer(self, label: str, node: nir.NIRNode, thresholds: NDArray[Any]) -> ConvLayer:
        """The layer that fires if `scale * d + offset > threshold`."""

        def with_thresholds(threshold: NDArray[Any]) -> ConvLayer:
            return ConvLayer.from_weights(
                self.positive,
                self.shape,
                threshold,
                self.polarity.astype(np.int8),
                groups=self.groups,
                sum_window=self.sum_window,
                stride=self.window.stride,
                padding=self.window.padding,
                dilation=self.window.dilation,
                after=self.window.after,
            )

        try:
            plain = with_thresholds(np.zeros(len(self.scale)))
        except ValueError as error:
            raise ConversionError(f"{self.label}: {error}") from error
        shape = plain.sums_shape
        if thresholds.shape != shape or not np.isfinite(thresholds).all():
            raise ConversionError(f"{label} has thresholds {thresholds.shape}; expected {shape}, all finite")
        # How many biases add up: as many as the window has places on the map.
        times = np.ones(shape[1:]) if self.sum_window is None else _inside(self.sum_window, plain.conv_shape)
        reached = np.empty(shape, object)
        for channel, (scale, bias) in enumerate(zip(self.scale, self.bias, strict=True)):
            # Weights of c make a sum of spikes z = (a + 1) / 2 half as large, and add half their own sum.
            factor = scale if self.pixels else scale / 2
            pairs = list(zip(thresholds[channel].flat, times.flat, strict=True))
            found = {(t, n): _reached(Fraction(float(t)) - int(n) * bias, factor) for t, n in {*pairs}}
            reached[channel] = np.array([found[pair] for pair in pairs], object).reshape(shape[1:])
        if not self.pixels:
            reached -= self.polarity[:, None, None] * sums_of_weights(plain).astype(np.int64)
        threshold = _int64(reached)
        if not self.per_position and (threshold == threshold[:, :1, :1]).all():
            threshold = threshold[:, :1, :1]
        return with_thresholds(threshold)


class Spikes:
    """How many spikes of a convolution lie in each window: pooling, once a threshold follows."""

    def __init__(self, label: str, node: Any, layer: ConvLayer) -> None:
        self.label, self._layer = label, layer
        if isinstance(node, nir.Conv2d):
            weight, self._window = cropped(label, node, np.asarray(node.weight))
            self._share = 1
            square = (layer.channels, layer.channels, *self._window.kernel)
            if weight.shape != square:
                raise ConversionError(f"{label} is no sum over each channel, though its metadata say so")
            ones = np.eye(layer.channels)[:, :, None, None] * np.ones(self._window.kernel)
            if not np.array_equal(weight, ones) or node.groups != 1 or node.bias.any():
                raise ConversionError(f"{label} is no sum over each channel, though its metadata say so")
        else:
            self._window = _window(label, node, _pair(node.kernel_size))
            self._share = int(np.prod(self._window.kernel)) if isinstance(node, nir.AvgPool2d) else 1

    def follow(self, label: str, node: Any) -> None:
        raise ConversionError(f"{label} follows {self.label} without a threshold between them")

    def layer(self, label: str, node: nir.NIRNode, thresholds: NDArray[Any]) -> ConvLayer:
        """The convolution with this pooling behind it: OR of spikes, AND if all of a window must be there."""
        old = self._layer
        fields: dict[str, Any] = {
            name: getattr(self._window, name) for name in ("kernel", "stride", "padding", "dilation", "after")
        }
        shape = old.output_shape
        try:
            self._pooled(Pool(**fields))  # its sizes are checked before anything has them
            either = pool_limits(Pool(**fields), shape)
            all_of = pool_limits(Pool(**fields, every=tuple(range(old.channels))), shape)
        except ValueError as error:
            raise ConversionError(f"{self.label}: {error}") from error
        if thresholds.shape != either.shape:
            raise ConversionError(f"{label} has thresholds {thresholds.shape}; expected {either.shape}")
        # More than t spikes are at least floor(t) + 1; a mean's threshold is rounded, half a spike from both sides.
        enough = np.floor(thresholds * self._share) + 1
        fits = {kind: (enough == limit + 0.5).all(axis=(1, 2)) for kind, limit in ((False, either), (True, all_of))}
        neither = np.flatnonzero(~(fits[False] | fits[True]))
        if neither.size:
            raise ConversionError(
                f"{label}, behind {self.label}, asks in channel {neither[0]} neither for one spike of a window (OR) "
                "nor for all (AND); what else a pooling of spikes can be is not supported"
            )
        every = np.asarray(node.metadata.get("every", np.flatnonzero(~fits[False])), np.int64).tolist()
        if not (fits[True][every].all() and fits[False][[c for c in range(old.channels) if c not in every]].all()):
            raise ConversionError(f"{label} has metadata that say other channels than its thresholds")
        return self._pooled(Pool(**fields, every=tuple(every)))

    def _pooled(self, pool: Pool) -> ConvLayer:
        return ConvLayer(**vars(self._layer) | {"pools": (*self._layer.pools, pool)})


def grouped(label: str, node: nir.Conv2d) -> tuple[NDArray[Any], int]:
    """Weights (channels, inputs per group, rows, columns) and groups; written ones may have zeros between groups."""
    weight, groups = np.asarray(node.weight), int(node.groups)
    named = int(node.metadata.get("groups", 1))
    if groups > 1 or named <= 1 or weight.ndim != 4:
        return weight, groups
    if named > len(weight) or len(weight) % named or weight.shape[1] % named:
        raise ConversionError(f"{label} has weights of shape {weight.shape}, which do not part into {named} groups")
    blocks = weight.reshape(named, len(weight) // named, named, weight.shape[1] // named, *weight.shape[2:])
    own = np.eye(named, dtype=bool)
    if blocks.transpose(0, 2, 1, 3, 4, 5)[~own].any():
        raise ConversionError(f"{label} has weights between its {named} groups")
    return blocks.transpose(0, 2, 1, 3, 4, 5)[own].reshape(len(weight), -1, *weight.shape[2:]), named


def cropped(label: str, node: nir.Conv2d, weight: NDArray[Any]) -> tuple[NDArray[Any], Window]:
    """Weights and window of a convolution; a written one may have zeros around the kernel that its metadata name."""
    square = (weight.shape[2], weight.shape[3])
    window = _window(label, node, square)
    kernel = _pair(node.metadata.get("kernel", square))
    rims = [side - extent for side, extent in zip(square, kernel, strict=True)]
    inner = tuple(slice(rim // 2, side - rim // 2) for side, rim in zip(square, rims, strict=True))
    less = [rim // 2 * dilation for rim, dilation in zip(rims, window.dilation, strict=True)]
    outer = weight.copy()
    if all(rim >= 0 and rim % 2 == 0 for rim in rims):
        outer[:, :, inner[0], inner[1]] = 0
    if min(kernel) < 1 or outer.any() or any(p < q for p, q in zip(window.padding, less, strict=True)):
        raise ConversionError(f"{label} has no zeros around a kernel of {kernel}, though its metadata say so")
    padding = (window.padding[0] - less[0], window.padding[1] - less[1])
    return weight[:, :, inner[0], inner[1]], Window(kernel, window.stride, padding, window.dilation, after=window.after)


def _inside(window: Window, shape: tuple[int, ...]) -> NDArray[Any]:
    """How many of its places a window has on a map of `shape`, at each of its positions."""
    places: NDArray[Any] = window.views(np.ones((1, 1, *shape[1:])))[0, 0].sum(axis=(2, 3))
    return places


def _reached(limit: Fraction, factor: Fraction) -> int:
    """Of integers `polarity * d`, `factor * d > limit` is this integer reached, with the polarity of the factor."""
    return floor(limit / abs(factor)) + 1


def _int64(reached: NDArray[Any]) -> NDArray[Any]:
    """Thresholds (any shape) of Python integers as int64; those that no sum reaches lie just beyond what one can."""
    return reachable(reached).astype(np.int64)


def _signs(label: str, weight: NDArray[Any], polarity: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weights (units, n) of +c and -c as booleans, of units that are not inverted, and each unit's c."""
    values = np.asarray(weight, np.float64)
    size = np.abs(values)
    if not (np.isfinite(size).all() and (size == size[:, :1]).all() and size.all()):
        raise ConversionError(f"{label} has weights that are not +c and -c with one c, not 0, for each unit")
    return (values > 0) == (polarity > 0)[:, None], size[:, 0]


def _polarity(label: str, node: Any, units: int, default: NDArray[Any] | None = None) -> NDArray[Any]:
    """Which units the node's metadata call inverted; any choice describes the same function."""
    polarity = np.asarray(node.metadata.get("polarity", np.ones(units) if default is None else default), np.int64)
    if polarity.shape != (units,) or not np.isin(polarity, (-1, 1)).all():
        raise ConversionError(f"{label} has a polarity in its metadata that is not +1 or -1 for each unit")
    return polarity


def _bias(label: str, node: Any, units: int) -> list[float]:
    bias = np.zeros(units) if isinstance(node, (nir.Linear, nir.Scale)) else np.asarray(node.bias, np.float64)
    if bias.shape != (units,) or not np.isfinite(bias).all():
        raise ConversionError(f"{label} needs one finite bias for each of {units} units")
    values: list[float] = bias.tolist()
    return values


def _window(label: str, node: Any, kernel: Sequence[int]) -> Window:
    stride, dilation = _pair(node.stride), _pair(getattr(node, "dilation", 1))
    padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    if isinstance(padding, str):
        reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        if padding == "same" and stride != (1, 1):
            raise ConversionError(f"{label} has padding 'same' and a stride of {stride}")
        after = _pair([r % 2 for r in reach]) if padding == "same" else (0, 0)
        padding = [r // 2 for r in reach] if padding == "same" else 0
    else:
        after = (0, 0)
    try:
        return Window(_pair(kernel), stride, _pair(padding), dilation, after=after)
    except ValueError as error:
        raise ConversionError(f"{label}: {error}") from error


def _pair(value: Any) -> Pair:
    first, second = np.broadcast_to(np.asarray(value), (2,)).tolist()
    return int(first), int(second)
