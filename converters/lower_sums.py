"""Linear layers and convolutions with constant weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lava_meta.converters.expressions import Leaf, Source
from lava_meta.converters.lower_joins import JoinLowering
from lava_meta.converters.lower_values import (
    Cannot,
    Value,
    compressed,
    dyadic,
    only_signs,
    unseen,
)
from lava_meta.converters.monotone import UNIT_ROUNDOFF
from lava_meta.converters.recording import Ref, Step
from lava_meta.converters.weights import Decomposed, decompose
from lava_meta.graph.conv import Window
from lava_meta.graph.nodes import (
    MOST,
    Conv,
    Curve,
    Linear,
    Node,
    Shape,
    weight_of,
)

_STREAM_BITS = 28  # of a stream that is multiplied with wide weights

Product = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]  # sums of float64, as the node sums integers


class SumLowering(JoinLowering):
    """Sums of weights times integers."""

    def _do_addmm(self, step: Step) -> Value:
        if any(float(step.kwargs.get(name, 1)) != 1 for name in ("alpha", "beta")):
            raise Cannot("scales its sums by alpha or beta")
        return self._linear(step, step.args[1], step.args[2], step.args[0])

    def _do_mm(self, step: Step) -> Value:
        return self._linear(step, step.args[0], step.args[1], None)

    def _do_bmm(self, step: Step) -> Value:
        """A matrix product for each image, with the same constant matrix."""
        a, b = (self._given(part) for part in step.args)
        value, matrix = (a, b) if isinstance(a, Value) else (b, a)
        if not isinstance(matrix, Tensor) or not isinstance(value, Value) or not bool((matrix == matrix[:1]).all()):
            raise Cannot("multiplies values with values, as attention does; it is supported element by element")
        if value is a:
            return self._linear(step, value, matrix[0], None)
        turned = self._linear(step, self._turned(value, unseen(value.ref)), matrix[0].T, None)
        return self._turned(turned, turned.ref)

    def _turned(self, value: Value, ref: Ref) -> Value:
        """The last two extents exchanged."""
        size = math.prod(value.shape)
        numbers = torch.arange(1, self.images * size + 1, dtype=torch.float64).reshape(self.images, *value.shape)
        return self._placed(value, numbers.transpose(-1, -2), ref)

    def _linear(self, step: Step, x: Any, weight: Any, bias: Any) -> Value:
        x, weight, bias = self._given(x), self._given(weight), self._given(bias)
        if isinstance(weight, Value) or isinstance(bias, Value) or not isinstance(x, Value):
            raise Cannot("multiplies values with values, or weights that depend on the images")
        value = x
        matrix = weight.detach().double().numpy().T
        leaf = self.exact(value)
        gain = np.broadcast_to(leaf.gain, leaf.source.shape)
        if (gain != gain.reshape(-1, gain.shape[-1])[:1]).any():
            leaf = self.streamed(value)
            gain = np.broadcast_to(leaf.gain, leaf.source.shape)
        each = gain.reshape(-1, gain.shape[-1])[0]

        def sums(node_weight: Any, source: str) -> Node:
            return Linear((source,), node_weight)

        def product(x: NDArray[Any], w: NDArray[Any]) -> NDArray[Any]:
            made: NDArray[Any] = x @ w.T
            return made

        return self._summed(step, leaf, matrix, each, bias, sums, product)

    def _do_convolution(self, step: Step) -> Value:
        x, weight, bias, stride, padding, dilation, transposed, _, groups = step.args
        weight, bias = self._given(weight), self._given(bias)
        if isinstance(weight, Value) or isinstance(bias, Value):
            raise Cannot("convolves with weights that depend on the images")
        if weight.ndim not in (3, 4):
            raise Cannot("is a convolution of three dimensions; one and two are supported")
        if transposed:
            return self._transposed(step, self._value(x), weight, bias, groups)
        value, flat = self._value(x), weight.ndim == 3
        ones, zeros = ((1,), (0,)) if flat else ((), ())
        kernel = _pair((*ones, *weight.shape[2:]))
        window = Window(kernel, _pair((*ones, *stride)), _pair((*zeros, *padding)), _pair((*ones, *dilation)))
        if not flat:
            return self._convolved(step, value, weight, bias, window, groups)
        row = self._reshaped(value, (value.shape[0], 1, value.shape[1]))  # (channels, length) as one row
        made = self._convolved(step, row, weight, bias, window, groups)
        return self._reshaped(made, (made.shape[0], made.shape[2]))

    def _transposed(self, step: Step, value: Value, weight: Tensor, bias: Tensor | None, groups: int) -> Value:
        """Inputs apart by the stride, zeros between and around them, and a convolution with the kernels turned."""
        stride, padding, dilation, _, after = step.args[3:8]
        if weight.ndim == 3:
            raise Cannot("is a transposed convolution of one dimension; those of two are supported")
        channels, rows, columns = value.shape
        numbers = torch.arange(1, self.images * math.prod(value.shape) + 1, dtype=torch.float64)
        wide = torch.zeros(self.images, channels, (rows - 1) * stride[0] + 1, (columns - 1) * stride[1] + 1).double()
        wide[..., :: stride[0], :: stride[1]] = numbers.reshape(self.images, *value.shape)
        kernel = (int(weight.shape[2]), int(weight.shape[3]))
        down, across = (step_ * (taps - 1) - pad for step_, taps, pad in zip(dilation, kernel, padding, strict=True))
        spread = torch.nn.functional.pad(wide, (across, across + after[1], down, down + after[0]))
        turned = weight.flip(2, 3).reshape(groups, channels // groups, -1, *kernel).transpose(1, 2)
        window = Window(kernel, dilation=_pair(dilation))
        moved = self._placed(value, spread, unseen(value.ref))
        return self._convolved(step, moved, turned.reshape(-1, channels // groups, *kernel), bias, window, groups)

    def _reshaped(self, value: Value, shape: Shape) -> Value:
        numbers = torch.arange(1, self.images * math.prod(shape) + 1, dtype=torch.float64).reshape(self.images, *shape)
        return self._placed(value, numbers, value.ref)

    def _convolved(
        self, step: Step, value: Value, weight: Tensor, bias: Tensor | None, window: Window, groups: int
    ) -> Value:
        leaf = self.exact(value)
        channels = leaf.source.shape[0]
        gain = np.broadcast_to(leaf.gain, leaf.source.shape).reshape(channels, -1)
        if (gain != gain[:, :1]).any():
            leaf = self.streamed(value)
            gain = np.broadcast_to(leaf.gain, leaf.source.shape).reshape(channels, -1)
        by_group = np.repeat(gain[:, 0].reshape(groups, -1), math.prod(window.kernel), axis=1)  # (groups, fan_in)
        each = np.repeat(by_group, len(weight) // groups, axis=0)

        def product(x: NDArray[Any], w: NDArray[Any]) -> NDArray[Any]:
            image, kernels = (torch.from_numpy(np.array(part)) for part in (x[None], w))
            found = torch.nn.functional.conv2d(
                image,
                kernels.reshape(len(w), -1, *window.kernel),
                None,
                window.stride,
                window.padding,
                window.dilation,
                groups,
            )
            result: NDArray[Any] = found[0].numpy()
            return result

        matrix = weight.detach().double().numpy().reshape(len(weight), -1)
        return self._summed(
            step, leaf, matrix, each, bias, lambda made, source: Conv((source,), made, window, groups), product
        )

    def _summed(
        self,
        step: Step,
        leaf: Leaf,
        matrix: NDArray[Any],
        each: NDArray[Any],
        bias: Tensor | None,
        node_of: Callable[[Any, str], Node],
        product: Product,
    ) -> Value:
        """Sums of the weights `matrix` (units, fan_in) times a leaf; `each`: its gains, by input or by weight."""
        if not np.isfinite(matrix).all():
            raise Cannot("has weights that are not finite: training diverged, or the file is damaged")
        one = float(each.reshape(-1)[0])
        alike = bool((each == one).all())
        effective = matrix if alike else matrix * each
        leaf, scale = self._narrowed(leaf, effective, step)
        if scale != 1.0:
            one *= scale
            effective = matrix if alike else effective * scale
        largest = leaf.source.largest
        made = self._decomposed(effective, largest)
        gain = made.unit * (one if alike else 1.0)
        node = node_of(weight_of(made.integers), leaf.source.node)
        ref = step.outputs[0]
        assert ref is not None
        weights = float(np.abs(made.integers).astype(np.float64).sum(axis=1).max())
        error = weights * leaf.source.error + made.error * matrix.shape[1] * largest
        source = self._add(ref, node, (), error=error)
        binary = bool((np.abs(made.integers) == 1).all())
        if binary and only_signs(leaf.source) and _of_one_parity(source):
            source = replace(source, step=2)
            self._sources[source.node] = source
        rank = len(source.shape)
        by_unit = (len(matrix), *(1,) * (rank - 1)) if isinstance(node, Conv) else (*(1,) * (rank - 1), len(matrix))
        constant = _constant(leaf, matrix, bias, product, source.shape, by_unit)
        slack = _sum_slack(leaf, matrix, made, gain)
        return self._made(Leaf(source, gain.reshape(by_unit), constant, slack), source.shape, ref)

    def _decomposed(self, weights: NDArray[Any], largest: int) -> Decomposed:
        """Weights (units, fan_in) as integers."""
        return decompose(weights, largest, MOST // 4)

    def _narrowed(self, leaf: Leaf, weights: NDArray[Any], step: Step) -> tuple[Leaf, float]:
        """A stream with so few bits that sums of it times wide weights fit, and what its unit has grown by."""
        largest = leaf.source.largest
        small = decompose(weights, largest, MOST // 4)
        if largest < 2**_STREAM_BITS or (small.error == 0 and small.close):
            return leaf, 1.0
        factor = 2.0 ** (largest.bit_length() - _STREAM_BITS)
        ones = (1,) * len(leaf.source.shape)
        node = Curve(
            (leaf.source.node,), np.zeros((1, *ones), np.int64), np.full((1, *ones), 1 / factor), np.zeros((1, *ones))
        )
        source = self._add(step.outputs[0], node, (), error=leaf.source.error / factor + 0.5)  # type: ignore[arg-type]
        slack = leaf.slack + 0.5 * factor * float(np.abs(leaf.gain).max())
        return Leaf(source, leaf.gain * factor, leaf.constant, slack), factor


def _constant(
    leaf: Leaf, matrix: NDArray[Any], bias: Tensor | None, product: Product, shape: Shape, by_unit: Shape
) -> NDArray[Any]:
    """What the leaf's constant and the bias add to each sum."""
    constant = np.zeros((1,) * len(shape))
    if leaf.constant.any():
        real = np.ascontiguousarray(np.broadcast_to(leaf.constant, leaf.source.shape))
        constant = compressed(np.asarray(product(real, matrix)).reshape(shape))
    if bias is not None:
        constant = constant + bias.detach().double().numpy().reshape(by_unit)
    if not np.isfinite(constant).all():
        raise Cannot("has a bias that is not finite: training diverged, or the file is damaged")
    return constant


def _sum_slack(leaf: Leaf, matrix: NDArray[Any], made: Decomposed, gain: NDArray[Any]) -> float:
    """By how much the model's sums may differ: by what they sum, by float64's rounding, and by rounded weights."""
    powers = dyadic(gain.reshape(-1)) and dyadic(leaf.gain.reshape(-1))
    if leaf.slack == 0 and made.error == 0 and made.close and powers and not leaf.constant.any():
        return 0.0
    fan_in, largest = matrix.shape[1], leaf.source.largest
    values = np.abs(leaf.gain).max() * largest + np.abs(leaf.constant).max()
    heaviest = float(np.abs(matrix).sum(axis=1).max())
    slack = float(heaviest * leaf.slack + (2 * fan_in + 8) * UNIT_ROUNDOFF * heaviest * values)
    return slack + float(made.error * fan_in * largest * np.abs(gain).max())


def _of_one_parity(source: Source) -> bool:
    return bool((source.low == -source.high).all()) and len(np.unique(source.low % 2)) == 1


def _pair(numbers: Sequence[int]) -> tuple[int, int]:
    both = [int(number) for number in numbers]
    return (both[0], both[0]) if len(both) == 1 else (both[0], both[1])
