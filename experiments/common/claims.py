"""A claim, what was measured, and what the seeds say of it.

Arms of one seed share their data, permutations, initial weights and order of images, so arms are compared within each
seed: with d_s the difference of two arms at seed s, of n seeds,

    interval = mean(d) -+ t(0.975, n - 1) * sd(d) / sqrt(n)         95 % confidence, Student's t

A claim "the difference is above a bound" holds if the whole interval is above it, does not hold if the whole interval
is below it, and is undecided otherwise. One seed has no interval and is not judged. Several claims of one report are
each judged at 95 %; nothing corrects for their number, nor for a best `m` that was picked by the same measurements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from scipy.stats import t as student


class Verdict(Enum):
    """What the seeds say of a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    UNDECIDED = "undecided by these seeds"
    ONE_SEED = "one seed: not judged"
    NOT_RUN = "not told by these runs"


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper (or of ours), what was measured, and the verdict."""

    said: str
    measured: str
    verdict: Verdict


def interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """95 % confidence interval of the mean of `values`, one per seed, by Student's t; NaN for fewer than two."""
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        return math.nan, math.nan
    half = float(student.ppf(0.975, len(values) - 1)) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()) - half, float(values.mean()) + half


def judge(values: Sequence[float] | np.ndarray, above: float) -> Verdict:
    """Whether the mean of `values`, one per seed, lies above a bound; NaN among them: not measured."""
    values = np.asarray(values, dtype=np.float64)
    if not len(values) or np.isnan(values).any():
        return Verdict.NOT_RUN
    if len(values) < 2:
        return Verdict.ONE_SEED
    low, high = interval(values)
    return Verdict.HOLDS if low > above else Verdict.FAILS if high < above else Verdict.UNDECIDED


def between(values: Sequence[float] | np.ndarray, low: float, high: float) -> Verdict:
    """Whether the mean of `values`, one per seed, lies between two bounds."""
    return both(judge(values, low), judge(-np.asarray(values, dtype=np.float64), -high))


def both(*verdicts: Verdict) -> Verdict:
    """All of them: fails where one fails, holds where all hold."""
    if Verdict.FAILS in verdicts:
        return Verdict.FAILS
    return next((verdict for verdict in verdicts if verdict is not Verdict.HOLDS), Verdict.HOLDS)


def opposite(verdict: Verdict) -> Verdict:
    """Of the claim's denial."""
    return {Verdict.HOLDS: Verdict.FAILS, Verdict.FAILS: Verdict.HOLDS}.get(verdict, verdict)
