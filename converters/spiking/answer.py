"""How a spiking model reads its classes, found by trying out what it returns on spikes and potentials that are drawn.

What the model returns is computed again from drawn values in the place of its neurons'. If it is one value per class,
and orders the classes in every draw as the sums of one layer's spikes do, its classes are read by rate; likewise for
potentials. Records of all time steps are read as snnTorch's losses read them: spikes by rate, potentials by the
greatest. Anything else is not guessed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from lava_meta.converters.recording.operations import Recording
from lava_meta.converters.recording.steps import Ref

ENDS = -1  # in the place of a layer's number: values behind the last neurons, summed over the steps
_DRAWS = 10


@dataclass(frozen=True)
class Answer:
    """The layer of neurons that is read, and how; None if that is not known."""

    layer: int
    readout: str | None


@dataclass(frozen=True)
class Returned:
    """What a recorded run returned, and of which values it is made."""

    recording: Recording
    # By layer and time step: its spikes, and its states, potential last.
    sent: Mapping[int, Sequence[Sequence[Ref | None]]]
    ends: Sequence[Ref]  # by time step: values behind the last neurons
    last: Sequence[int]  # the layers that no other takes spikes from, in order

    def answer(self) -> Answer:
        """Which layer is read, and how."""
        leaves = [leaf for leaf in tree_leaves(self.recording.output) if isinstance(leaf, Ref)]
        records = [found for leaf in leaves if (found := self._record(leaf)) is not None]
        for leaf in leaves:
            if self._is_answer(leaf) and self._record(leaf) is None and self._reads({leaf.number}):
                found = self._ordered_as(leaf)
                if found is None or found.layer in (ENDS, *self.last):
                    return found or Answer(records[0].layer if records else self._default, None)
        chosen = [found for found in records if found.layer in (ENDS, *self.last)] or records
        for readout in ("rate", "membrane", "last", None):
            for found in chosen:
                if found.readout == readout:
                    return found
        return Answer(self._default, "last" if self.ends else "rate")

    @property
    def _default(self) -> int:
        return ENDS if self.ends else self.last[-1]

    def _is_answer(self, leaf: Ref) -> bool:
        """Whether it has a value for each of several classes, once."""
        images = self.recording.images
        return leaf.shape[:1] == (images,) and math.prod(leaf.shape) >= 2 * images and len(leaf.shape) == 2

    def _reads(self, numbers: set[int]) -> bool:
        """Whether these values depend on the layers that are read."""
        own = {ref.number for i in self.last for refs in self.sent[i] for ref in refs if ref is not None}
        own |= {ref.number for ref in self.ends}
        todo, seen = [*numbers], set[int]()
        while todo:
            number = todo.pop()
            if number in own:
                return True
            if number not in seen and number in self.recording.made_by:
                seen.add(number)
                todo += [ref.number for ref in self.recording.made_by[number][0].refs]
        return False

    # Records.

    @cached_property
    def _known(self) -> dict[bytes, tuple[int, str, int]]:
        """What drawn values are: layer, readout, time step."""
        known = {}
        for i, steps in self.sent.items():
            for k, refs in enumerate(steps):
                for ref, readout in ((refs[0], "rate"), (refs[-1], "membrane")):
                    if ref is not None:
                        known[_content(self._reals[ref.number])] = (i, readout, k)
        known |= {_content(self._reals[ref.number]): (ENDS, "last", k) for k, ref in enumerate(self.ends)}
        return known

    @cached_property
    def _reals(self) -> dict[int, Tensor]:
        return self._drawn(0, spikes=False)

    def _record(self, leaf: Ref) -> Answer | None:
        """What a record of time steps holds, of one of them, or of all; None if it is none."""
        steps = len(self.ends or self.sent[self.last[-1]])
        value = self._values([leaf], self._reals)[leaf.number]
        found = self._known.get(_content(value))
        if found is not None:
            layer, readout, step = found
            listed = {ref.number for ref in tree_leaves(self.recording.output) if isinstance(ref, Ref)}
            if len(listed) >= steps or steps == 1:
                return Answer(layer, readout)
            return Answer(layer, "last" if readout == "membrane" and step == steps - 1 else None)
        for axis in (0, 1, -1):
            if value.ndim > 1 and value.shape[axis] == steps:
                parts = [self._known.get(_content(part)) for part in value.unbind(axis)]
                if parts[0] is not None and parts == [(*parts[0][:2], k) for k in range(steps)]:
                    return Answer(*parts[0][:2])
        return None

    # Values that order classes.

    def _ordered_as(self, leaf: Ref) -> Answer | None:
        """The layer whose classes are in the same order in every draw."""
        candidates = [ENDS] if self.ends else [*reversed(self.last), *(i for i in self.sent if i not in self.last)]
        draws = [self._drawn(seed, spikes=True) for seed in range(_DRAWS)]
        orders = [_order(self._values([leaf], drawn)[leaf.number]) for drawn in draws]
        for layer in candidates:
            for readout, take in _SCORES.items() if layer != ENDS else [("last", _summed)]:
                rows = [
                    [drawn[refs[0 if readout == "rate" else -1].number] for refs in self.sent[layer]]  # type: ignore[union-attr]
                    if layer != ENDS
                    else [drawn[ref.number] for ref in self.ends]
                    for drawn in draws
                ]
                if math.prod(leaf.shape) == rows[0][0].numel() and all(
                    torch.equal(order, _order(take(torch.stack(row)))) for order, row in zip(orders, rows, strict=True)
                ):
                    return Answer(layer, readout)
        return None

    def _drawn(self, seed: int, *, spikes: bool) -> dict[int, Tensor]:
        """Values for the input and all that the neurons sent; spikes of 0 and 1, or any numbers to tell them apart."""
        generator = torch.Generator().manual_seed(seed)

        def draw(ref: Ref, *, binary: bool = False) -> Tensor:
            made = torch.randn(ref.shape, generator=generator, dtype=torch.float64)
            return (made > 0).double() if binary else made

        drawn = {self.recording.input.number: draw(self.recording.input)}
        for steps in self.sent.values():
            for refs in steps:
                for place, ref in enumerate(refs):
                    if ref is not None:
                        drawn[ref.number] = draw(ref, binary=spikes and not place)
        return drawn | {ref.number: draw(ref) for ref in self.ends}

    def _values(self, wanted: Iterable[Ref], drawn: Mapping[int, Tensor]) -> dict[int, Tensor]:
        return computed_again(self.recording, wanted, drawn)


def computed_again(recording: Recording, wanted: Iterable[Ref], given: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """The values `wanted`, by number, from `given` ones, by the operations of a run."""
    values = dict(given)
    todo, needed = [ref.number for ref in wanted], set[int]()
    while todo:
        number = todo.pop()
        step, _ = recording.made_by.get(number, (None, 0))
        if number in values or step is None or id(step) in needed:
            continue
        needed.add(id(step))
        todo += [ref.number for ref in step.refs]
    for step in recording.steps:
        if id(step) not in needed:
            continue
        args, kwargs = tree_map(
            lambda leaf: values[leaf.number] if isinstance(leaf, Ref) else leaf, (step.args, step.kwargs)
        )
        found = step.op(*args, **kwargs)
        for ref, value in zip(step.outputs, found if isinstance(found, (list, tuple)) else [found], strict=True):
            if ref is not None and ref.number not in given:
                values[ref.number] = value
    return values


def _summed(steps: Tensor) -> Tensor:
    return steps.sum(dim=0)


_SCORES = {
    "rate": _summed,
    "mean": _summed,
    "last": lambda steps: steps[-1],
    "membrane": lambda steps: steps.amax(dim=0),
}


def _order(values: Tensor) -> Tensor:
    """Whether each class has more than the next, of every image."""
    rows = values.reshape(len(values), -1)
    return torch.stack([rows > rows.roll(1, dims=1), rows < rows.roll(1, dims=1)])


def _content(value: Tensor) -> bytes:
    return value.contiguous().numpy().tobytes()
