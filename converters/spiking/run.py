"""One recorded run of a spiking model, and the time steps in it.

Every value gets a key made of the operations and constants that lead to it from the input, or from the neurons. What
leads from one frame and the neurons of the same step to the next neurons must be the same in every step, by these keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from lava_meta.converters.feed import Feed
from lava_meta.converters.lowering.acyclic import example
from lava_meta.converters.recording.calling import untouched
from lava_meta.converters.recording.operations import Recording, record
from lava_meta.converters.recording.steps import MOVES, SAME, Ref, Step
from lava_meta.converters.spiking.answer import computed_again
from lava_meta.converters.spiking.modules import Cell, at_rest, place_of
from lava_meta.converters.spiking.split import split_by_time
from lava_meta.errors import ConversionError

_LIBRARY = torch.library.Library("lava_meta", "DEF")
_LIBRARY.define("neurons(Tensor current, Tensor input, int cell, int states) -> Tensor[]")


def _fired(current: Tensor, _: Tensor, cell: int, states: int) -> list[Tensor]:
    return [(current > 0).to(current.dtype), *(current.clone() for _ in range(states))]


_LIBRARY.impl("neurons", _fired, "CompositeExplicitAutograd")
NEURONS = "lava_meta::neurons"
_STAYS = MOVES | SAME | {"_to_copy"}  # operations that leave values as they are


class NotThisTime(ConversionError):
    """The model does not take its input in this form."""


class TooShort(NotThisTime):
    """Or more time steps would show how they hang together."""


FAILS = "the model itself fails"


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


class Seen:
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
        self.model, self._stateful = model, given > 0
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
                if FAILS not in str(failed):
                    raise
                error = NotThisTime(str(failed))
                if "IndexError" not in str(failed):
                    raise error from failed
        else:
            assert error is not None
            raise error
        self.frames = frames
        self._number()

    def _record(self, x: Tensor, given: int) -> Recording:
        with untouched(self.model):
            return self._recorded(x, given)

    def _recorded(self, x: Tensor, given: int) -> Recording:
        model = self.model
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
                if step.name == NEURONS:
                    self._call(step)
                elif any(ref.number in self._moving for ref in step.refs):
                    self._move(step)
                else:
                    self._compute(step)
                    self._restack(step)
        self.recording = replace(self.recording, steps=steps)
        if not self.order:
            raise NotThisTime("its neurons are not called")
        self.arguments = {i: self.arguments[i] for i in self.order}
        self.sent = {i: self.sent[i] for i in self.order}
        counts = {self.cells[i].label: len(found) for i, found in self.arguments.items()}
        self.steps = max(counts.values())
        self._check_places()
        for label, count in counts.items():
            if count != self.steps:
                raise NotThisTime(f"{label} is called {count} times in a run, other neurons {self.steps} times")
        if self.time == "held" and self.steps == 1 and (self._stateful or not any(c.begins for c in self._calls)):
            self.time = "step"  # else each call begins at rest: one step is all of it
        if self.time in ("first", "second") and self.steps == 1:
            raise NotThisTime("its neurons are called once for all frames")
        self.lag = self._lag()
        self.lowered_calls = {self._calls_at[i][self.lag] for i in self.order}
        for calls in self._calls:
            if any(shape[:1] != (self.images,) for shape in calls.given):
                raise NotThisTime(
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
                    raise NotThisTime(f"{label} takes in step {k + 1} what was computed in step {max(at) + 1}")
                if at and k - min(at) > self.steps // 2:
                    raise TooShort(
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
                raise TooShort(f"{label} gets a constant instead of a current")
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
                computed_again(self.recording, [ref], given)[ref.number] if isinstance(ref, Ref) else ref
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
                raise NotThisTime(
                    f"{cell.label} is called at {places} places a step with one state: in snnTorch each call goes on "
                    "from the potential that the call before left, at another place. Give each place neurons of its own"
                )

    def _call(self, step: Step) -> None:
        current, _, index, _ = step.args
        if isinstance(current, Ref) and current.number in self._moving:
            raise NotThisTime(f"{self.cells[index].label} gets all frames at once")
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
        if step.name not in _STAYS:
            raise NotThisTime(f"{step.place} ({step.name}) computes with all frames at once; take one frame a step")
        if step.number in self.recording.rounded:
            raise NotThisTime(f"{step.place} rounds all frames to half precision: leave the cast out")
        if len(step.refs) != 1:
            raise NotThisTime(f"{step.place} ({step.name}) joins frames")
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

    # What the model gives.

    def last(self) -> list[int]:
        """The layers whose spikes no other layer takes in the same step, in order."""
        made = self.recording.made_by
        own = {refs[0][0].number: i for i, refs in self.sent.items() if refs[0][0] is not None}
        first = [found[0] for found in self.arguments.values()]
        todo, seen = [value.number for value in first if isinstance(value, Ref)], set[int]()
        while todo:
            number = todo.pop()
            if number not in seen:
                seen.add(number)
                todo += [ref.number for ref in made[number][0].refs] if number in made and number not in own else []
        return [i for number, i in own.items() if number not in seen]

    def ends(self) -> list[Ref]:
        """Values that the model sums over the steps without neurons, step by step."""
        made = self.recording.made_by
        todo = [leaf for leaf in tree_leaves(self.recording.output) if isinstance(leaf, Ref)]
        seen, ends = set(), {}
        while todo:
            ref = todo.pop()
            if ref.number in seen or ref.number not in made:
                continue
            seen.add(ref.number)
            step, _ = made[ref.number]
            if step.name == NEURONS:
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
            places = {str(made[number][0].place) for number in ends}
            raise ConversionError(
                f"the model's outputs are computed by {'; '.join(sorted(places))}: behind the last neurons, one layer "
                "whose values are summed over the time steps is supported"
            )
        return sorted(ends.values(), key=lambda ref: ref.number)


def seen_in(lengths: Sequence[int], run: Callable[[Sequence[int]], Seen]) -> Seen:
    """A run, of more time steps if connections reach back over them."""
    for start in range(len(lengths)):
        try:
            seen = run(lengths[start:])
        except TooShort:
            if start == len(lengths) - 1:
                raise
            continue
        if not seen.lag or start or seen.time == "held":
            break
    return seen


def _moves(step: Step) -> bool:
    """Whether a step leaves its value as it is: reshapes, copies, what is added to the 0 of an empty sum."""
    others = [leaf for leaf in step.args if not isinstance(leaf, Ref)]
    if step.name == "add" and others:
        return not any(bool(torch.as_tensor(other).any()) for other in others)
    return step.name in _STAYS


def _gathers(step: Step) -> bool:
    """Whether a step only collects time steps: stacks, sums, means, and scales by one positive number."""
    if step.name in ("stack", "cat", "sum", "mean"):
        return True
    if step.name in ("add", "mul", "div"):
        others = [leaf for leaf in step.args if not isinstance(leaf, Ref)]
        return all(float(torch.as_tensor(other).sum()) >= 0 and torch.as_tensor(other).numel() == 1 for other in others)
    return step.name in ("_softmax", "_log_softmax", "max", "amax")
