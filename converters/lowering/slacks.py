"""By how much the model's own values may differ from those that a node holds of them."""

from __future__ import annotations

import functools

import numpy as np

from lava_meta.converters.functions.elementwise import Function
from lava_meta.converters.functions.expressions import Expr, Known, Leaf, Slack, constant
from lava_meta.converters.functions.forms import Levels, Pieces
from lava_meta.converters.functions.monotone import UNIT_ROUNDOFF
from lava_meta.converters.lowering.values import dyadic


def level_slack(form: Levels, expr: Expr, leaf: Leaf, rounding: float = 0.0) -> Slack:
    """Of levels, and `rounding` more: those that are no short binary numbers are rounded by the model.

    Those of few integers that are not exact to it may lie on a slope, as a channel's that is constant.
    """
    fixed, units = form.error + rounding, form.unit.reshape(-1)
    if not dyadic(units) or form.offset.any():
        size = float(np.abs(form.codes).max() * np.abs(units).max()) + float(np.abs(form.offset).max())
        fixed += 4 * UNIT_ROUNDOFF * size
    function = Function(expr)
    if leaf.slack.proven == 0 or not function.few:
        return constant(fixed)
    gaps = np.abs(np.diff(form.values, axis=0))
    jump = float(gaps[gaps > 0].min(initial=np.inf)) / 2  # to another level: that is a tie
    moved = functools.cache(lambda own: function.moved(own, jump))
    return Slack(lambda known: fixed + moved(leaf.slack(known)))


def stream_slack(pieces: Pieces, expr: Expr, leaf: Leaf, scale: float) -> Slack:
    """Of a stream in units of 1 / `scale`, pieces of a function of the values of a node."""
    every = np.concatenate([(pieces.slope * scale).reshape(-1), (pieces.intercept * scale).reshape(-1)])
    whole = pieces.error == 0 and bool((every == np.rint(every)).all()) and float(np.abs(every).max()) < 2.0**53
    gain = np.where(leaf.gain, np.abs(leaf.gain), np.inf)
    fixed = 0.5 / scale + 4 * UNIT_ROUNDOFF * pieces.offset
    line = len(pieces.start) == 1  # its error is that of the greatest integer
    per_integer = pieces.error / max(1, leaf.source.largest) if line else 0.0
    fixed += 0.0 if line else pieces.error

    @functools.cache
    def changes(low: float, high: float) -> tuple[float, float]:
        found, steepest = pieces.changes(low, high)
        return float((found / gain).max()), 4 * UNIT_ROUNDOFF * steepest + per_integer

    @functools.cache
    def at_ends(low: float, high: float, own: float) -> float:
        """Of a root at 0, steeper than from there to the next integer."""
        function = Function(expr)
        ends = np.array([low, low + own / float(gain.min()), high, high - own / float(gain.min())])
        with np.errstate(invalid="ignore", over="ignore"):
            found = function(np.broadcast_to(ends.reshape(-1, *(1 for _ in function.shared)), (4, *function.shared)))
            return float(np.nan_to_num(np.abs(np.diff(found, axis=0)[::2])).max())

    def slack(known: Known) -> float:
        own = leaf.slack(known)
        low, high = known.ends(leaf.source)
        reach = 1.0 + 2 * own / float(gain.min())  # to where the model's own value may lie
        change, relative = changes(low - reach, high + reach)
        change = max(change * own, at_ends(low, high, own))
        return change + (0.0 if whole else fixed + relative * known.largest(leaf.source))

    return Slack(slack)
