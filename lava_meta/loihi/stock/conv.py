"""Convolutions and pooling as stock Processes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.errors import ConversionError
from lava_meta.graph.conv import ConvLayer, Pool, Window
from lava_meta.loihi.stock.dense import Levels, half_up, message_bits
from lava_meta.loihi.stock.parts import StockLayer
from lava_meta.loihi.stock.units import add_units


def conv_layer(name: str, layer: ConvLayer, levels: Levels) -> StockLayer:
    """Plan a convolution and its pooling; its input as for `dense_layer`.

    Sums over a window behind the convolution become part of its kernel, unless they reach outside. Pooling is a layer
    of threshold units over the window: OR reaches 1, AND the number of signs in the window. Raises `ConversionError`.
    """
    summed = layer.sum_window
    if summed is not None and any((*summed.padding, *summed.after)):
        raise ConversionError(
            f"{name} sums over windows that reach outside (padded means, or ceil_mode), which no kernel does: take "
            "means without padding and ceil_mode"
        )
    plan = StockLayer(name, latency=1 + len(layer.pools))
    weight = layer.polarity[:, None] * np.where(layer.weight, 1.0, -1.0)
    ones = np.ones((1, layer.n_in))
    # Sums of the negative and of the positive weights, at the border without those outside.
    negative = layer.convolve(ones, np.minimum(weight, 0))[0].astype(np.int64)
    positive = layer.convolve(ones, np.maximum(weight, 0))[0].astype(np.int64)
    least, most = levels or (0, 1)
    low, high = most * negative + least * positive, most * positive + least * negative
    theta = np.broadcast_to(layer.threshold, low.shape)
    if levels is None:
        theta = half_up(theta, negative + positive)
    neurons = add_units(plan, as_map(theta), as_map(low), as_map(high))
    kernel, window = _kernel(layer, weight)
    synapses = _add_conv(plan, "synapses", kernel, window, layer.input_shape, layer.groups, message_bits(levels))
    plan.inputs.append(synapses)
    plan.connect(synapses, neurons)
    shape = layer.sums_shape
    for i, pool in enumerate(layer.pools, 1):
        neurons, shape = _add_pool(plan, f"pool{i}", pool, shape, neurons)
    plan.output = neurons
    return plan


def as_map(values: NDArray[Any]) -> NDArray[Any]:
    """(channels, rows, columns) to (rows, columns, channels), as Lava has maps."""
    return np.ascontiguousarray(values.transpose(1, 2, 0))


def _add_conv(
    plan: StockLayer,
    name: str,
    kernel: NDArray[Any],
    window: Window,
    shape: tuple[int, ...],
    groups: int,
    bits: int,
) -> str:
    """A stock `Conv` of the weights (channels, inputs per group, rows, columns), doubled.

    Lava's convolution turns the kernel round, as mathematics does and networks do not.
    """
    kernel, window = _alike(kernel, window)
    kernel, groups = _few_groups(kernel, groups)
    weight = 2 * kernel[:, :, ::-1, ::-1].transpose(0, 2, 3, 1)
    return plan.add(
        name,
        "Conv",
        weight=np.ascontiguousarray(weight).astype(np.int32),
        input_shape=(shape[1], shape[2], shape[0]),
        groups=groups,
        num_message_bits=bits,
        stride=window.stride,
        padding=window.padding,
        dilation=window.dilation,
    )


def _few_groups(kernel: NDArray[Any], groups: int) -> tuple[NDArray[Any], int]:
    """The same convolution in at most 127 groups, with zeros inside them: Lava keeps their number in 8 bits."""
    fewer = max(number for number in range(1, 128) if groups % number == 0)
    together = groups // fewer
    channels, inputs = kernel.shape[:2]
    place = np.arange(channels) // (channels // groups) % together  # of a channel's old group in its new one
    whole = np.zeros((channels, together, *kernel.shape[1:]), kernel.dtype)
    whole[np.arange(channels), place] = kernel
    return whole.reshape(channels, together * inputs, *kernel.shape[2:]), fewer


def _add_pool(
    plan: StockLayer, name: str, pool: Pool, shape: tuple[int, int, int], neurons: str
) -> tuple[str, tuple[int, int, int]]:
    """Synapses and threshold units of one pooling of `neurons`, (channels, rows, columns); their name and shape."""
    channels = shape[0]
    synapses = _add_conv(
        plan,
        f"{name}_synapses",
        np.ones((channels, 1, *pool.kernel), np.int64),
        pool,
        shape,
        channels,
        0,
    )
    seen = pool.views(np.ones((1, *shape), np.int64))[0].sum(axis=(3, 4))  # signs in each window
    theta = np.ones_like(seen)
    theta[list(pool.every)] = seen[list(pool.every)]
    units = add_units(plan, as_map(theta), as_map(np.zeros_like(seen)), as_map(seen), name)
    plan.connect(neurons, synapses)
    plan.connect(synapses, units)
    return units, (channels, *pool.positions(*shape[1:]))


def _kernel(layer: ConvLayer, weight: NDArray[Any]) -> tuple[NDArray[Any], Window]:
    """The weights (channels, inputs per group, rows, columns) and their window; with those of `sum_window`, if any."""
    window, summed = layer.window, layer.sum_window
    kernel = weight.reshape(layer.channels, -1, *window.kernel).astype(np.int64)
    if summed is None:
        return kernel, window
    # The distance of two neighbours of the sums' window, in pixels, and what both windows reach together.
    steps = [stride * dilation for stride, dilation in zip(window.stride, summed.dilation, strict=True)]
    spans = _spans(window)
    reach = [span + step * (size - 1) for span, step, size in zip(spans, steps, summed.kernel, strict=True)]
    both = np.zeros((*kernel.shape[:2], *reach), np.int64)
    for row in range(0, steps[0] * summed.kernel[0], steps[0]):
        for column in range(0, steps[1] * summed.kernel[1], steps[1]):
            rows = slice(row, row + spans[0], window.dilation[0])
            columns = slice(column, column + spans[1], window.dilation[1])
            both[:, :, rows, columns] += kernel
    stride = (window.stride[0] * summed.stride[0], window.stride[1] * summed.stride[1])
    return both, Window((reach[0], reach[1]), stride, window.padding, after=window.after)


def _alike(kernel: NDArray[Any], window: Window) -> tuple[NDArray[Any], Window]:
    """The same convolution with as much padding before as behind, which is all that Lava has.

    Rows and columns of zeros before the kernel take up what its window would see too early.
    """
    rows, columns = window.after
    if not rows and not columns:
        return kernel, window
    spans = _spans(window)
    wide = np.zeros((*kernel.shape[:2], spans[0] + rows, spans[1] + columns), kernel.dtype)
    wide[:, :, rows :: window.dilation[0], columns :: window.dilation[1]] = kernel
    padding = (window.padding[0] + rows, window.padding[1] + columns)
    return wide, Window((wide.shape[2], wide.shape[3]), window.stride, padding)


def _spans(window: Window) -> list[int]:
    """Rows and columns from the first to the last that a window sees."""
    return [dilation * (size - 1) + 1 for size, dilation in zip(window.kernel, window.dilation, strict=True)]
