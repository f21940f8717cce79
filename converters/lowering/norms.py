"""Norms: by statistics that are stored, and over the values of each image; softmax within a network."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lava_meta.converters.functions.monotone import BatchNorm
from lava_meta.converters.lowering.values import (
    Cannot,
    Value,
    unseen,
)
from lava_meta.converters.lowering.windows import WindowLowering
from lava_meta.converters.recording.steps import Ref, Step


class NormLowering(WindowLowering):
    """Batch, layer, group and instance norms, and softmax."""

    def _do_native_layer_norm(self, step: Step) -> list[Any]:
        x, shape, weight, bias, eps = step.args
        dims = list(range(len(x.shape) - len(shape), len(x.shape)))
        ref = step.outputs[0]
        assert ref is not None
        normed = self._normed(step, self._value(x), x, dims, float(eps))
        return [self._scaled(normed, weight, bias, ref), None, None]

    def _do_native_group_norm(self, step: Step) -> list[Any]:
        x, weight, bias, _, channels, _, groups, eps = step.args
        value, ref = self._value(x), step.outputs[0]
        assert ref is not None
        size = math.prod(x.shape[1:]) // groups
        grouped = Ref(-1, (self.images, math.prod(value.shape) // size, size))  # of each frame, if there are several
        flat = self._placed(value, self._numbers(grouped.shape), value.ref)
        normed = self._normed(step, flat, grouped, [2], float(eps))
        back = self._placed(normed, self._numbers(x.shape), unseen(ref))
        ones = (1,) * (len(x.shape) - 2)
        gain, shift = (None if part is None else part.reshape(channels, *ones) for part in (weight, bias))
        return [self._scaled(back, gain, shift, ref), None, None]

    def _normed(self, step: Step, value: Value, x: Ref, dims: list[int], eps: float) -> Value:
        """`(x - mean) / sqrt(variance + eps)` over dimensions of each image."""
        own = replace(step, args=(x, dims, True), kwargs={})
        centred = self._centred(own, value)
        variance = self._reduced(own, self._function(torch.square, centred), "mean")
        spread = self._function(lambda v: torch.rsqrt(v.clamp_min(0) + eps), variance)
        return self._product(centred, spread, unseen(x))

    def _softmax(self, step: Step) -> Value:
        """`exp(x - max) / sum exp(x - max)` over one dimension of each image."""
        ref = step.outputs[0]
        assert ref is not None
        _, powers, total = self._powers(step)
        return self._product(powers, self._function(torch.reciprocal, total), ref)

    def _powers(self, step: Step) -> tuple[Value, Value, Value]:
        """`x - max`, its powers of e, and their sum, over one dimension of each image."""
        x, dim = step.args[:2]
        value = self._value(x)
        own = replace(step, args=(x, [dim], True), kwargs={}, outputs=(unseen(x),))
        greatest = self._reduced(own, value, "max")
        below = self._sum([self._finite(value), self._function(torch.neg, greatest)], unseen(x))
        below = self._function(lambda v: v.clamp_max(0), below)
        powers = self._function(torch.exp, below)
        total = self._reduced(own, powers, "sum")
        most = float(x.shape[dim])  # the greatest gives 1, which the bounds do not know
        return below, powers, self._function(lambda v: v.clamp(1, most), total)

    def _do_logsumexp(self, step: Step) -> Value:
        x, dims, *_ = step.args
        if len(dims) != 1:
            found: Value = self._written(step, _log_sum)[0]
            return found
        ref = step.outputs[0]
        assert ref is not None
        own = replace(step, args=(x, [dims[0]], True), kwargs={}, outputs=(unseen(x),))
        greatest = self._reduced(own, self._value(x), "max")
        _, _, total = self._powers(replace(step, args=(x, dims[0])))
        made = self._sum([greatest, self._function(torch.log, total)], unseen(ref))
        return self._shaped(made, ref)

    def _scaled(self, value: Value, weight: Tensor | None, bias: Tensor | None, ref: Ref) -> Value:
        """`weight * x + bias`."""
        for op, constant in ((torch.mul, weight), (torch.add, bias)):
            if constant is not None:
                value = self._applied(op, ((value, constant), {}), value, ref)
        return replace(value, ref=ref)

    def _do_native_batch_norm(self, step: Step) -> list[Any]:
        x, weight, bias, mean, var, training, _, eps = step.args
        return self._batch_norm(step, (x, weight, bias, mean, var), float(eps), training=bool(training))

    def _do__native_batch_norm_legit_no_training(self, step: Step) -> list[Any]:
        x, weight, bias, mean, var, _, eps = step.args
        return self._batch_norm(step, (x, weight, bias, mean, var), float(eps), training=False)

    def _do_cudnn_batch_norm(self, step: Step) -> list[Any]:
        return self._do_native_batch_norm(step)

    def _batch_norm(self, step: Step, given: tuple[Any, ...], eps: float, *, training: bool) -> list[Any]:
        x, weight, bias, mean, var = given
        value, ref = self._value(x), step.outputs[0]
        assert ref is not None
        if x.shape[0] == 1 and mean is None and x.shape[1] % self.images == 0:  # instance norm: images side by side
            channels = x.shape[1] // self.images
            as_rows = replace(step, args=(Ref(-1, (self.images, *value.shape)),), kwargs={})
            dims = list(range(2, len(value.shape) + 1))
            normed = self._normed(as_rows, value, as_rows.args[0], dims, eps)
            ones = (1,) * (len(value.shape) - 1)
            gain, shift = (None if p is None else p[:channels].reshape(channels, *ones) for p in (weight, bias))
            whole = Ref(ref.number, (self.images, *value.shape))
            return [self._scaled(normed, gain, shift, whole), None, None]
        if training or mean is None or var is None:
            raise Cannot(
                "norms by the statistics of each batch, which mixes images: call model.eval(), which reaches modules "
                "in an nn.ModuleList, not in a list, and make it with track_running_stats=True"
            )
        if x.shape[0] == 1 and len(mean) == self.images * value.shape[0]:  # an instance norm's: images side by side
            mean, var, weight, bias = (None if p is None else p[: value.shape[0]] for p in (mean, var, weight, bias))
        for label, tensor in (("weight", weight), ("bias", bias), ("running mean", mean), ("running variance", var)):
            if tensor is not None and not torch.isfinite(tensor).all():
                raise Cannot(f"has a {label} that is not finite: training diverged, or the file is damaged")
        if not bool((var + eps > 0).all()):
            raise Cannot("gives NaN: its variance plus eps must be positive")
        behind = len(x.shape) - 2  # extents behind the channels; before them may be rows of an image
        channels = (1, *(1,) * (len(value.shape) - 1 - behind), -1, *(1,) * behind)

        def shaped(tensor: Any, default: float) -> Tensor:
            made = torch.full_like(mean, default) if tensor is None else tensor
            return made.reshape(channels)

        parts = (shaped(mean, 0.0), shaped(var, 1.0), shaped(weight, 1.0), shaped(bias, 0.0))
        return [self._applied(BatchNorm(eps), ((value, *parts), {}), value, ref), None, None]


def _log_sum(x: Tensor, dims: list[int], *keepdim: bool) -> Tensor:
    """`aten::logsumexp` over several dimensions, as over one."""
    over = sorted(dim % x.ndim for dim in dims) or list(range(x.ndim))
    found = x.movedim(over, list(range(-len(over), 0))).flatten(-len(over)).logsumexp(-1)
    for dim in over if any(keepdim) else ():
        found = found.unsqueeze(dim)
    return found
