"""Parts of values that a mask chooses, computed and put back: `x[m] = f(x[m])` is `where(m, f(x), x)`.

How many values a mask chooses depends on the image. What is done to each of them alone is done to all in its place, of
which those are taken that the mask chooses.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from lava_meta.converters.recording.steps import Ref, Step, makers

_DEEP = 4  # operations, one behind the other, by which a mask may be computed twice


def whole(steps: list[Step]) -> list[Step]:
    """The steps, without parts; as they are if a part is used otherwise."""
    if not any(_chooses(step) for step in steps):
        return steps
    found: list[Step] = []
    wide: dict[int, tuple[Ref, int]] = {}  # by the number of a part: what it is of all places, and its mask
    masks = _Masks(steps)
    for step in steps:
        parts = {id(wide[ref.number]): wide[ref.number] for ref in step.refs if ref.number in wide}
        if _chooses(step):
            x, (mask,) = step.args[:2]
            made = replace(step, op=torch.ops.aten.clone.default, args=(x,), kwargs={})
            found.append(_made(made, x.shape, masks.first(mask), wide))
        elif not parts:
            found.append(step)
        else:
            (shape, mask), *others = {(ref.shape, own) for ref, own in parts.values()}
            args, kwargs = tree_map_only(
                Ref,
                lambda ref: wide[ref.number][0] if ref.number in wide else ref,
                (step.args, step.kwargs),
            )
            taken = replace(step, args=args, kwargs=kwargs)
            if not others and _puts_back(step, shape, mask, masks, wide):
                found.append(taken)
            elif not others and _is_of_each(step, wide):
                found.append(_made(taken, shape, mask, wide))
            else:
                return steps
    return found


def _made(step: Step, shape: tuple[int, ...], mask: int, wide: dict[int, tuple[Ref, int]]) -> Step:
    """A step that gives all places: one that the run did not do."""
    made = step.outputs[0]
    assert made is not None
    wide[made.number] = replace(made, shape=tuple(shape)), mask
    return replace(step, outputs=(wide[made.number][0],), number=-1)


def _chooses(step: Step) -> bool:
    """Whether it takes the values that a mask of the images' values chooses, which are in one row then."""
    if step.name != "index" or len(step.refs) != 2 or len(step.args[1]) != 1:
        return False
    value, mask = step.refs
    made = step.outputs[0]
    return made is not None and value.shape == mask.shape and len(value.shape) > 1 == len(made.shape)


def _puts_back(step: Step, shape: tuple[int, ...], mask: int, masks: _Masks, wide: dict[int, tuple[Ref, int]]) -> bool:
    """Whether it puts parts where they came from."""
    if step.name != "where" or len(step.refs) < 2 or step.refs[0].number in wide or step.args[1].number not in wide:
        return False
    rest = step.args[2]
    kept = not (isinstance(rest, Ref) and rest.number in wide)
    return kept and tuple(rest.shape) == tuple(shape) and masks.first(step.args[0]) == mask


def _is_of_each(step: Step, wide: dict[int, tuple[Ref, int]]) -> bool:
    """Whether it does something to each value of parts alone."""
    numbers = all(leaf.numel() == 1 for leaf in tree_leaves((step.args, step.kwargs)) if isinstance(leaf, Tensor))
    alone = all(ref.number in wide for ref in step.refs) and len(step.outputs) == 1
    return alone and numbers and (step.pointwise or step.name in ("clone", "detach", "_to_copy"))


class _Masks:
    """Masks that are computed twice, as `x[x > 0] = f(x[x > 0])` has them, are the same."""

    def __init__(self, steps: list[Step]) -> None:
        self.made_by = makers(steps)
        self.known: list[Ref] = []

    def first(self, mask: Ref) -> int:
        """The number of the mask that was computed first of those that are the same."""
        found = next((own for own in self.known if self._same(own, mask, _DEEP)), None)
        if found is None:
            self.known.append(found := mask)
        return int(found.number)

    def _same(self, a: Ref, b: Ref, deep: int) -> bool:
        """Whether two values are made by the same operations of the same values."""
        if a.number == b.number or not deep or not {a.number, b.number} <= self.made_by.keys():
            return a.number == b.number
        (own, i), (other, k) = self.made_by[a.number], self.made_by[b.number]
        pairs = list(zip(own.refs, other.refs, strict=False))
        if (
            len(own.refs) != len(other.refs)
            or (i, k) != (0, 0)
            or not all(self._same(*pair, deep - 1) for pair in pairs)
        ):
            return False
        numbers = {theirs.number: ours for ours, theirs in pairs}
        args, kwargs = tree_map_only(Ref, lambda ref: numbers[ref.number], (other.args, other.kwargs))
        return bool(own.does_the_same(replace(other, args=args, kwargs=kwargs)))
