"""How far the learning engine's integers are from the rule that they stand for, measured over every tag and trace.

One step of a synapse with an active input, tags -255 .. 255 and traces of a range, both signs, before the rounding at
random (which is right in the mean) and with the mean of the trace y3. Tags that the step would carry past the engine's
limits are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.online_learning.learning_engine.synapses import EngineSynapses
from lava_meta.rule import metaplastic_update
from lava_meta.rule.lowering import TRACE_LIMIT, EngineRule

TRACES = ((1, 7), (8, 31), (32, TRACE_LIMIT))


def distances(rule: EngineRule, given_back: bool = True) -> list[dict[str, float | str]]:
    """One row per range of traces |y1|, for a rule in fixed point.

    step: mean size, in tag units. bias: mean of the engine's step less the declared one, in tag units. error: mean
    |difference| over the mean size of a declared step. signs: share of tags that move the declared way, or rest where
    they should. `given_back` False leaves out the trace y3.
    """
    rows: list[dict[str, float | str]] = []
    for low, high in TRACES:
        size = np.arange(low, high + 1)
        y = np.concatenate([-size, size])
        tags = np.broadcast_to(np.arange(-255, 256), (len(y), 511))
        got = np.concatenate([_steps(rule, tags, y, x, given_back) for x in _inputs(rule)])
        plain = np.concatenate([x * rule.step * y[:, None] * np.ones(tags.shape) for x in _inputs(rule)])
        start = np.concatenate([tags] * len(_inputs(rule))).astype(np.float64)
        wanted = metaplastic_update(start / rule.scale, plain / rule.scale, rule.consolidation) * rule.scale - start
        inside = (np.abs(start + wanted) < 255) & (np.abs(start - plain) < 255)
        apart = (got - wanted)[inside]
        rows.append(
            {
                "|trace|": f"{low}..{high}",
                "step": float(np.abs(wanted[inside]).mean()),
                "bias": float(apart.mean()),
                "error": float(np.abs(apart).mean() / np.abs(wanted[inside]).mean()),
                "signs": float((np.sign(got) == np.sign(wanted))[inside].mean()),
            }
        )
    return rows


def engine_gate(rule: EngineRule, trace: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """|h| of the tags 0 .. 255, and the share of a shrinking step of `trace` that the engine's integers take."""
    tags = np.arange(256)[None, :]
    taken = _steps(rule, tags, np.array([trace]), 1, True)
    return tags[0] / rule.scale, taken[0] / (-rule.step * trace)


def _inputs(rule: EngineRule) -> tuple[int, ...]:
    return (1,) if rule.inputs == "spikes" else (1, -1)


def _steps(rule: EngineRule, tags: NDArray[Any], y: NDArray[Any], x: int, given_back: bool) -> NDArray[Any]:
    """Mean steps of tags (traces, tags), in tag units, for an input of x."""
    synapses = EngineSynapses(rule, tags)
    spikes, silent = np.full(tags.shape[1], x > 0), np.zeros(len(y), bool)
    low = int(rule.rounding) if given_back else 0
    part = rule.rounding - low if given_back else 0.0
    lower, upper = (
        synapses.wide_tags(spikes, silent, {"y1": y, "y2": np.abs(y), "y3": np.full(len(y), y3)})
        for y3 in (low, low + 1)
    )
    steps: NDArray[Any] = ((1 - part) * lower + part * upper) / 2**7 - tags
    return steps
