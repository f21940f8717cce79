"""Resizing, pooling to any extents, patches put together, and convolutions whose weights depend on the image."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lava_meta.converters.lowering.norms import NormLowering
from lava_meta.converters.lowering.values import Cannot, Value, unseen
from lava_meta.converters.lowering.written_orders import sampled
from lava_meta.converters.recording.steps import Ref, Step
from lava_meta.graph.conv import Window

LINEAR = {  # operations with constant weights along each of the last axes, by how many these are
    **dict.fromkeys(("upsample_linear1d", "adaptive_avg_pool1d"), 1),
    **dict.fromkeys(("upsample_bilinear2d", "upsample_bicubic2d"), 2),
    **dict.fromkeys(("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"), 2),
    "upsample_trilinear3d": 3,
}


class MapLowering(NormLowering):
    """What is done to whole maps."""

    def _resized(self, step: Step) -> Value:
        """Resizing, with the weights of its own interpolation."""
        return self._along(step, range(-LINEAR[step.name], 0))

    def _do_cumsum(self, step: Step) -> Value:
        return self._along(step, [step.args[1]])

    def _do_argmax(self, step: Step) -> Value:
        return self._first_of(step, 1.0)

    def _do_argmin(self, step: Step) -> Value:
        return self._first_of(step, -1.0)

    def _first_of(self, step: Step, sign: float) -> Value:
        """How many stand before the first of the greatest, times a sign, along one dimension of each image."""
        with contextlib.suppress(Cannot):  # the nearest of constants
            return self._least(step, -sign, step.outputs[0])
        x, dim, *_ = (*step.args, None)
        ref = step.outputs[0]
        if dim is None or dim % len(x.shape) == 0 or ref is None:
            raise Cannot("takes the images together; name the dimension")
        own = replace(step, args=(x, [dim], True), kwargs={}, outputs=(unseen(x),))
        value = self._held(self._function(torch.mul, self._value(x), sign) if sign < 0 else self._value(x))
        greatest = self._reduced(own, value, "max")
        below = self._sum([value, self._function(torch.neg, greatest)], unseen(x))
        here = self._function(lambda v: (v >= 0).double(), below)
        turned = self._placed(here, self._numbers(x.shape).movedim(dim, -1), unseen(x))
        extent = x.shape[dim]
        # One of them is the greatest: before the last place it has been, if it is not the last.
        sums = torch.ones(extent, extent, dtype=torch.float64).triu()[:, : max(1, extent - 1)]
        counts = self._linear(own, turned, sums, None)
        before = self._function(lambda v: (v == 0).double(), counts)
        rows = Ref(-1, (self.images, *counts.shape))
        total = self._reduced(replace(own, args=(rows, [-1], False), outputs=(ref,)), before, "sum")
        found = self._shaped(total, ref)
        self._check_places(found, ref, self._value(x), dim % len(x.shape))
        return found

    def _do__adaptive_avg_pool2d(self, step: Step) -> Value:
        return super()._do__adaptive_avg_pool2d(step) if _divides(step) else self._along(step, (-2, -1))

    def _do_adaptive_max_pool2d(self, step: Step) -> list[Any]:
        if _divides(step):
            return super()._do_adaptive_max_pool2d(step)
        x, ref = step.args[0], step.outputs[0]
        assert ref is not None
        rows, columns = (
            _uneven(extent, int(wanted)) for extent, wanted in zip(x.shape[-2:], step.args[1], strict=True)
        )
        windows = self._numbers(x.shape)[..., rows, :][..., columns].transpose(-3, -2)
        size = rows.shape[1] * columns.shape[1]
        moved = self._placed(self._value(x), windows.reshape(self.images, -1, 1, size), unseen(ref))
        return [self._shaped(self._greatest(moved, Window((1, size)), unseen(ref)), ref), None]

    def _along(self, step: Step, axes: Sequence[int]) -> Value:
        """An operation that is linear along each of these axes: a matrix for each, which the operation itself gives."""
        x, ref = step.args[0], step.outputs[0]
        assert ref is not None
        rank = len(x.shape)
        axes = [axis % rank for axis in axes]
        if 0 in axes:
            raise Cannot("takes the images together; each must be computed alone")

        def done(given: Tensor) -> Tensor:
            found: Tensor = step.op(given, *step.args[1:], **step.kwargs)
            return found

        small = [x.shape[axis] if axis in axes else 1 for axis in range(rank)]
        trial = expected = torch.rand(small, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        value = self._value(x)
        shape = [self.images, *value.shape]  # axes are counted from its end: frames may lie beside the images
        inside = replace(step, outputs=(unseen(ref),))
        for axis in axes:
            extent = x.shape[axis]
            ones = [extent, *(extent if place == axis else 1 for place in range(1, rank))]
            each = done(torch.eye(extent, dtype=torch.float64).reshape(ones).expand(extent, *small[1:]))
            matrix = each.movedim(axis, -1).reshape(extent, -1, each.shape[axis])[:, 0]
            expected = (expected.movedim(axis, -1) @ matrix).movedim(-1, axis)
            turned = self._placed(value, self._numbers(tuple(shape)).movedim(axis - rank, -1), unseen(ref))
            made = self._linear(inside, turned, matrix, None)
            shape[axis - rank] = matrix.shape[1]
            back = self._numbers((self.images, *made.shape)).movedim(-1, axis - rank)
            value = self._placed(made, back, ref if axis == axes[-1] else unseen(ref))
        if not torch.allclose(expected, done(trial), rtol=1e-9, atol=1e-12):
            raise Cannot("is no product of weights along its axes, which is not supported")
        return value

    def _do_grid_sampler_2d(self, step: Step) -> Any:
        if isinstance(step.args[1], Ref):
            raise Cannot("samples at places that depend on the image: a fixed grid is supported")
        return self._written(step, sampled)[0]

    _do_grid_sampler_3d = _do_grid_sampler_2d

    def _do_col2im(self, step: Step) -> Value:
        """Patches put together: sums of what lies at one place."""
        x, _, kernel, dilation, padding, stride = step.args
        ref = step.outputs[0]
        assert ref is not None
        places = math.prod(ref.shape[1:])
        numbers = self._numbers((1, *ref.shape[1:]))
        goes = functional.unfold(numbers, kernel, dilation, padding, stride).reshape(-1).long().numpy()
        order = np.argsort(goes, kind="stable")
        order = order[goes[order] > 0]
        counts = np.bincount(goes[order] - 1, minlength=places)
        most = int(counts.max())
        taken = np.full((places, most), -1)
        nth = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        taken[goes[order] - 1, nth] = order
        value = self._value(x)
        starts = math.prod(value.shape) * np.arange(self.images).reshape(-1, 1, 1, 1)
        each = np.where(taken < 0, 0, taken + 1 + starts[..., 0]).reshape(self.images, places, 1, most)
        moved = self._placed(value, torch.from_numpy(each).double(), unseen(ref))
        if most > 1:
            moved = self._summed_window(moved, Window((1, most)), np.ones(()), unseen(ref))
        return self._shaped(moved, ref)

    def _do_convolution(self, step: Step) -> Value:
        weight = self._given(step.args[1])
        return self._own_convolution(step, weight) if isinstance(weight, Value) else super()._do_convolution(step)

    def _do__convolution(self, step: Step) -> Value:
        return self._do_convolution(replace(step, args=step.args[:9]))  # as traced modules name it

    def _own_convolution(self, step: Step, weight: Value) -> Value:
        """A convolution with weights that depend on the image: a matrix of them times its patches.

        The images may lie in groups of one, as they must for PyTorch to give each its own weights.
        """
        x, _, bias, stride, padding, dilation, transposed, _, groups = step.args
        ref, value = step.outputs[0], self._value(x)
        assert ref is not None
        if transposed or len(step.args[1].shape) != 4 or groups % self.images:
            raise Cannot("convolves with weights that depend on the images, in two dimensions, not transposed, alone")
        groups //= self.images
        kernel = step.args[1].shape[2:]
        maps = self._numbers((self.images, *value.shape)).reshape(self.images, -1, *x.shape[-2:])
        columns = functional.unfold(maps, kernel, dilation, padding, stride)
        patches = self._placed(value, columns.reshape(self.images, groups, -1, columns.shape[-1]), unseen(ref))
        rows = patches.shape[1]
        own = self._numbers((self.images, *weight.shape)).reshape(self.images, groups, -1, rows)
        matrices = self._placed(weight, own, unseen(weight.ref))
        product = self._matrix_product(matrices, patches, unseen(ref))
        units = matrices.shape[0] * matrices.shape[1]
        made = self._shaped(product, Ref(-1, (self.images, units, *ref.shape[-2:])))
        if bias is not None:
            added = self._given(bias)
            if isinstance(added, Value):
                added = self._shaped(added, Ref(-1, (self.images, units, 1, 1)))
            elif isinstance(added, Tensor):
                added = added[:units].reshape(1, units, 1, 1)
            made = self._plus(made, added, Ref(-1, (self.images, *made.shape)))
        return self._shaped(made, ref)


def _divides(step: Step) -> bool:
    """Whether an adaptive pooling has windows of one size."""
    return all(extent % wanted == 0 for extent, wanted in zip(step.args[0].shape[-2:], step.args[1], strict=True))


def _uneven(extent: int, wanted: int) -> Tensor:
    """The places (wanted, most) of each window of an adaptive pooling; the last again where one has fewer."""
    windows = [(i * extent // wanted, -(-(i + 1) * extent // wanted)) for i in range(wanted)]
    most = max(end - start for start, end in windows)
    return torch.tensor([[min(start + k, end - 1) for k in range(most)] for start, end in windows])
