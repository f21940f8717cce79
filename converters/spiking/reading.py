"""A spiking PyTorch model of any form as a `SteppedGraph`: run once, its time steps compared, one of them lowered.

The model's forward is run as it is under `lava_meta.converters.recording.operations`, with its neurons replaced by an
operation of their own, so that what stands between them (linear layers, convolutions, norms, pooling, dropout,
reshapes) is recorded below Python. Every value gets a key made of the operations and constants that lead to it from the
input, or from the neurons. A time step of the network is what leads from one frame and the neurons of the same step to
the next neurons; it must be the same in every step, by these keys, and is lowered to integers
(`lava_meta.converters.lowering.graph`) once.

What the time axis is, the run says:

    step     the forward is one time step; whoever calls it repeats it
    held     the forward takes images and repeats them
    first    the forward takes frames (steps, n, ...)
    second   the forward takes frames (n, steps, ...)
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from lava_meta.converters.chain.folding import prepare
from lava_meta.converters.feed import Feed
from lava_meta.converters.lowering.acyclic import shape_of
from lava_meta.converters.recording.operations import IMAGES
from lava_meta.converters.recording.unwrapping import plain_copy, unwrap
from lava_meta.converters.recording.written_sizes import written_sizes
from lava_meta.converters.spiking.lowering import lowered
from lava_meta.converters.spiking.modules import (
    KINDS,
    Cell,
    cells_of,
)
from lava_meta.converters.spiking.run import FAILS, NotThisTime, Seen, seen_in
from lava_meta.errors import ConversionError
from lava_meta.graph.spiking_graph import SteppedGraph
from lava_meta.nn import Pixels

TIMES = ("step", "held", "first", "second")
_FRAMES = (3, 32, 256, 1024)  # time steps of a run: more where the forward counts on more


@dataclass(frozen=True)
class SpikingRead:
    """A model as it was read."""

    model: nn.Module  # a copy in its own type
    graph: SteppedGraph
    feed: Feed
    time: str  # one of `TIMES`
    steps: int  # time steps of its forward
    fixed: bool  # whether it has these and no others
    given: int  # states that its forward takes behind the input
    names: dict[str, str]  # the layer of each of its neurons, by the module's name
    readout: str | None  # how its classes are read by default; None if the model does it in another way
    batch_size: int | None = None  # images at once, if its forward takes so many and no others


def read_spiking(
    model: nn.Module,
    *,
    input_shape: Sequence[int] | None = None,
    mean: Any = None,
    std: Any = None,
    max_level: int | None = None,
    min_level: int = 0,
    bits: int | None = None,
    time: str | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
) -> SpikingRead:
    """Read a model; arguments as in `lava_meta.from_snntorch`.

    Raises:
        ConversionError: naming what cannot be converted: file and line, the place in the model, and what to do.
    """
    if time is not None and time not in TIMES:
        raise ValueError(f"time is {time!r}; it is one of {', '.join(TIMES)}")
    if batch_size is not None and not (type(batch_size) is int and batch_size > 1):
        raise ValueError(f"batch_size is {batch_size!r}; it is a whole number of at least 2 images")
    _check_numbers(input_shape, {"max_level": max_level, "min_level": min_level, "steps": steps})
    clone = prepare(model)
    exact = plain_copy(unwrap(model)).cpu()
    for copied in (clone, exact):
        _chained(copied)
    cells = cells_of(exact)
    _check_types(exact, cells)
    shape = shape_of(clone, input_shape)
    pixels = next((module for module in clone.modules() if isinstance(module, Pixels)), None)
    if pixels is not None:
        if max_level not in (None, pixels.max_level):
            raise ConversionError(
                f"the model's Pixels have max_level {pixels.max_level}: max_level={max_level} does not apply"
            )
        min_level, max_level = pixels.min_level, pixels.max_level
    if max_level is None:
        max_level = 1 if mean is None else 255
    feed = Feed.given(mean, std, shape, max_level, min_level)
    given = _states_given(clone)
    lengths = _FRAMES if steps is None else (steps,)
    choices = (time,) if time is not None else ("held", "first", "second")

    def read(images: int) -> SpikingRead:
        attempts = []
        for choice in choices:
            try:
                run = partial(Seen, clone, cells, feed, shape, choice, len(given), images)
                seen = seen_in(lengths if choice in ("first", "second") else lengths[:1], run)
                graph, readout = lowered(seen, bits)
            except ConversionError as error:
                attempts.append((choice, error))
                continue
            fixed = seen.time == "held" or (seen.time != "step" and (seen.steps != seen.frames or steps is not None))
            batch = None if images == IMAGES else images
            return SpikingRead(exact, graph, feed, seen.time, seen.steps, fixed, len(given), seen.names, readout, batch)
        told = [error for _, error in attempts if not isinstance(error, NotThisTime)]
        if told:
            raise told[0]
        reasons = "; ".join(f"{_IN_WORDS[choice]}: {error}" for choice, error in attempts)
        if given:
            reasons += (
                f". Its forward takes {', '.join(given)} behind the input, and gets states at rest for them: if they "
                "are something else, wrap the model in a module whose forward hands them on"
            )
        raise ConversionError(f"the model takes its input in none of the known forms. {reasons}")

    if batch_size is not None:
        return read(batch_size)
    try:
        return read(IMAGES)
    except ConversionError as refusal:
        for images in written_sizes(clone) if FAILS in str(refusal) else ():
            with contextlib.suppress(ConversionError):
                return read(images)
        raise


_IN_WORDS = {
    "held": "given images (n, ...)",
    "step": "given one frame (n, ...)",
    "first": "given frames (steps, n, ...)",
    "second": "given frames (n, steps, ...)",
}


def _check_types(model: nn.Module, cells: list[Cell]) -> None:
    """Raises `ConversionError` for weights in which snnTorch does not compute."""
    constants = {
        id(value) for cell in cells for value in (*cell.module._parameters.values(), *cell.module._buffers.values())
    }
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if not value.is_floating_point() or id(value) in constants:
            continue
        if value.dtype != torch.float32 or not torch.isfinite(value).all():
            raise ConversionError(
                f"{name} is not finite float32, in which spiking networks are converted: call model.float(), or train "
                "again where it diverged"
            )


def _chained(model: nn.Module) -> None:
    """Neurons directly in an `nn.Sequential` hand on their spikes alone, and keep their states.

    The last ones of a sequence that another forward calls give what this forward takes.
    """
    for name, sequence in model.named_modules():
        if not isinstance(sequence, nn.Sequential):
            continue
        called = sequence is not model and not isinstance(model.get_submodule(name.rpartition(".")[0]), nn.Sequential)
        for module in [*sequence.children()][: -1 if called else None]:
            if type(module) in KINDS:
                module.__dict__.update(init_hidden=True, output=False)


def _check_numbers(input_shape: Any, numbers: dict[str, Any]) -> None:
    """Raises `TypeError` or `ValueError` for arguments that are no whole numbers."""

    def whole(value: Any) -> bool:
        return isinstance(value, (int, np.integer)) and not isinstance(value, bool)

    for name, value in numbers.items():
        if value is not None and not whole(value):
            raise TypeError(f"{name} is {value!r}; it is a whole number")
    if numbers["steps"] is not None and numbers["steps"] < 1:
        raise ValueError(f"steps is {numbers['steps']}; a forward runs over at least one time step")
    if input_shape is not None and not (isinstance(input_shape, Sequence) and all(map(whole, input_shape))):
        raise TypeError(f"input_shape is {input_shape!r}; give whole numbers, as (784,) or (1, 28, 28)")


def _states_given(model: nn.Module) -> list[str]:
    """The names of the states that a forward takes behind its input."""
    try:
        parameters = list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):
        return []
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [part.name for part in parameters[1:] if part.kind in plain and part.default is inspect.Parameter.empty]
