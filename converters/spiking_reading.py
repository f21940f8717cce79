"""A spiking PyTorch model of any form as a `SteppedGraph`: run once, its time steps compared, one of them lowered.

The model's forward is run as it is under `lava_meta.converters.recording`, with its neurons replaced by an operation of
their own, so that what stands between them (linear layers, convolutions, norms, pooling, dropout, reshapes) is recorded
below Python. Every value gets a key made of the operations and constants that lead to it from the input, or from the
neurons. A time step of the network is what leads from one frame and the neurons of the same step to the next neurons;
it must be the same in every step, by these keys, and is lowered to integers (`lava_meta.converters.lowering`) once.

What the time axis is, the run says:

    step     the forward is one time step; whoever calls it repeats it
    held     the forward takes images and repeats them
    first    the forward takes frames (steps, n, ...)
    second   the forward takes frames (n, steps, ...)
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from lava_meta.converters.acyclic import example, first_leaf, shape_of
from lava_meta.converters.calling import untouched
from lava_meta.converters.decisions import check_decisions
from lava_meta.converters.elementwise import Affine, Form, Function
from lava_meta.converters.expressions import Leaf, Source
from lava_meta.converters.feed import Feed
from lava_meta.converters.lower_values import Cannot, Value
from lava_meta.converters.lowering import FRACTIONS, MOVES, SAME, Lowering, TooFine
from lava_meta.converters.recording import IMAGES, Decision, Place, Recording, Ref, Step, record
from lava_meta.converters.spiking_answer import Answer, Returned, computed_again
from lava_meta.converters.spiking_modules import (
    KINDS,
    Cell,
    at_rest,
    cells_of,
    constants_of,
    factor_of,
    place_of,
    recurrent_of,
)
from lava_meta.converters.spiking_split import split_by_time
from lava_meta.converters.torch import check_statistics, prepare
from lava_meta.converters.unwrapping import plain_copy, unwrap
from lava_meta.converters.weights import Decomposed, decompose
from lava_meta.converters.written_sizes import written_sizes
from lava_meta.errors import ConversionError
from lava_meta.graph.acyclic import INPUT
from lava_meta.graph.nodes import MOST, Node, weight_of
from lava_meta.graph.spiking_delays import Delayed
from lava_meta.graph.spiking_graph import SteppedGraph
from lava_meta.graph.spiking_neurons import Neurons
from lava_meta.nn import Pixels

TIMES = ("step", "held", "first", "second")
_FRAMES = (3, 32, 256, 1024)  # time steps of a run: more where the forward counts on more
_LIBRARY = torch.library.Library("lava_meta", "DEF")
_LIBRARY.define("neurons(Tensor current, Tensor input, int cell, int states) -> Tensor[]")


def _fired(current: Tensor, _: Tensor, cell: int, states: int) -> list[Tensor]:
    return [(current > 0).to(current.dtype), *(current.clone() for _ in range(states))]


_LIBRARY.impl("neurons", _fired, "CompositeExplicitAutograd")
_NEURONS = "lava_meta::neurons"


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


class _NotThisTime(ConversionError):
    """The model does not take its input in this form."""


class _TooShort(_NotThisTime):
    """Or more time steps would show how they hang together."""


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
                run = partial(_Seen, clone, cells, feed, shape, choice, len(given), images)
                seen = _seen_in(lengths if choice in ("first", "second") else lengths[:1], run)
                graph, readout = seen.lowered(bits)
            except ConversionError as error:
                attempts.append((choice, error))
                continue
            fixed = seen.time == "held" or (seen.time != "step" and (seen.steps != seen.frames or steps is not None))
            batch = None if images == IMAGES else images
            return SpikingRead(exact, graph, feed, seen.time, seen.steps, fixed, len(given), seen.names, readout, batch)
        told = [error for _, error in attempts if not isinstance(error, _NotThisTime)]
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
        for images in written_sizes(clone) if _FAILS in str(refusal) else ():
            with contextlib.suppress(ConversionError):
                return read(images)
        raise


_FAILS = "the model itself fails"
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


@dataclass
class _Calls:
    """The calls of one layer of neurons in a run."""

    cell: Cell
    index: int
    given: list[tuple[int, ...]] = field(default_factory=list)  # shapes of the currents
    latest: tuple[Any, ...] = ()
    before: tuple[Any, ...] = ()  # the latest of the run before, which a model may keep and go on from
    rested: bool = False  # set to rest since the last call
    begins: bool = False  # set to rest, or given states of rest, within the forward


class _Seen:
    """One recorded run of a model, and the time steps in it."""

    def __init__(
        self,
        model: nn.Module,
        cells: list[Cell],
        feed: Feed,
        shape: tuple[int, ...],
        time: str,
        given: int,
        images: int,
        lengths: Sequence[int],
    ) -> None:
        self.cells, self.feed, self.shape, self.time, self.images = [*cells], feed, shape, time, images
        self.names: dict[str, str] = {}
        self._model, self._stateful = model, given > 0
        self._calls = [_Calls(cell, i) for i, cell in enumerate(cells)]
        image = example(feed, shape, signs=False, images=images)
        counts = (1,) if time in ("step", "held") else tuple(lengths)
        error: ConversionError | None = None
        for frames in counts:
            x = image
            if time == "first":
                x = torch.stack([image] * frames)
            elif time == "second":
                x = torch.stack([image] * frames, dim=1)
            try:
                self.recording = self._record(x, given)
                break
            except ConversionError as failed:
                if _FAILS not in str(failed):
                    raise
                error = _NotThisTime(str(failed))
                if "IndexError" not in str(failed):
                    raise error from failed
        else:
            assert error is not None
            raise error
        self.frames = frames
        self._number()

    def _record(self, x: Tensor, given: int) -> Recording:
        with untouched(self._model):
            return self._recorded(x, given)

    def _recorded(self, x: Tensor, given: int) -> Recording:
        model = self._model
        cells = dict(model.named_modules())
        places: dict[str, list[_Calls]] = {}
        for calls in self._calls:
            places.setdefault(calls.cell.module_name, []).append(calls)
        modules = {name: cells.get(name, model) for name in places}
        for name, module in modules.items():
            self._intercept(module, places[name])
        forward = model.forward

        def begun(x: Tensor) -> Any:
            for calls in self._calls:
                calls.before = calls.latest
                calls.given, calls.latest, calls.rested, calls.begins = [], (), False, False
            self._x = x
            return forward(x, *(torch.zeros(0) for _ in range(given)))

        model.__dict__["forward"] = begun
        return replace(record(model, x), images=self.images)

    def _intercept(self, module: Any, places: list[_Calls]) -> None:
        states = places[0].cell.states

        def forward(current: Tensor, *given: Any, **named: Any) -> Any:
            given = (*given, *(named[name] for name in states[len(given) :] if name in named))
            calls = self._place(places, given)
            kept = self._check_states(calls, given)
            calls.begins |= calls.rested or (not kept and any(state is not None for state in given))
            made = torch.ops.lava_meta.neurons(current, self._x, calls.index, len(states))
            calls.given.append(tuple(current.shape))
            own = made[1:] if states[0] != "spk" else [made[0], *made[2:]]
            calls.latest, calls.rested = tuple(own), False
            for name, value in zip(states, own, strict=True):
                setattr(module, name, value)
            if module.init_hidden and not module.output:
                return made[0]
            return (*own,) if states[0] == "spk" else (made[0], *own)

        def reset_mem() -> Any:
            for calls in places:
                calls.rested = True
            zeros = tuple(torch.zeros(0) for _ in states)
            return zeros[0] if len(zeros) == 1 else zeros

        module.__dict__["forward"] = forward
        module.__dict__["reset_mem"] = reset_mem

    def _place(self, places: list[_Calls], given: Sequence[Any]) -> _Calls:
        """The calls of a module at the place of the network that gave these states, or at a new one."""
        place = place_of([calls.latest for calls in places if calls.given], given)
        if place is None:
            return places[0]
        if place == len(places):
            cell = replace(places[0].cell, place=place)
            places.append(_Calls(cell, len(self.cells)))
            self._calls.append(places[-1])
            self.cells.append(cell)
        return places[place]

    @staticmethod
    def _check_states(calls: _Calls, given: Sequence[Any]) -> bool:
        """States that a call takes: none, those of the step before, or rest in the first step.

        Returns whether the model kept them from the run before.
        """
        cell, step, kept = calls.cell, len(calls.given), False
        if calls.rested and step and all(state is None for state in given):
            raise ConversionError(f"{cell.label} is set to rest in step {step + 1} of one run; a run begins at rest")
        for place, state in enumerate(given):
            if state is None:
                continue
            if step == 0:
                if any(state.data_ptr() == latest.data_ptr() for latest in calls.before[place : place + 1]):
                    kept = True
                elif not at_rest(state):
                    raise ConversionError(
                        f"{cell.label} begins with a {cell.states[place]} that is not 0; networks begin at rest: set "
                        "the states that the model keeps to 0 before"
                    )
            elif not any(state.data_ptr() == latest.data_ptr() for latest in calls.latest[place : place + 1]):
                raise ConversionError(
                    f"{cell.label} takes another {cell.states[place]} in step {step + 1} than it gave in step {step}: "
                    "hand its states on as they are"
                )
        return kept

    # Time steps.

    def key(self, ref: Ref) -> Any:
        """What is equal for values that are computed alike."""
        return self._keys[ref.number]

    def _number(self) -> None:
        """Keys and time steps of all values, and the calls of the neurons."""
        self._keys: dict[int, Any] = {self.recording.input.number: "input"}
        self._at: dict[int, frozenset[int]] = {self.recording.input.number: frozenset()}
        self._moving: dict[int, Tensor] = {}  # parts of the frames, by the numbers of their elements
        self.potentials: dict[int, int] = {}  # of cells, by the number of the value
        # Values of one time step, of several that were stacked, and which places of it if not all in order, from 1.
        self.taken: dict[int, tuple[Ref, Tensor | None]] = {}
        self._stacked: dict[int, tuple[list[Ref], Tensor]] = {}  # parts of stacks, and the numbers of their elements
        self._known: dict[Any, int] = {}
        self._contents: dict[int, Any] = {}
        self.arguments: dict[int, list[Ref | Tensor]] = {i: [] for i in range(len(self.cells))}
        self.sent: dict[int, list[tuple[Ref | None, ...]]] = {i: [] for i in range(len(self.cells))}
        self.order: list[int] = []
        self._calls_at: dict[int, list[int]] = {i: [] for i in range(len(self.cells))}  # operations of the run
        self.frames_taken: dict[int, Tensor] = {}
        if self.time in ("first", "second"):
            size = self.images * int(np.prod(self.shape))
            numbers = torch.arange(self.frames * size, dtype=torch.float64) + 1
            numbers = numbers.reshape(self.frames, self.images, *self.shape)
            self._moving[self.recording.input.number] = (
                numbers if self.time == "first" else numbers.transpose(0, 1).contiguous()
            )
        self._values = 1 + max(ref.number for step in self.recording.steps for ref in step.outputs if ref is not None)
        steps = []
        for whole in self.recording.steps:
            for step in split_by_time(whole, self.images, self._times_of, self._new):
                steps.append(step)
                if step.name == _NEURONS:
                    self._call(step)
                elif any(ref.number in self._moving for ref in step.refs):
                    self._move(step)
                else:
                    self._compute(step)
                    self._restack(step)
        self.recording = replace(self.recording, steps=steps)
        if not self.order:
            raise _NotThisTime("its neurons are not called")
        self.arguments = {i: self.arguments[i] for i in self.order}
        self.sent = {i: self.sent[i] for i in self.order}
        counts = {self.cells[i].label: len(found) for i, found in self.arguments.items()}
        self.steps = max(counts.values())
        self._check_places()
        for label, count in counts.items():
            if count != self.steps:
                raise _NotThisTime(f"{label} is called {count} times in a run, other neurons {self.steps} times")
        if self.time == "held" and self.steps == 1 and (self._stateful or not any(c.begins for c in self._calls)):
            self.time = "step"  # else each call begins at rest: one step is all of it
        if self.time in ("first", "second") and self.steps == 1:
            raise _NotThisTime("its neurons are called once for all frames")
        self.lag = self._lag()
        self.lowered_calls = {self._calls_at[i][self.lag] for i in self.order}
        for calls in self._calls:
            if any(shape[:1] != (self.images,) for shape in calls.given):
                raise _NotThisTime(
                    f"{calls.cell.label} gets {calls.given[0]} for {self.images} images: these are not the first axis"
                )
        self._check_steps()

    def _new(self, shape: tuple[int, ...]) -> Ref:
        self._values += 1
        return Ref(self._values - 1, shape)

    def _times_of(self, ref: Ref) -> Tensor | None:
        """The time step of each row of a value that holds several."""
        if ref.number in self._moving:
            times = (self._moving[ref.number] - 1) // (self.images * int(np.prod(self.shape)))
        elif ref.number in self._stacked:
            parts, numbers = self._stacked[ref.number]
            ends = torch.tensor([int(np.prod(part.shape)) for part in parts]).cumsum(0)
            at = torch.tensor([max(self._at[part.number], default=-1) for part in parts])
            times = torch.where(numbers > 0, at[torch.searchsorted(ends, numbers.long()).clamp(max=len(at) - 1)], -1)
        else:
            return None
        rows = times.reshape(len(times), -1)
        return rows[:, 0] if bool((rows == rows[:, :1]).all()) and rows.min() >= 0 else None

    def _lag(self) -> int:
        """The most time steps that a connection reaches back."""
        lag = 0
        for i, found in self.arguments.items():
            for k, value in enumerate(found):
                at, label = self.at(value), self.cells[i].label
                if at and max(at) > k:
                    raise _NotThisTime(f"{label} takes in step {k + 1} what was computed in step {max(at) + 1}")
                if at and k - min(at) > self.steps // 2:
                    raise _TooShort(
                        f"{label} takes in step {k + 1} of {self.steps} what was computed in step {min(at) + 1}: "
                        "connections reach back over half of a run at most"
                    )
                lag = max(lag, k - min(at, default=k))
        return lag

    def _check_steps(self) -> None:
        """Raises `ConversionError` unless all time steps are computed alike, with silence before the first."""
        for i, found in self.arguments.items():
            label, whole = self.cells[i].label, found[self.lag]
            if not isinstance(whole, Ref):
                raise _TooShort(f"{label} gets a constant instead of a current")
            for k, value in enumerate(found):
                if self._form(value, k) == self._form(whole, self.lag) or (k < self.lag and self._begins_alike(i, k)):
                    continue
                what = "with silence before the first step, " if k < self.lag else ""
                raise ConversionError(
                    f"{what}what {label} gets in step {k + 1} is computed otherwise than in step "
                    f"{self.lag + 1}: encode images outside and pass the frames; give all steps the same norm"
                )

    def at(self, value: Ref | Tensor) -> frozenset[int]:
        """The time steps on which a value depends."""
        return self._at[value.number] if isinstance(value, Ref) else frozenset()

    def _form(self, value: Ref | Tensor, step: int) -> Any:
        """What is equal for what is computed alike in its step."""
        return self._key(value), step - max(self.at(value), default=step)

    def _begins_alike(self, index: int, step: int) -> bool:
        """Whether an early step is as later ones are after silence, on numbers that are drawn."""
        made = {ref.number: one for one in self.recording.steps for ref in one.outputs if ref is not None}
        later, shift = self.arguments[index][self.lag], self.lag - step
        axis = {"first": 0, "second": 1}.get(self.time)
        for seed in range(2):
            generator = torch.Generator().manual_seed(seed)

            def drawn(ref: Ref, generator: torch.Generator = generator) -> Tensor:
                return torch.randn(ref.shape, generator=generator, dtype=torch.float64)

            x = drawn(self.recording.input)
            early, late = {self.recording.input.number: x}, {self.recording.input.number: x}
            if axis is not None:
                kept = x.narrow(axis, 0, self.frames - shift)
                late[self.recording.input.number] = torch.cat([torch.zeros_like(x.narrow(axis, 0, shift)), kept], axis)
            for steps in self.sent.values():
                for refs in zip(*steps, strict=True):
                    values = [torch.zeros(0) if ref is None else drawn(ref) for ref in refs]
                    for k, ref in enumerate(refs):
                        if ref is not None:
                            early[ref.number] = values[k]
                            late[ref.number] = values[k - shift] if k >= shift else torch.zeros_like(values[k])
            value, other = (
                computed_again(made, [ref], given)[ref.number] if isinstance(ref, Ref) else ref
                for ref, given in ((self.arguments[index][step], early), (later, late))
            )
            if value.shape != other.shape or not torch.allclose(value, other, rtol=1e-9, atol=1e-9):
                return False
        return True

    def _check_places(self) -> None:
        """Raises `ConversionError` if one module is several layers of neurons, and these are not told apart."""
        first: dict[Any, Cell] = {}
        for i, found in self.arguments.items():
            cell = self.cells[i]
            keys = [self._key(value) for value in found]
            other = first.setdefault((cell.module_name, keys[0]), cell)
            if other is not cell:
                raise ConversionError(f"{other.label} is set to rest in step 2 of one run; a run begins at rest")
            places = len({*keys})
            if cell.module.init_hidden and places > 1 and keys == keys[:places] * (len(keys) // places):
                raise _NotThisTime(
                    f"{cell.label} is called at {places} places a step with one state: in snnTorch each call goes on "
                    "from the potential that the call before left, at another place. Give each place neurons of its own"
                )

    def _call(self, step: Step) -> None:
        current, _, index, _ = step.args
        if isinstance(current, Ref) and current.number in self._moving:
            raise _NotThisTime(f"{self.cells[index].label} gets all frames at once")
        k = len(self.arguments[index])
        self.arguments[index].append(current)
        self.sent[index].append(step.outputs)
        self._calls_at[index].append(step.number)
        if index not in self.order:
            self.order.append(index)
        for place, ref in enumerate(step.outputs):
            assert ref is not None
            self._keys[ref.number] = ("cell", index, place)
            self._at[ref.number] = frozenset({k})
            if place:
                self.potentials[ref.number] = index

    def _move(self, step: Step) -> None:
        """Reshapes and the like of frames, until one of them is taken."""
        if step.name not in MOVES and step.name not in SAME and step.name != "_to_copy":
            raise _NotThisTime(f"{step.place} ({step.name}) computes with all frames at once; take one frame a step")
        if len(step.refs) != 1:
            raise _NotThisTime(f"{step.place} ({step.name}) joins frames")
        numbers = self._moving[step.refs[0].number]
        found = numbers if step.name not in MOVES else step.op(numbers, *step.args[1:], **step.kwargs)
        parts = found if isinstance(found, (list, tuple)) else [found]
        size = self.images * int(np.prod(self.shape))
        for ref, part in zip(step.outputs, parts, strict=True):
            if ref is None:
                continue
            inside = part[part > 0]
            times = torch.unique((inside - 1) // size) if inside.numel() else torch.zeros(0)
            if len(times) != 1 or part.shape[:1] != (self.images,):  # or its images come first only later
                self._moving[ref.number] = part
                continue
            own = torch.where(part > 0, (part - 1) % size + 1, part)
            self._keys[ref.number] = self._interned(("frame", own.numpy().tobytes(), tuple(own.shape)))
            self._at[ref.number] = frozenset({int(times[0])})
            self.frames_taken[ref.number] = own

    def _restack(self, step: Step) -> None:
        """What is stacked or repeated over time, and taken out of it again, is the value that it was."""
        repeated = step.name in ("unsqueeze", "repeat", "expand") and step.refs[0].number not in self._stacked
        joined = step.name in ("stack", "cat")
        if repeated or (joined and (len({*step.refs}) == 1 or len({self._at[ref.number] for ref in step.refs}) > 1)):
            ends = np.cumsum([0, *(int(np.prod(ref.shape)) for ref in step.refs)])
            own_numbers = {
                id(ref): torch.arange(ends[i] + 1, ends[i + 1] + 1, dtype=torch.float64).reshape(ref.shape)
                for i, ref in enumerate(step.refs)
            }
            args = tree_map(lambda leaf: own_numbers[id(leaf)] if isinstance(leaf, Ref) else leaf, step.args)
            (ref,) = step.outputs
            if ref is not None:
                self._stacked[ref.number] = [*step.refs], step.op(*args, **step.kwargs)
        elif step.name in MOVES and len(step.refs) == 1 and step.refs[0].number in self._stacked:
            parts, numbers = self._stacked[step.refs[0].number]
            found = step.op(numbers, *step.args[1:], **step.kwargs)
            for ref, own in zip(step.outputs, found if isinstance(found, (list, tuple)) else [found], strict=True):
                if ref is not None:
                    self._take(ref, parts, own)

    def _take(self, ref: Ref, parts: list[Ref], numbers: Tensor) -> None:
        """What was taken of a stack is one of its parts, or what lies in one; else it stays a stack."""
        begin = 1
        for part in parts:
            own = numbers - begin + 1
            begin += int(np.prod(part.shape))
            if own.min() < 1 or own.max() > np.prod(part.shape) or own.numel() > np.prod(part.shape):
                continue
            whole = part.shape == ref.shape and torch.equal(own.flatten(), torch.arange(own.numel()).double() + 1)
            self.taken[ref.number] = part, None if whole else own
            key = self._keys[part.number]
            self._keys[ref.number] = key if whole else self._interned(("piece", key, own.numpy().tobytes(), ref.shape))
            self._at[ref.number] = self._at[part.number]
            if part.number in self.potentials:
                self.potentials[ref.number] = self.potentials[part.number]
            return
        self._stacked[ref.number] = parts, numbers

    def _compute(self, step: Step) -> None:
        at = frozenset[int]().union(*(self._at[ref.number] for ref in step.refs))
        latest = max(at, default=0)
        leaves = tree_leaves((step.args, step.kwargs))
        lags = [latest - max(self._at[leaf.number], default=latest) for leaf in leaves if isinstance(leaf, Ref)]
        key = (str(step.op), *(self._key(leaf) for leaf in leaves), *lags)
        for place, ref in enumerate(step.outputs):
            if ref is not None:
                self._keys[ref.number] = self._interned((*key, place))
                self._at[ref.number] = at

    def _key(self, leaf: Any) -> Any:
        if isinstance(leaf, Ref):
            return ("value", self._keys[leaf.number], leaf.shape)
        if not isinstance(leaf, Tensor):
            return repr(leaf)
        if id(leaf) not in self._contents:  # which the recording keeps, so that no other has its number
            content = hashlib.blake2b(np.ascontiguousarray(leaf.numpy()).tobytes(), digest_size=16).digest()
            self._contents[id(leaf)] = ("constant", str(leaf.dtype), *leaf.shape, content)
        return self._contents[id(leaf)]

    def _interned(self, key: Any) -> int:
        return self._known.setdefault(key, len(self._known))

    # Lowering.

    def lowered(self, bits: int | None) -> tuple[SteppedGraph, str | None]:
        """The network of one step, and how its classes are read; None if that is not known."""
        ends = self._ends()
        answer = Returned(self.recording, self.sent, ends, self._last()).answer()
        if answer.readout == "rate" and not _counts_alike(self.cells[answer.layer]):
            answer = replace(answer, readout=None)
        clone = dict(self._model.named_modules())
        for name in {step.place.module for step in self.recording.steps}:
            check_statistics(f"{name} ({type(clone[name]).__name__})", clone[name])
        error: Exception | None = None
        for fraction in FRACTIONS:
            try:
                return _Steps(self, ends[self.lag : self.lag + 1], fraction, bits, answer).run(), answer.readout
            except TooFine as fine:
                error = fine
        raise ConversionError(f"{error}: with {FRACTIONS[-1]} binary digits too; scale the values down")

    def _last(self) -> list[int]:
        """The layers whose spikes no other layer takes in the same step, in order."""
        made = {ref.number: step for step in self.recording.steps for ref in step.outputs if ref is not None}
        own = {refs[0][0].number: i for i, refs in self.sent.items() if refs[0][0] is not None}
        first = [found[0] for found in self.arguments.values()]
        todo, seen = [value.number for value in first if isinstance(value, Ref)], set[int]()
        while todo:
            number = todo.pop()
            if number not in seen:
                seen.add(number)
                todo += [ref.number for ref in made[number].refs] if number in made and number not in own else []
        return [i for number, i in own.items() if number not in seen]

    def _ends(self) -> list[Ref]:
        """Values that the model sums over the steps without neurons, step by step."""
        made = {ref.number: step for step in self.recording.steps for ref in step.outputs if ref is not None}
        todo = [leaf for leaf in tree_leaves(self.recording.output) if isinstance(leaf, Ref)]
        seen, ends = set(), {}
        while todo:
            ref = todo.pop()
            if ref.number in seen or ref.number not in made:
                continue
            seen.add(ref.number)
            step = made[ref.number]
            if step.name == _NEURONS:
                continue
            if ref.shape[:1] != (self.images,) and _gathers(step) and len(self._at[ref.number]) == 1:
                todo += step.refs  # a measure of all images, such as how many spikes there were
            elif _moves(step) or (len(self._at[ref.number]) > 1 and _gathers(step)):
                todo += step.refs
            else:
                ends[ref.number] = ref
        if not ends:
            return []
        if len({self._keys[number] for number in ends}) > 1 or len(ends) != self.steps:
            places = {str(made[number].place) for number in ends}
            raise ConversionError(
                f"the model's outputs are computed by {'; '.join(sorted(places))}: behind the last neurons, one layer "
                "whose values are summed over the time steps is supported"
            )
        return sorted(ends.values(), key=lambda ref: ref.number)


def _seen_in(lengths: Sequence[int], run: Callable[[Sequence[int]], _Seen]) -> _Seen:
    """A run, of more time steps if connections reach back over them."""
    for start in range(len(lengths)):
        try:
            seen = run(lengths[start:])
        except _TooShort:
            if start == len(lengths) - 1:
                raise
            continue
        if not seen.lag or start or seen.time == "held":
            break
    return seen


def _counts_alike(cell: Cell) -> bool:
    """Whether spikes of all neurons count the same, and the more the better."""
    factor = cell.module.graded_spikes_factor
    return bool((factor == factor.reshape(-1)[0]).all() and (factor > 0).all())


def _moves(step: Step) -> bool:
    """Whether a step leaves its value as it is: reshapes, copies, what is added to the 0 of an empty sum."""
    others = [leaf for leaf in step.args if not isinstance(leaf, Ref)]
    if step.name == "add" and others:
        return not any(bool(torch.as_tensor(other).any()) for other in others)
    return step.name in MOVES or step.name in SAME or step.name == "_to_copy"


def _gathers(step: Step) -> bool:
    """Whether a step only collects time steps: stacks, sums, means, and scales by one positive number."""
    if step.name in ("stack", "cat", "sum", "mean"):
        return True
    if step.name in ("add", "mul", "div"):
        others = [leaf for leaf in step.args if not isinstance(leaf, Ref)]
        return all(float(torch.as_tensor(other).sum()) >= 0 and torch.as_tensor(other).numel() == 1 for other in others)
    return step.name in ("_softmax", "_log_softmax", "max", "amax")


class _Steps(Lowering):
    """Lowers the first time step of a run."""

    def __init__(self, seen: _Seen, ends: list[Ref], fraction: int, bits: int | None, answer: Answer) -> None:
        domain = {
            "max_level": seen.feed.max_level,
            "min_level": seen.feed.min_level,
            "signs": False,
            "input_shape": seen.shape,
        }
        first = first_leaf(seen.feed, seen.shape, signs=False)
        recording = replace(seen.recording, steps=[_single(step) for step in seen.recording.steps])
        super().__init__(recording, first, domain, fraction)
        self._seen, self._ends_at, self._answer, self._bits = seen, ends, answer, bits
        self._first = self.values[recording.input.number]

    def run(self) -> SteppedGraph:  # type: ignore[override]  # a network with time
        seen = self._seen
        wanted = [found[seen.lag] for found in seen.arguments.values()] + self._ends_at
        needed = set[int]().union(*(self._needed_in_step(ref) for ref in wanted if isinstance(ref, Ref)))
        tests = self._tests()
        tested = set[int]().union(*(self._needed_in_step(test.value) for test in tests)) - needed
        for number, own in seen.frames_taken.items():
            ref = Ref(number, tuple(own.shape))
            if number in needed | tested and own.shape[0] == self.images:
                self.values[number] = self._placed(self._frame(seen.lag - max(seen.at(ref))), own, ref)
        delayed = self._delay(needed | tested)
        for step in self.steps:
            outputs = {ref.number for ref in step.outputs if ref is not None}
            call = step.name == _NEURONS and step.number in seen.lowered_calls
            if step.name == _NEURONS and not call:
                continue
            if not call and not outputs & (needed | tested):
                continue
            if outputs & {*seen.frames_taken}:
                continue
            if not call and not outputs & needed:  # for a test alone, as in networks without time steps
                with contextlib.suppress(Cannot, ValueError, KeyError):
                    self._step(step)
                continue
            self.place = step.place
            try:
                for number in outputs & needed & {*seen.taken}:
                    self._take(number)
                    outputs -= {number}
                if call:
                    self._call(step)
                elif outputs & (needed | tested):
                    self._step(step)
            except (Cannot, ValueError) as error:
                if "past 62 bits" in str(error) or "of up to 62 bits fit" in str(error):
                    raise TooFine(f"{self._named(step)} {error}") from error
                failed = _NotThisTime if "mixes the images" in str(error) else ConversionError
                raise failed(f"{self._named(step)} {error}") from error
        check_decisions(tests, self.made_by, self._lowered)
        for name, cell in delayed.items():
            self.nodes[name] = replace(self.nodes[name], sources=(seen.names[cell.name],))
        if self._ends_at:
            output = self._integrator(self._value(self._ends_at[0]))
        else:
            output = seen.names[seen.cells[self._answer.layer].name]
        try:
            return SteppedGraph(self.nodes, output, **self.domain)
        except ValueError as error:
            raise ConversionError(str(error)) from error

    def _take(self, number: int) -> None:
        """A value that was taken of a stack."""
        part, places = self._seen.taken[number]
        value = self.values[part.number]
        if places is not None and isinstance(value, Value):
            value = self._placed(value, places, Ref(number, tuple(places.shape)))
        self.values[number] = value

    def _frame(self, lag: int) -> Value:
        """A frame so many steps before this one's."""
        assert isinstance(self._first, Value)
        leaf = self._first.exact or self.exact(self._first)
        if not lag:
            return self._first
        if np.any(leaf.constant):
            raise ConversionError(
                "the forward takes frames of earlier steps, and levels of 0 are no 0 to it: pass mean=0"
            )
        source = self._delayed(
            INPUT, lag, leaf.source.shape, (min(0, self._seen.feed.min_level), self._seen.feed.max_level)
        )
        made = replace(leaf, source=source)
        return Value(made, source.shape, self._first.ref, exact=made)

    def _delay(self, needed: set[int]) -> dict[str, Cell]:
        """The spikes of earlier steps that are needed: nodes, and the cells that they delay."""
        seen, found = self._seen, dict[str, Cell]()
        for i, steps in seen.sent.items():
            cell = seen.cells[i]
            for k, refs in enumerate(steps[: seen.lag]):
                ref = refs[0]
                if ref is None or ref.number not in needed:
                    continue
                shape = ref.shape[1:]
                source = self._delayed(cell.name, seen.lag - k, shape, (0, 1))
                leaf = Leaf(source, factor_of(cell, shape), np.zeros((1,) * len(shape)))
                self.values[ref.number] = Value(leaf, shape, ref, exact=leaf)
                found[source.node] = cell
        return found

    def _delayed(self, what: str, lag: int, shape: tuple[int, ...], levels: tuple[int, int]) -> Source:
        name = f"{what}.{lag} step{'s' * (lag > 1)} before"
        self.nodes[name] = node = Delayed((what,), lag, shape, levels)
        low, high = node.bounds((), ())
        self._sources[name] = Source(name, shape, low, high)
        return self._sources[name]

    def _tests(self) -> list[Decision]:
        """The tests of values in the forward, each in the first time step that makes it."""
        first: dict[Any, Decision] = {}
        for test in self.decisions:
            other = first.setdefault(self._seen.key(test.value), test)
            if other.outcome != test.outcome:
                raise ConversionError(f"{test.place} asks for values of the images, which differ from step to step")
        return [*first.values()]

    def _needed_in_step(self, ref: Ref) -> set[int]:
        """The values that lead to one of this step, back to neurons and frames."""
        found, todo = set[int](), [ref]
        while todo:
            ref = todo.pop()
            if ref.number in found:
                continue
            found.add(ref.number)
            if ref.number in self._seen.taken:
                todo.append(self._seen.taken[ref.number][0])
                continue
            step, _ = self.made_by.get(ref.number, (None, 0))
            if step is not None and step.name != _NEURONS and ref.number not in self._seen.frames_taken:
                todo += step.refs
        return found

    def _given(self, ref: Any) -> Any:
        if isinstance(ref, Ref) and ref.number in self._seen.potentials:
            raise Cannot("computes with a potential; only spikes go on to other layers")
        return super()._given(ref)

    def _call(self, step: Step) -> None:
        current, _, index, _ = step.args
        cell = self._seen.cells[index]
        leaf = self.exact(self._value(current))
        shape = leaf.source.shape
        ones = (1,) * len(shape)

        def weighted(matrix: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
            made = self._decomposed(matrix, 1)
            return weight_of(made.integers), made.unit

        node = Neurons(
            (leaf.source.node,),
            cell.model,
            np.asarray(leaf.gain, np.float64).reshape(_ranked(leaf.gain, shape)),
            np.asarray(leaf.constant, np.float64).reshape(_ranked(leaf.constant, shape)),
            constants_of(cell, shape),
            cell.module.reset_mechanism,
            bool(getattr(cell.module, "reset_delay", True)),
            recurrent_of(cell, shape, weighted),
        )
        ref = step.outputs[0]
        assert ref is not None
        source = self._add(ref, node, shape)
        self._seen.names[cell.name] = source.node
        made = Leaf(source, factor_of(cell, shape), np.zeros(ones))
        self.values[ref.number] = Value(made, shape, ref, exact=made)

    def _integrator(self, value: Value) -> str:
        leaf = self.exact(value)
        self.place = Place("?", 0, "output", "model")
        shape = leaf.source.shape
        gain, constant = (part.reshape(_ranked(part, shape)) for part in (leaf.gain, leaf.constant))
        return self._add(value.ref, Neurons((leaf.source.node,), "integrator", gain, constant, {}), shape).node

    def form(self, value: Value) -> Form:
        """Lines before levels: currents are real numbers, and their scale is a factor."""
        if value.form is None:
            found = Function(value.expr).form(levels=False)
            if isinstance(found, Affine):
                value.form = found
        return super().form(value)

    def _name(self, node: Node) -> str:
        if not isinstance(node, Neurons):
            return super()._name(node)
        base = self.place.module or "neurons"
        return base if base not in self.nodes and base not in ("input", "readout") else super()._name(node)

    def _decomposed(self, weights: NDArray[Any], largest: int) -> Decomposed:
        made = decompose(weights, largest, MOST // 4)
        most = 127 if self._bits is None else 2 ** (self._bits - 1) - 1
        if self._bits is None or np.abs(made.integers).max() <= max(1, most):
            return made
        size = np.abs(weights).max(axis=1, keepdims=True)
        unit = np.where(size > 0, size, 1.0) / most
        return Decomposed(np.rint(weights / unit).astype(np.int64), unit, 0.5, close=False)


def _ranked(array: NDArray[Any], shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1,) * len(shape) if array.size == 1 else array.shape


def _single(step: Step) -> Step:
    """A step with its single numbers as a float32 model has them."""
    if step.name not in ("mul", "div", "add", "sub"):
        return step

    def rounded(leaf: Any) -> Any:
        if isinstance(leaf, Tensor) and leaf.numel() == 1 and leaf.is_floating_point():
            return leaf.to(torch.float32).to(leaf.dtype)
        return float(np.float32(leaf)) if isinstance(leaf, float) else leaf

    return replace(step, args=tree_map(rounded, step.args))
