"""Layers that a spiking model applies to all its time steps at once, as one operation for each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from lava_meta.converters.recording.steps import Ref, Step

# Operations that treat the rows of one argument alike, and its place.
_BY_ROWS = {
    "addmm": 1,
    **dict.fromkeys(("mm", "convolution", "relu", "avg_pool2d", "_adaptive_avg_pool2d", "max_pool2d_with_indices"), 0),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit_no_training"), 0),
}


def split_by_time(
    step: Step, images: int, times_of: Callable[[Ref], Tensor | None], new: Callable[[tuple[int, ...]], Ref]
) -> list[Step]:
    """The operation for the images of each time step, and what joins their results; itself if it is of one step.

    Args:
        step: the operation.
        images: of one time step.
        times_of: the time step of each row of a value; None if it has none, or rows of several.
        new: makes a value of a shape.
    """
    ref = step.args[_BY_ROWS[step.name]] if step.name in _BY_ROWS else None
    if not isinstance(ref, Ref) or step.refs != [ref] or step.outputs[0] is None:
        return [step]
    times = times_of(ref)
    if times is None:
        return [step]
    rows = [torch.nonzero(times == time).reshape(-1) for time in times.unique().tolist()]
    if len(rows) < 2 or any(len(own) != images for own in rows):
        return [step]
    aten, one = torch.ops.aten, replace(step, number=-1)
    made, parts = [], []
    for own in rows:
        taken, result = new((images, *ref.shape[1:])), new((images, *step.outputs[0].shape[1:]))
        args = [taken if place == _BY_ROWS[step.name] else leaf for place, leaf in enumerate(step.args)]
        made.append(replace(one, op=aten.index_select.default, args=(ref, 0, own), kwargs={}, outputs=(taken,)))
        made.append(replace(one, args=tuple(args), outputs=(result, *(None for _ in step.outputs[1:]))))
        parts.append(result)
    joined = new(step.outputs[0].shape)
    back = torch.argsort(torch.cat(rows))
    made.append(replace(one, op=aten.cat.default, args=(parts,), kwargs={}, outputs=(joined,)))
    made.append(
        replace(one, op=aten.index_select.default, args=(joined, 0, back), kwargs={}, outputs=(step.outputs[0],))
    )
    return made
