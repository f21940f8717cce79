"""The nodes of NIR that one layer of a `BinaryGraph` becomes; see `lava_meta.converters.nir`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from lava_meta.errors import ConversionError
from lava_meta.graph import DenseLayer, Readout
from lava_meta.graph.conv import ConvLayer, Pool, Window
from lava_meta.graph.inputs import Binarize

EXACT = 2**51  # float64 holds every half-integer below
Nodes = Iterator[tuple[str, nir.NIRNode]]


def binarize_nodes(binarize: Binarize, shape: tuple[int, ...], time_step: float | None) -> Nodes:
    """What makes spikes of the inputs, of `shape`."""
    yield "inputs", nir.Scale(binarize.polarity.astype(np.float64).reshape(shape))
    yield "inputs_fires", _fires(_between(binarize.threshold).reshape(shape), time_step)


def dense_nodes(name: str, layer: DenseLayer, time_step: float | None, *, pixels: bool) -> Nodes:
    """A hidden dense layer's nodes by name, the last its spikes. `pixels`: whether it is the first layer."""
    weight, bias = _on_spikes(layer, pixels=pixels)
    shift = -_between(layer.threshold)
    sign = layer.polarity[:, None]
    metadata = {"polarity": layer.polarity.copy()}
    if layer.centred:
        yield f"{name}_sums", nir.Affine(stored(weight), bias)
        yield name, nir.Affine(stored(sign * centring(layer.n_out)), shift, metadata=metadata)
    else:
        yield name, nir.Affine(stored(sign * weight), layer.polarity * bias + shift, metadata=metadata)
    yield f"{name}_fires", _fires(np.zeros(layer.n_out), time_step)


def readout_nodes(name: str, layer: Readout, *, pixels: bool) -> Nodes:
    """The readout's sums, and its values if these are not the sums."""
    weight, bias = _on_spikes(layer, pixels=pixels)
    yield name, nir.Affine(stored(weight), bias)
    # An offset of -0.0 is written too: a network read back is equal to the byte.
    if (layer.scale != 1).any() or layer.offset.any() or np.signbit(layer.offset).any():
        yield f"{name}_values", nir.Affine(np.diag(layer.scale), layer.offset.copy())


def conv_nodes(name: str, layer: ConvLayer, time_step: float | None, *, pixels: bool) -> Nodes:
    """A convolution's nodes by name, the last its spikes."""
    window = layer.window
    weight = np.where(layer.weight, 1.0, -1.0) * layer.polarity[:, None] * (1 if pixels else 2)
    limit = np.broadcast_to(_between(layer.threshold), layer.sums_shape)
    if not pixels:
        limit = limit + layer.polarity[:, None, None] * sums_of_weights(layer)
    terms = 1 if layer.sum_window is None else int(np.prod(layer.sum_window.kernel))
    means = time_step is not None  # readers that know only LIF know only means over windows
    bias = np.zeros(layer.channels)
    # One limit for all positions goes into the bias, except under a sum, which would have to share it out.
    padded = layer.sum_window is not None and any(layer.sum_window.padding)
    if (limit == limit[:, :1, :1]).all() and (terms == 1 or means) and not padded:
        bias, limit = -limit[:, 0, 0] / terms, np.zeros(layer.sums_shape)
    metadata = {"polarity": layer.polarity.copy(), "per_position": int(layer.per_position), "groups": layer.groups}
    kernels = weight.reshape(layer.channels, -1, *window.kernel)
    yield name, convolution(name, kernels, layer.input_shape, window, layer.groups, bias, metadata)
    if layer.sum_window is not None:
        if layer.sum_window.dilation != (1, 1):
            raise ConversionError(f"{name} sums over a window with dilation, which NIR's pooling does not have")
        yield f"{name}_sums", pooling(f"{name}_sums", layer.sum_window, means=means)
    yield f"{name}_fires", _fires(limit / terms if means else limit, time_step)
    shape = layer.sums_shape
    for number, pool in enumerate(layer.pools, 1):
        label = f"{name}_pool{number}"
        before, limit = shape, pool_limits(pool, shape)
        shape = (limit.shape[0], limit.shape[1], limit.shape[2])
        if pool.dilation == (1, 1):
            yield label, pooling(label, pool, means=means)
            terms = int(np.prod(pool.kernel)) if means else 1
        else:
            # Each channel's own sum, as a convolution of ones.
            ones, zeros = np.ones((before[0], 1, *pool.kernel)), np.zeros(before[0])
            yield label, convolution(label, ones, before, pool, before[0], zeros, {"pool": 1})
            terms = 1
        yield f"{label}_fires", _fires(limit / terms, time_step, {"every": np.array(pool.every, np.int64)})


def centring(units: int) -> NDArray[Any]:
    """`n I - 1`: takes sums u to `n * u_j - sum_k u_k`."""
    return units * np.eye(units) - 1


def sums_of_weights(layer: ConvLayer) -> NDArray[Any]:
    """Of each position's window, (channels, down, across): padding has no weights."""
    sums: NDArray[Any] = layer.convolve(np.ones((1, layer.n_in)), np.where(layer.weight, 1.0, -1.0))[0]
    return sums


def pool_limits(pool: Pool, shape: tuple[int, int, int]) -> NDArray[Any]:
    """What the number of spikes in a window must exceed, (channels, down, across): half a spike short of enough."""
    inside = pool.views(np.ones((1, 1, *shape[1:])))[0].sum(axis=(3, 4))
    enough = np.ones((shape[0], *inside.shape[1:]))
    enough[list(pool.every)] = inside
    return enough - 0.5


def _between(threshold: NDArray[Any]) -> NDArray[Any]:
    """Halfway between the last sum that does not fire and the first that does; no sum reaches `EXACT`."""
    between: NDArray[Any] = np.clip(threshold, -EXACT, EXACT) - 0.5
    return between


def _on_spikes(layer: DenseLayer | Readout, *, pixels: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weights and bias that give `W x` from what NIR's units send: from pixels as they are, else from 0 and 1."""
    weight = np.where(layer.weight, 1.0, -1.0)
    return (weight, np.zeros(layer.n_out)) if pixels else (2 * weight, -weight.sum(axis=1))


def stored(weight: NDArray[Any]) -> NDArray[Any]:
    """Integers as float32 if these hold them: half the memory, nothing lost."""
    kind = np.float32 if not weight.size or np.abs(weight).max() < 2**24 else np.float64
    return weight.astype(kind)


def convolution(
    label: str,
    kernels: NDArray[Any],
    shape: tuple[int, ...],
    window: Window,
    groups: int,
    bias: NDArray[Any],
    metadata: dict[str, Any],
) -> nir.Conv2d:
    """Kernels (channels, inputs per group, ...) for images of `shape`. Groups become zeros between them.

    NIR's own check of shapes takes the channels of one group for all that a grouped convolution gets.
    """
    if window.kernel[0] != window.kernel[1]:
        metadata = metadata | {"kernel": np.array(window.kernel)}
        kernels, window = _squared(label, kernels, window)
    padding: tuple[int, int] | str = window.padding
    if any(window.after):
        reach = [dilation * (extent - 1) for dilation, extent in zip(window.dilation, window.kernel, strict=True)]
        same = [(r // 2, r % 2) for r in reach] == list(zip(window.padding, window.after, strict=True))
        if window.stride != (1, 1) or not same:
            raise _uneven(label)
        padding = "same"
    whole = np.zeros((len(kernels), shape[0], *window.kernel), stored(kernels).dtype)
    for group, share in enumerate(np.split(np.arange(len(kernels)), groups)):
        inputs = kernels.shape[1]
        whole[share, group * inputs : (group + 1) * inputs] = kernels[share]
    return nir.Conv2d(
        input_shape=(shape[1], shape[2]),
        weight=whole,
        stride=window.stride,
        padding=padding,
        dilation=window.dilation,
        groups=1,
        bias=bias,
        metadata=metadata,
    )


def _squared(label: str, kernels: NDArray[Any], window: Window) -> tuple[NDArray[Any], Window]:
    """The same convolution with a square kernel, zeros on both sides, and as much more padding.

    NIR's check of shapes takes the rows of a kernel for its columns too.
    """
    side = max(window.kernel)
    rims = [side - extent for extent in window.kernel]
    if any(rim % 2 for rim in rims):
        raise ConversionError(
            f"{label} has a kernel of {window.kernel}: NIR's are square, and this one has no middle in such a square"
        )
    around = [(rim // 2, rim // 2) for rim in rims]
    further = [rim // 2 * dilation for rim, dilation in zip(rims, window.dilation, strict=True)]
    padding = (window.padding[0] + further[0], window.padding[1] + further[1])
    square = Window((side, side), window.stride, padding, window.dilation, after=window.after)
    return np.pad(kernels, ((0, 0), (0, 0), *around)), square


def _uneven(label: str) -> ConversionError:
    return ConversionError(
        f"{label} has windows that reach outside further below or right (ceil_mode); NIR pads all sides alike"
    )


def pooling(label: str, window: Window, *, means: bool) -> nir.NIRNode:
    """Sums or means over windows. Raises `ConversionError` for windows that reach further to one side."""
    if any(window.after):
        raise _uneven(label)
    kind = nir.AvgPool2d if means else nir.SumPool2d
    return kind(*(np.array(extent) for extent in (window.kernel, window.stride, window.padding)))


def _fires(
    threshold: NDArray[Any], time_step: float | None, metadata: dict[str, NDArray[Any]] | None = None
) -> nir.NIRNode:
    if time_step is None:
        return nir.Threshold(np.array(threshold), metadata=metadata or {})
    zeros, ones = np.zeros(threshold.shape), np.ones(threshold.shape)
    return nir.LIF(
        tau=time_step * ones,
        r=ones,
        v_leak=zeros,
        v_threshold=np.array(threshold),
        v_reset=zeros.copy(),
        metadata=metadata or {},
    )
