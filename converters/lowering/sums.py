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

from lava_meta.converters.functions.expressions import Known, Leaf, Slack, Source
from lava_meta.converters.functions.monotone import UNIT_ROUNDOFF
from lava_meta.converters.lowering.joins import JoinLowering
from lava_meta.converters.lowering.values import (
    Cannot,
    Mixes,
    Value,
    compressed,
    dyadic,
    only_signs,
    unit_of,
    unseen,
)
from lava_meta.converters.lowering.written_steps import grouped_product, scaled_sum
from lava_meta.converters.lowering.written_volumes import convolved
from lava_meta.converters.recording.steps import Ref, Step
from lava_meta.converters.weights import Decomposed, decompose
from lava_meta.graph.conv import Window
from lava_meta.graph.nodes import (
    MOST,
    Add,
    Conv,
    Curve,
    Linear,
    MatMul,
    Node,
    Shape,
    weight_of,
)

_STREAM_BITS = 28  # of a stream that is multiplied with wide weights
_COARSE = 2.0**-32  # a unit of these bits from which the others are multiplied too
_HIGH_BITS = 22  # of the part that is multiplied first: they leave room for 38 bits of weights
_LOW_BITS = 22  # of the rest, if their unit is `_FINE`: with 24 bits of weights one product in float64 does
_FINE = 2.0**-26
_ONE_PRODUCT = 2**52  # what its sums stay below
_MOST_SUM = MOST // 4

Product = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]  # sums of float64, as the node sums integers


class SumLowering(JoinLowering):
    """Sums of weights times integers."""

    def _do_addmm(self, step: Step) -> Value:
        if _scales(step) or isinstance(self._given(step.args[2]), Value):
            return self._scaled_sum(step)
        return self._linear(step, step.args[1], step.args[2], step.args[0])

    def _scaled_sum(self, step: Step) -> Value:
        found: Value = self._written(step, scaled_sum)[0]
        return found

    def _do_mm(self, step: Step) -> Value:
        """A matrix product; of an image read alone also with a constant on the left, or of two values."""
        a, b = (self._given(part) for part in step.args)
        if not isinstance(b, Value):
            return self._linear(step, step.args[0], step.args[1], None)
        if self.images > 1:
            raise Mixes("multiplies values of all images with each other, or a constant with the images as its columns")
        found: Value = self._written(step, _turned_product if isinstance(a, Tensor) else _product_of_one)[0]
        return found

    def _do_bmm(self, step: Step) -> Value:
        """A matrix product for each image, with another value or with the same constant matrix."""
        a, b = (self._given(part) for part in step.args)
        if isinstance(a, Value) and isinstance(b, Value):
            ref = step.outputs[0]
            assert ref is not None
            return self._matrix_product(a, b, ref)
        value, matrix = (a, b) if isinstance(a, Value) else (b, a)
        if not isinstance(matrix, Tensor) or not isinstance(value, Value):
            raise Cannot("multiplies constants, or what is no value")
        if not bool((matrix == matrix[:1]).all()):
            return self._grouped(step, matrix, turned=value is b)
        if value is a:
            return self._linear(step, value, matrix[0], None)
        turned = self._linear(step, self._turned(value, unseen(value.ref)), matrix[0].T, None)
        return self._turned(turned, turned.ref)

    def _grouped(self, step: Step, matrices: Tensor, *, turned: bool) -> Value:
        each = matrices.reshape(self.images, -1, *matrices.shape[1:]) if len(matrices) % self.images == 0 else None
        if each is None or not bool((each == each[:1]).all()):
            raise Mixes("multiplies each image with another constant matrix; one for all, or one a group, is supported")

        def product(a: Tensor, b: Tensor) -> Tensor:
            if not turned:
                return grouped_product(self.images, a, b)
            return grouped_product(self.images, b.transpose(1, 2), a.transpose(1, 2)).transpose(1, 2)

        found: Value = self._written(step, product)[0]
        return found

    def _do_baddbmm(self, step: Step) -> Value:
        """A matrix product for each image, and what is added to it."""
        if _scales(step):
            return self._scaled_sum(step)
        ref = step.outputs[0]
        assert ref is not None
        product = self._do_bmm(replace(step, args=step.args[1:], kwargs={}, outputs=(unseen(ref),)))
        return self._plus(product, self._given(step.args[0]), ref)

    def _plus(self, value: Value, other: Any, ref: Ref) -> Value:
        """A value and another, or a constant."""
        if isinstance(other, Value):
            return self._sum([value, other], ref)
        return self._applied(torch.add, ((value, other), {}), value, ref)

    def _matrix_product(self, a: Value, b: Value, ref: Ref) -> Value:
        """A matrix product of two values: sums of products of their integers, of which streams keep what fits."""
        leaves = [self._of_one_gain(value) for value in (a, b)]
        terms = a.shape[-1]
        room = MOST.bit_length() - 2 - terms.bit_length()
        bits = [leaf.source.largest.bit_length() for leaf in leaves]
        kept = [min(own, max(room // 2, room - other)) for own, other in zip(bits, reversed(bits), strict=True)]
        leaves = [self._shortened(leaf, most, ref) for leaf, most in zip(leaves, kept, strict=True)]
        x, y = (leaf.source for leaf in leaves)
        source = self._add(ref, MatMul((x.node, y.node)), ())
        gains = [float(leaf.gain.reshape(-1)[0]) for leaf in leaves]
        moves = any(leaf.slack.proven for leaf in leaves)
        rounds = moves or not dyadic(np.array(gains)) or source.largest >= 2**53
        rounding = (terms + 4) * UNIT_ROUNDOFF if rounds else 0.0

        def slack(known: Known) -> float:
            a, b = (leaf.slack(known) for leaf in leaves)
            size, other = (abs(gain) * known.largest(part) for gain, part in zip(gains, (x, y), strict=True))
            return terms * (size * b + other * a + a * b + rounding * size * other)

        unit = np.full((1,) * len(source.shape), gains[0] * gains[1])
        return self._made(Leaf(source, unit, 0 * unit, Slack(slack)), source.shape, ref)

    def _of_one_gain(self, value: Value) -> Leaf:
        """A node whose integers times one number are the value."""
        leaf = self.exact(value)
        gain = leaf.gain.reshape(-1)
        return self.streamed(value) if leaf.constant.any() or (gain != gain[0]).any() else leaf

    def _turned(self, value: Value, ref: Ref) -> Value:
        """The last two extents exchanged."""
        return self._placed(value, self._numbers((self.images, *value.shape)).transpose(-1, -2), ref)

    def _linear(self, step: Step, x: Any, weight: Any, bias: Any) -> Value:
        x, weight, bias = self._given(x), self._given(weight), self._given(bias)
        if isinstance(weight, Value) or isinstance(bias, Value) or not isinstance(x, Value):
            raise Cannot("multiplies values with values, or weights that depend on the images")
        if len(x.shape) > 2:  # rows of one matrix, whatever their order
            ref = step.outputs[0]
            assert ref is not None
            inside, rows = replace(step, outputs=(unseen(ref),)), (math.prod(x.shape[:-1]), x.shape[-1])
            flat = self._linear(inside, self._shaped(x, Ref(-1, (self.images, *rows))), weight, bias)
            return self._shaped(flat, ref if ref.number >= 0 else Ref(-1, (self.images, *x.shape[:-1], flat.shape[-1])))
        value = x
        matrix = weight.detach().double().numpy().T
        leaf = self._multiplied(value, matrix)
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
        x, weight, bias, stride, padding, dilation, transposed, after, groups = step.args
        weight, bias = self._given(weight), self._given(bias)
        if isinstance(weight, Value) or isinstance(bias, Value):
            raise Cannot("convolves with weights that depend on the images")
        if weight.ndim == 5:
            found: Value = self._written(step, convolved)[0]
            return found
        value, maps = self._value(x), weight.ndim - 1  # of a map of channels: its extents
        before, extents = value.shape[:-maps], value.shape[1 - maps :]
        copies = math.prod(before)  # maps side by side, as the frames of a series: groups of the same weights
        weight, bias = weight.repeat(copies, *(1,) * maps), None if bias is None else bias.repeat(copies)
        if maps == 2:  # (channels, length) as one row
            weight, extents = weight.unsqueeze(2), (1, *extents)
        ones, zeros = ((1,), (0,)) if maps == 2 else ((), ())
        window = Window(
            _pair(weight.shape[2:]), _pair((*ones, *stride)), _pair((*zeros, *padding)), _pair((*ones, *dilation))
        )
        value = self._reshaped(value, (math.prod(value.shape) // math.prod(extents), *extents))
        if transposed:
            made = self._transposed(step, value, weight, bias, window, _pair((*zeros, *after)), copies * groups)
        else:
            made = self._convolved(step, value, weight, bias, window, copies * groups)
        return self._reshaped(made, (*before, made.shape[0] // copies, *made.shape[4 - maps :]))

    def _transposed(
        self,
        step: Step,
        value: Value,
        weight: Tensor,
        bias: Tensor | None,
        given: Window,
        after: tuple[int, int],
        groups: int,
    ) -> Value:
        """Inputs apart by the stride, zeros between and around them, and a convolution with the kernels turned."""
        stride, padding, dilation = given.stride, given.padding, given.dilation
        channels, rows, columns = value.shape
        wide = torch.zeros(self.images, channels, (rows - 1) * stride[0] + 1, (columns - 1) * stride[1] + 1).double()
        wide[..., :: stride[0], :: stride[1]] = self._numbers((self.images, *value.shape))
        kernel = given.kernel
        down, across = (step_ * (taps - 1) - pad for step_, taps, pad in zip(dilation, kernel, padding, strict=True))
        spread = torch.nn.functional.pad(wide, (across, across + after[1], down, down + after[0]))
        turned = weight.flip(2, 3).reshape(groups, channels // groups, -1, *kernel).transpose(1, 2)
        window = Window(kernel, dilation=dilation)
        moved = self._placed(value, spread, unseen(value.ref))
        return self._convolved(step, moved, turned.reshape(-1, channels // groups, *kernel), bias, window, groups)

    def _reshaped(self, value: Value, shape: Shape) -> Value:
        if shape == value.shape:
            return value
        return self._shaped(value, Ref(value.ref.number, (self.images, *shape)))

    def _convolved(
        self, step: Step, value: Value, weight: Tensor, bias: Tensor | None, window: Window, groups: int
    ) -> Value:
        matrix = weight.detach().double().numpy().reshape(len(weight), -1)
        leaf = self._multiplied(value, matrix)
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
        most: int = _MOST_SUM,
    ) -> Value:
        """Sums of the weights `matrix` (units, fan_in) times a leaf; `each`: its gains, by input or by weight.

        Where weights must be rounded for it, the sums' integers stay below `most`.
        """
        if not np.isfinite(matrix).all():
            raise Cannot("has weights that are not finite: training diverged, or the file is damaged")
        one = float(each.reshape(-1)[0])
        alike = bool((each == one).all())
        effective = matrix if alike else matrix * each
        halves = self._halves(leaf, effective, step) if alike else None
        if halves is not None:
            ref = step.outputs[0]
            assert ref is not None
            unseen_step = replace(step, outputs=(unseen(ref),))
            high, low = (
                self._summed(unseen_step, half, matrix, each * (unit_of(half) / one), own, node_of, product, most)
                for (half, most), own in zip(halves, (bias, None), strict=True)
            )
            return self._sum([high, low], ref)
        leaf, scale = self._narrowed(leaf, effective, step)
        if scale != 1.0:
            one *= scale
            effective = matrix if alike else effective * scale
        largest = leaf.source.largest
        made = self._decomposed(effective, largest, most)
        gain = made.unit * (one if alike else 1.0)
        node = node_of(weight_of(made.integers), leaf.source.node)
        ref = step.outputs[0]
        assert ref is not None
        source = self._add(ref, node, ())
        binary = bool((np.abs(made.integers) == 1).all())
        if binary and only_signs(leaf.source) and _of_one_parity(source):
            source = replace(source, step=2)
            self._sources[source.node] = source
        rank = len(source.shape)
        by_unit = (len(matrix), *(1,) * (rank - 1)) if isinstance(node, Conv) else (*(1,) * (rank - 1), len(matrix))
        constant = _constant(leaf, matrix, bias, product, source.shape, by_unit)
        slack = _sum_slack(leaf, matrix, made, gain)
        return self._made(Leaf(source, gain.reshape(by_unit), constant, slack), source.shape, ref)

    def _decomposed(self, weights: NDArray[Any], largest: int, most: int) -> Decomposed:
        """Weights (units, fan_in) as integers."""
        return decompose(weights, largest, most)

    def _multiplied(self, value: Value, weights: NDArray[Any]) -> Leaf:
        """A node that holds a value: a stream, where gains of its own and wide weights leave integers too few bits."""
        leaf = self.exact(value)
        largest = leaf.source.largest
        plain = not leaf.constant.any() and bool((leaf.gain == leaf.gain.reshape(-1)[0]).all())
        if plain or largest < 2**_STREAM_BITS or decompose(weights, largest, _MOST_SUM).close:
            return leaf
        return self.streamed(value)

    def _halves(self, leaf: Leaf, weights: NDArray[Any], step: Step) -> list[tuple[Leaf, int]] | None:
        """A stream as a coarse one and what that leaves, where its bounds leave too few bits for wide weights.

        With each, what its sums stay below.
        """
        bits = leaf.source.largest.bit_length()
        unit = unit_of(leaf) * 2.0 ** (bits - _STREAM_BITS)
        if bits <= _STREAM_BITS or unit <= _COARSE or leaf.constant.any():
            return None
        small = decompose(weights, leaf.source.largest, _MOST_SUM)
        if small.error == 0 and small.close:
            return None
        ref = step.outputs[0]
        assert ref is not None
        high = self._shortened(leaf, _HIGH_BITS, ref)
        factor = unit_of(high) / unit_of(leaf)
        back = self._rounded(high, -1 / factor, ref)
        rest = self._add(ref, Add((leaf.source.node, back.source.node)), ())
        # What is left is at most half of the coarse unit, which the bounds of a difference do not know.
        start = np.array([-2 * factor, -factor, factor]).reshape(3, *(1,) * len(rest.shape)).astype(np.int64)
        share = max(1.0, factor / 2.0**_LOW_BITS)
        short = unit_of(leaf) * share <= _FINE
        share = share if short else 1.0
        slope = np.array([0.0, 1 / share, 0.0]).reshape(start.shape)
        within = Curve((rest.node,), start, slope, np.clip(start, -factor, factor) / share)
        low = self._add(ref, within, ())
        rounding = 0.5 * (share - 1) * float(np.abs(leaf.gain).max())  # none, if all bits are kept
        slack = Slack(lambda known: leaf.slack(known) + rounding)
        coarse = Leaf(high.source, high.gain, high.constant)
        return [
            (coarse, _MOST_SUM),
            (Leaf(low, leaf.gain * share, leaf.constant, slack), _ONE_PRODUCT if short else _MOST_SUM),
        ]

    def _narrowed(self, leaf: Leaf, weights: NDArray[Any], step: Step) -> tuple[Leaf, float]:
        """A stream with so few bits that sums of it times wide weights fit, and what its unit has grown by."""
        largest = leaf.source.largest
        if largest < 2**_STREAM_BITS:
            return leaf, 1.0
        small = decompose(weights, largest, _MOST_SUM)
        bits = _STREAM_BITS
        if small.error == 0 and small.close:  # few-bit weights
            heaviest = float(np.abs(small.integers).sum(axis=1).max())
            bits = max(bits, MOST.bit_length() - 1 - math.frexp(heaviest)[1])
        if largest < 2**bits or (small.error == 0 and small.close and largest * heaviest < MOST):
            return leaf, 1.0
        ref = step.outputs[0]
        assert ref is not None
        factor = 2.0 ** (largest.bit_length() - bits)
        return self._rounded(leaf, factor, ref), factor


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


def _sum_slack(leaf: Leaf, matrix: NDArray[Any], made: Decomposed, gain: NDArray[Any]) -> Slack:
    """By how much the model's sums may differ: by what they sum, by float64's rounding, and by rounded weights."""
    powers = dyadic(gain.reshape(-1)) and dyadic(leaf.gain.reshape(-1))
    if leaf.slack.proven == 0 and made.error == 0 and made.close and powers and not leaf.constant.any():
        return leaf.slack
    fan_in, steepest, constant = (
        int(matrix.shape[1]),
        float(np.abs(leaf.gain).max()),
        float(np.abs(leaf.constant).max()),
    )
    rounded = made.error * fan_in * float(np.abs(gain).max())
    heaviest = float(np.abs(matrix).sum(axis=1).max())

    def slack(known: Known) -> float:
        largest = known.largest(leaf.source)
        rounding = (2 * fan_in + 8) * UNIT_ROUNDOFF * (steepest * largest + constant)
        return float(heaviest * (leaf.slack(known) + rounding) + rounded * largest)

    return Slack(slack)


def _scales(step: Step) -> bool:
    return any(float(step.kwargs.get(name, 1)) != 1 for name in ("alpha", "beta"))


def _of_one_parity(source: Source) -> bool:
    return bool((source.low == -source.high).all()) and len(np.unique(source.low % 2)) == 1


def _pair(numbers: Sequence[int]) -> tuple[int, int]:
    both = [int(number) for number in numbers]
    return (both[0], both[0]) if len(both) == 1 else (both[0], both[1])


def _turned_product(a: Tensor, b: Tensor) -> Tensor:
    """`aten::mm` of a constant and values."""
    return torch.mm(b.t(), a.t()).t()


def _product_of_one(a: Tensor, b: Tensor) -> Tensor:
    """`aten::mm` of two values of one image."""
    return torch.bmm(a.unsqueeze(0), b.unsqueeze(0)).squeeze(0)
