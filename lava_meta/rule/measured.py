"""The consolidation function of one's own device: from its measured conductance over pulses.

A file of comma-separated values has a header and the columns `pulse` and `conductance` (others are not read):

    pulse,conductance
    0,1.02e-06
    1,1.31e-06

Equal pulses move a saturating memory less and less. The hidden weight is the conductance that was gained, and f is the
slope that is left there, as a share of the slope at the start:

    |h| = reach * (G - G_0) / (G_end - G_0)            f(|h|) = (dG/dp at G) / (dG/dp at G_0)

The slopes are those between neighbouring measurements, each at its middle conductance; f at 0 is the straight line
through the first two of them. So `G = 1 - exp(-p/tau)` gives `Linear`, and `G = tanh(p/tau)` nearly `Quadratic`.
"""

from __future__ import annotations

import csv
import io
import math
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.errors import FormatError
from lava_meta.io.files import open_regular
from lava_meta.rule.consolidation import Table

SMOOTHINGS = ("none", "isotonic")
LEAST_POINTS = 5


def consolidation_from_csv(path: str | os.PathLike[str], reach: float = 1.0, smooth: str = "none") -> Table:
    """The `Table` of a measured curve; a curve that falls is turned round.

    reach: |h| that the last conductance stands for, in units of h. smooth: "none" takes the curve as it is, and refuses
    one whose slope ever rises; "isotonic" takes the nearest slopes, by least squares over pulses, that never rise and
    are never negative.

    Raises `FormatError` naming the file, the line or pulse, and what to do; `ValueError` for a reach or smoothing that
    is none; `OSError` if there is no file.
    """
    if isinstance(reach, bool) or not isinstance(reach, (int, float)) or not 0 < reach < math.inf:
        raise ValueError(f"reach is {reach!r}; it is the positive |h| that the last conductance stands for")
    if smooth not in SMOOTHINGS:
        raise ValueError(f"smooth is {smooth!r}; choose one of {', '.join(SMOOTHINGS)}")
    pulse, conductance = read_curve(path)
    if conductance[-1] == conductance[0]:
        raise FormatError(f"{path}: the conductance ends where it began: a curve has to gain or lose some")
    width = np.diff(pulse)
    slope = np.diff(conductance) / width * np.sign(conductance[-1] - conductance[0])
    if smooth == "isotonic":
        slope = np.maximum(_never_rising(slope, width), 0.0)
    else:
        _check_slopes(path, pulse, slope)
    gained = np.concatenate([[0.0], np.cumsum(slope * width)])
    middle = (gained[:-1] + gained[1:]) / 2
    apart = np.concatenate([[True], np.diff(middle) > 1e-6 * gained[-1]])  # a flat end adds no point
    middle, slope = middle[apart], slope[apart]
    start = slope[0] + (slope[0] - slope[1]) * middle[0] / (middle[1] - middle[0])
    points = np.concatenate([[0.0], middle]) * (reach / gained[-1])
    return Table(points.tolist(), np.concatenate([[1.0], slope / start]).tolist())


def read_curve(path: str | os.PathLike[str]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Pulses, increasing, and conductances, float64 (n,) each. Raises as `consolidation_from_csv`."""
    try:
        with open_regular(path) as raw, io.TextIOWrapper(raw, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            names = [name.strip().lower() for name in reader.fieldnames or []]
            if not {"pulse", "conductance"} <= {*names}:
                raise FormatError(
                    f"{path}: the first line names the columns {', '.join(names) or 'none'}; it must name pulse and "
                    "conductance"
                )
            reader.fieldnames = names
            rows = [(reader.line_num, row["pulse"], row["conductance"]) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{path} is not a file of comma-separated values: {error}") from error
    values = np.empty((len(rows), 2))
    for i, (line, *texts) in enumerate(rows):
        for j, text in enumerate(texts):
            try:
                values[i, j] = float(text)
            except (TypeError, ValueError):
                values[i, j] = math.nan
            if not math.isfinite(values[i, j]):
                raise FormatError(f"{path}, line {line}: {text!r} is not a finite number; remove or mend the line")
    if len(values) < LEAST_POINTS:
        raise FormatError(f"{path} has {len(values)} measurements; a curve needs at least {LEAST_POINTS}")
    pulse, conductance = values.T
    falls = np.flatnonzero(np.diff(pulse) <= 0)
    if len(falls):
        raise FormatError(f"{path}, line {rows[falls[0] + 1][0]}: pulse {pulse[falls[0] + 1]:g} does not increase")
    return pulse, conductance


def _check_slopes(path: str | os.PathLike[str], pulse: NDArray[Any], slope: NDArray[Any]) -> None:
    """Refuse a slope that turns round or rises by more than rounding."""
    advice = 'smooth="isotonic" takes the nearest curve that does not'
    turns = np.flatnonzero(slope < 0)
    if len(turns):
        raise FormatError(f"{path}: the conductance turns round after pulse {pulse[turns[0]]:g}; {advice}")
    rises = np.flatnonzero(np.diff(slope) > 1e-9 * slope.max())
    if len(rises):
        i = rises[0]
        raise FormatError(
            f"{path}: the step of a pulse rises after pulse {pulse[i + 1]:g}, from {slope[i]:.4g} to "
            f"{slope[i + 1]:.4g}; {advice}"
        )


def _never_rising(slope: NDArray[Any], width: NDArray[Any]) -> NDArray[Any]:
    """The nearest sequence that never rises: neighbours that rise are pooled to their weighted mean."""
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(slope, width, strict=True):
        block = (float(value), float(weight), 1)
        while blocks and blocks[-1][0] < block[0]:
            mean, heavy, length = blocks.pop()
            total = heavy + block[1]
            block = ((mean * heavy + block[0] * block[1]) / total, total, length + block[2])
        blocks.append(block)
    return np.concatenate([np.full(length, mean) for mean, _, length in blocks])
