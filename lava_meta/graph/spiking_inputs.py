"""What enters a spiking network: integers, whole floats or bits, as images that are held or one frame a time step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.inputs import level_dtype
from lava_meta.io.memory import require_memory


def frames_of(
    inputs: Any, steps: int | None, shape: tuple[int, ...], levels: tuple[int, int], *, time_first: bool = True
) -> NDArray[Any]:
    """Frames (steps, n, n_in) in the narrowest integers; a view, if `inputs` (n, ...) are held for `steps` steps.

    Without `steps`, one frame a step: (steps, n, ...), or (n, steps, ...) with `time_first=False`. Integers, bits, and
    floats that are whole numbers; an image has the network's shape, or any axes that multiply to its inputs if that
    is flat.

    Raises:
        TypeError: Floats that are no whole numbers, `steps` that is no integer.
        ValueError: Shapes that do not fit, no images, `steps` below 1, values outside the levels.
    """
    array = np.asarray(inputs)
    n_in, (low, high) = math.prod(shape), levels
    takes = f"this network takes integers {low} to {high}"
    lead = 2 if steps is None else 1
    behind = array.shape[lead:]
    flat = len(shape) == 1 and len(behind) > 0 and math.prod(behind) == n_in
    one_channel = len(shape) == 3 and (1, *behind) == shape
    if array.size == 0 or not (flat or one_channel or behind in (shape, (n_in,))):
        axes = "n" if steps is not None else "steps, n" if time_first else "n, steps"
        raise ValueError(
            f"images have shape {array.shape}; expected ({axes}, {', '.join(map(str, shape))}), {n_in} inputs an image"
            + ("" if steps is not None else "; an image that is held is (n, ...) with steps=")
        )
    if array.dtype.kind == "f":
        if not (np.isfinite(array).all() and (array == np.rint(array)).all()):
            raise TypeError(f"images are {array.dtype} that are no whole numbers; {takes}: raw levels, or spikes")
    elif array.dtype.kind not in "uib":
        raise TypeError(f"images are {array.dtype}; {takes}")
    if array.min() < low or array.max() > high:
        raise ValueError(f"inputs run from {array.min():g} to {array.max():g}; {takes}")
    frames = array.reshape(*array.shape[:lead], n_in).astype(level_dtype(low, high), copy=False)
    if steps is None:
        return frames if time_first else frames.swapaxes(0, 1)
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)):
        raise TypeError(f"steps is {steps!r}; it is the whole number of time steps an image is held")
    if steps < 1:
        raise ValueError(f"steps is {steps}; an image is held for at least one time step")
    return np.broadcast_to(frames, (int(steps), *frames.shape))


def check_run(lanes: int, steps: int | None) -> None:
    """Raises `ValueError` unless a Process takes inputs, and its neurons start again after time steps, or never."""
    if lanes < 1:
        raise ValueError(f"lanes is {lanes}; a time step takes at least one input")
    if steps is not None and steps < 1:
        raise ValueError(f"steps is {steps}; neurons run for at least one time step")


def event_frames(
    events: NDArray[Any], shape: tuple[int, int, int], step: float, *, steps: int | None = None
) -> NDArray[Any]:
    """Events as frames (steps, polarities, rows, columns) of 0 and 1: 1 where at least one event falls into the step.

    Args:
        events: a structured array with the fields t, x, y and p, as cameras' files have them, or columns (n, 4) in this
            order. Times in any unit, in any order; the first is the beginning.
        shape: polarities, rows and columns of the camera.
        step: the duration of a time step, in the unit of t.
        steps: frames; later events are left out. By default until the last event.

    Raises:
        ValueError: Events outside the camera, fields that are missing, no events, a step that is not positive.
    """
    events = np.asarray(events)
    if len(shape) != 3 or (steps is not None and type(steps) is not int):
        raise ValueError(f"shape is {shape!r} and steps {steps!r}; give (polarities, rows, columns), and whole steps")
    names = events.dtype.names
    if names is not None:
        if not {"t", "x", "y", "p"} <= {*names}:
            raise ValueError(f"events have the fields {', '.join(names)}; t, x, y and p are expected")
        columns = [np.asarray(events[field]) for field in ("t", "x", "y", "p")]
    elif events.ndim == 2 and events.shape[1] == 4:
        columns = list(events.T)
    else:
        raise ValueError(f"events have shape {events.shape}; columns t, x, y, p or fields of these names are expected")
    if not len(events):
        raise ValueError("no events were given")
    if not (math.isfinite(step) and step > 0) or (steps is not None and steps < 1):
        raise ValueError(f"step is {step} and steps {steps}; both are positive")
    if not all(column.dtype.kind in "uibf" and np.isfinite(column).all() for column in columns):
        raise ValueError("events have times, places or polarities that are no finite numbers")
    t, *places = (column.astype(np.int64) if column.dtype.kind in "uib" else column for column in columns)
    if any((place != np.rint(place)).any() for place in places):
        raise ValueError("events have places or polarities that are no whole numbers")
    x, y, p = (place.astype(np.int64) for place in places)
    for name, values, extent in (("p", p, shape[0]), ("y", y, shape[1]), ("x", x, shape[2])):
        if values.min() < 0 or values.max() >= extent:
            raise ValueError(f"{name} runs from {values.min()} to {values.max()}; the camera has 0 to {extent - 1}")
    since = t - t.min()
    # Of times that are fractions, as seconds are, the quotient by the step may be rounded below a whole number.
    when = since // step if t.dtype.kind == "i" else np.floor(since / step * (1 + 2.0**-40))
    when = when.astype(np.int64)
    length = int(when.max()) + 1 if steps is None else steps
    require_memory(
        length * math.prod(shape),
        f"{length:,} frames of {since.max():,} units of time in steps of {step:g}",
        "give a longer step, in the unit of t, or fewer steps=",
    )
    frames = np.zeros((length, *shape), np.uint8)
    inside = when < len(frames)
    frames[when[inside], p[inside], y[inside], x[inside]] = 1
    return frames
