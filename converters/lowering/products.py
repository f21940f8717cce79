"""Sums and products of values of several nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lava_meta.converters.functions.elementwise import Function
from lava_meta.converters.functions.expressions import (
    Apply,
    Expr,
    Known,
    Leaf,
    Slack,
    Source,
    alike,
    constant,
    evaluate,
    mapped,
)
from lava_meta.converters.functions.forms import one_unit
from lava_meta.converters.functions.monotone import UNIT_ROUNDOFF
from lava_meta.converters.functions.root_mean_square import Graph, Normed, normed, share
from lava_meta.converters.lowering.held import ValueLowering
from lava_meta.converters.lowering.relations import ordered
from lava_meta.converters.lowering.values import Cannot, Total, Value, dyadic, own_leaf, source_of, unit_of, unseen
from lava_meta.converters.recording.steps import Ref, Step
from lava_meta.graph.nodes import (
    Add,
    Curve,
    Multiply,
)

_FAR = 2.0**24  # times the least value, up to which a function's values have digits enough in one fixed point


class ProductLowering(ValueLowering):
    """Sums and products: nodes of aligned integers, with bounds for what is rounded."""

    def _sum(self, values: Sequence[Value], ref: Ref) -> Value:
        leaves = self._aligned([self.streamed(value) for value in values], ref, summed=True)
        node = Add(tuple(leaf.source.node for leaf in leaves))
        source = self._add(ref, node, ())
        unit = unit_of(leaves[0])
        rounding = UNIT_ROUNDOFF * unit if any(leaf.slack.proven for leaf in leaves) else 0.0

        def slack(known: Known) -> float:
            return sum(leaf.slack(known) for leaf in leaves) + rounding * known.largest(source)

        return self._fixed(source, unit, Slack(slack), ref)

    def _within(self, step: Step, made: Value) -> Value:
        """The difference of two values within what the steps that made them say of it."""
        found = ordered(step, self.made_by)
        if found is None:
            return made
        most, ref = 0.0, step.outputs[0]
        if found.besides is not None:
            most = -self._lowest(found.besides)
        own = source_of(made)
        if found.rows is not None and ref is not None and ref.shape == (self.images, *own.shape) and made.move is None:
            self._zero_in[own.node] = found.rows
        op = torch.clamp_max if found.sign > 0 else torch.clamp_min
        return self._function(op, made, most)

    def _lowest(self, ref: Ref) -> float:
        """The least of a value in its bounds."""
        value = self._given(ref)
        if not isinstance(value, Value):
            return float(value.min())
        leaf = self.streamed(value)
        return float(leaf.source.low.min()) * unit_of(leaf)

    def _least_with_zero(self, terms: Value, rows: NDArray[np.int64], held: Leaf) -> float | None:
        """Of sums of a function of what is 0 at one place of each row: the least, `f(0)` and the least of the others.

        None if nothing is known of them. rows: (sums, terms), the places of `terms` in each sum, as `held` holds them.
        """
        known = self._zero_in.get(source_of(terms).node)
        places = rows if terms.move is None else terms.move.reshape(-1)[rows]
        if known is None or not known.all_of_one(places):
            return None
        source = source_of(terms)
        zero = np.zeros((1, *(1,) * len(source.shape)))
        at_zero = evaluate(terms.expr, own_leaf(terms).values(zero)).double().expand(1, *source.shape)
        ends = (held.gain * end + held.constant for end in (held.source.low, held.source.high))
        least = np.broadcast_to(np.minimum(*ends), held.source.shape).reshape(rows.shape)
        found = float((least.sum(axis=1) + (at_zero.reshape(-1).numpy()[places] - least).min(axis=1)).min())
        return found if math.isfinite(found) else None

    def _fixed(self, source: Source, unit: float, slack: Slack, ref: Ref) -> Value:
        """A value in fixed point."""
        gain = np.full((1,) * len(source.shape), unit)
        made = self._made(Leaf(source, gain, 0 * gain, slack), source.shape, ref)
        made.expr = self._compared(made, own_leaf(made), levels=False)
        return made

    def _product(self, a: Any, b: Any, ref: Ref) -> Value:
        """Of two streams, as fine as its bounds allow."""
        if not (isinstance(a, Value) and isinstance(b, Value)):
            raise Cannot("multiplies a value with what is no value")
        a, b = self._away_from_zero(a, b), self._away_from_zero(b, a)
        for c, root in ((a, b), (b, a)):
            total = self._total_with(root, c)  # known before c has a node of its own
            if total is not None:
                parts = self._near_and_far(root, total)
                refs = [ref] if len(parts) == 1 else [unseen(ref)] * len(parts)
                made = [self._product_of_two(c, part, own, total) for part, own in zip(parts, refs, strict=True)]
                return made[0] if len(made) == 1 else self._sum(made, ref)
        return self._product_of_two(a, b, ref)

    def _product_of_two(self, a: Value, b: Value, ref: Ref, total: Total | None = None) -> Value:
        """Of two streams. total: what b is a function of, if a is in it."""
        whole = self._of_levels(a, b)
        if whole is not None:
            unit = unit_of(whole[0]) * unit_of(whole[1])
            source = self._add(ref, Multiply(tuple(leaf.source.node for leaf in whole), 0), ())
            return self._fixed(source, unit, constant(0.0), ref)
        leaves = [self.streamed(a), self.streamed(b)]
        units = [unit_of(leaf) for leaf in leaves]
        sizes = [leaf.source.largest * unit for leaf, unit in zip(leaves, units, strict=True)]
        shift = max(0, round(math.log2(self._finest(sizes[0] * sizes[1]) / (units[0] * units[1]))))
        node, unit = Multiply(tuple(leaf.source.node for leaf in leaves), shift), units[0] * units[1] * 2.0**shift
        norm = self._as_norm(a, b, leaves, node) or self._as_norm(b, a, leaves[::-1], node)
        if norm is None and total is not None:
            norm = share(self._graph, leaves[0], b.expr, leaves[1], total.share, total.power)

        def slack(known: Known) -> float:
            own = [leaf.slack(known) for leaf in leaves]
            reach = [known.largest(leaf.source) * each for leaf, each in zip(leaves, units, strict=True)]
            moved = reach[0] * own[1] + reach[1] * own[0] + own[0] * own[1] + unit + reach[0] * reach[1] * 2**-52
            return moved if norm is None else min(moved, norm.slack(known))

        source = self._add(ref, node, ())
        made = self._fixed(source, unit, Slack(slack), ref)
        if norm is None or source.largest * unit <= norm.most:
            return made
        # Not a function to be looked at: among integers so wide its slope is too narrow to be seen.
        most = math.ceil(norm.most / unit)
        start = np.array([-2 * most, -most, most]).reshape(3, *(1,) * len(source.shape))
        slope = np.array([0.0, 1.0, 0.0]).reshape(start.shape)
        within = Curve((source.node,), start, slope, np.clip(start, -most, most).astype(np.float64))
        return self._fixed(self._add(ref, within, ()), unit, Slack(slack), unseen(ref))

    def _away_from_zero(self, root: Value, c: Value) -> Value:
        """A function of a sum of squares or sizes in which c's is, for sums from 1 on: with a sum of 0, c is 0 too.

        What `F.normalize` divides by then, 1e-12, would leave no digits for all other sums.
        """
        if self._total_with(root, c) is None:
            return root
        return Value(_from(root, 1), root.shape, unseen(root.ref), root.move)

    def _near_and_far(self, root: Value, total: Total) -> list[Value]:
        """A function of a sum or maximum as the sum of two, if it reaches too far for its digits.

        `1 / max(S, s)` holds all digits of sums from some s on, and `1 / S - 1 / max(S, s)`, which is 0 for these,
        those of sums below.
        """
        if total.power < 1:
            return [root]
        function, source = Function(root.expr), own_leaf(root).source
        low, high = max(1, int(source.low.min())), int(source.high.max())
        ends = [float(abs(function(np.full((1,) * (1 + len(function.shared)), at)).max())) for at in (low, high)]
        if ends[0] <= ends[1] * _FAR:
            return [root]
        far = _from(root, 1 << (high.bit_length() // 2))
        near = Apply(torch.sub, (root.expr, far), {})
        return [Value(part, root.shape, unseen(root.ref), root.move) for part in (far, near)]

    def _total_with(self, root: Value, c: Value) -> Total | None:
        """The sum or maximum that one value is a function of, if the other is 0 wherever it is, element by element."""
        if not isinstance(root.expr, Apply):
            return None
        node, place = self._graph.base(own_leaf(root).source.node)
        total = self._totals.get(node)
        if total is None or own_leaf(root).gain.size > 1 or not _is_in(c, total):
            return None
        places = place if root.move is None else _taken(place, root.move)
        own = _taken(total.sums, np.arange(math.prod(c.shape)).reshape(c.shape) if c.move is None else c.move)
        return None if min(places.min(), own.min()) < 0 or (own != places).any() else total

    @property
    def _graph(self) -> Graph:
        return Graph(self.nodes, self._sources)

    def _of_levels(self, *values: Value) -> list[Leaf] | None:
        """Two values as integers times powers of two, so few that float64 rounds no product; None of others."""
        forms = [self.form(value) for value in values]
        if not all(one_unit(form) is not None for form in forms):
            return None
        leaves = [self.exact(value) for value in values]
        exact = all(leaf.slack.proven == 0 and dyadic(leaf.gain) for leaf in leaves)
        return leaves if exact and leaves[0].source.largest * leaves[1].source.largest < 2**53 else None

    def _as_norm(self, c: Value, root: Value, leaves: Sequence[Leaf], node: Multiply) -> Normed | None:
        """What is known of a product if one of the two is of the sum of squares in which the other is."""
        if not isinstance(root.expr, Apply):
            return None
        shape = node.shape([leaf.source.shape for leaf in leaves])
        return normed(self._graph, leaves[0], root.expr, leaves[1], shape)


def _taken(numbers: NDArray[np.int64], index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers at places, -1 where these are none."""
    found: NDArray[np.int64] = np.where(index < 0, -1, numbers.reshape(-1)[index])
    return found


def _from(root: Value, first: int) -> Expr:
    """A function of a sum that stays as it is at the integer `first` for all below."""
    leaf = own_leaf(root)
    least = float((leaf.gain * first + leaf.constant).reshape(-1)[0])
    return mapped(root.expr, Apply(torch.clamp_min, (leaf, least), {}), lambda part: part)


def _is_in(c: Value, total: Total) -> bool:
    """Whether a value is 0 wherever the sum of such terms is, in which it is."""
    if total.sizes is not None and (alike(c.expr, total.sizes) or alike(c.expr, total.terms)):
        return True
    held = [c.expr, *(leaf for leaf in (c.exact, c.stream) if leaf is not None)]
    bounds = Function(c.expr).bounds() if any(alike(part, total.terms) for part in held) else None
    return bounds is not None and bounds[0] >= 0
