"""A metaplasticity to begin with, from what is known of a run before it starts.

Under Adam a hidden weight moves by up to `lr` a step, whatever the size of its gradient. As long as its gate is open,
noise lets |h| grow with the root of the number of steps; once m * |h| is of the order of 1, shrinking steps are held
back, growing ones are not, and |h| grows with the number itself. The best `m` keeps m * |h| of the order of 1 until the
last task, so it falls with a power of lr * steps between 1/2 and 1. Powers and factors were measured; see `propose_m`.
"""

from __future__ import annotations

import math
from itertools import combinations
from numbers import Integral, Real
from typing import Literal, NamedTuple

from torch import nn

from lava_meta.data.scenarios import Scenario
from lava_meta.nn import TaskBatchNorm

Norm = Literal["fixed", "batch", "layer"]
_BATCH_NORMS = (TaskBatchNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class _Fit(NamedTuple):
    """m = factor * (lr * steps * tasks)**-power, at most `largest`."""

    factor: float
    power: float
    largest: float = 60.0  # hidden weights start within 0.05: a larger m would hold them where chance has put them


_FITS = {"fixed": _Fit(60.0, 0.8), "layer": _Fit(60.0, 0.8), "batch": _Fit(60.0, 0.55)}
_TWO_TASKS = _Fit(52.0, 0.45)
_CONVOLUTIONS = _Fit(36.0, 0.8)
_NEW_CLASSES = _Fit(105.0, 0.57, 150.0)


def propose_m(
    steps: int,
    lr: float,
    tasks: int = 1,
    *,
    norm: Norm = "fixed",
    convolutions: bool = False,
    new_classes: bool = False,
) -> float:
    """The `m` of `Tanh2(m)` to begin a search with, for Adam: m = factor * (lr * steps * tasks)**-power.

    | | factor | power | at most |
    | --- | --- | --- | --- |
    | fixed and layer norm | 60 | 0.8 | 60 |
    | the same, two tasks | 52 | 0.45 | 60 |
    | the same, convolutions | 36 | 0.8 | 60 |
    | batch norm | 60 | 0.55 | 60 |
    | new classes in each task | 105 | 0.57 | 150 |

    Fits to sweeps of m on held-out images, lr from 0.00025 to 0.01, 2 to 10 tasks, a new optimizer per task. The best
    `m` of most sweeps was 0.7 to 1.5 times this one. What that costs in each scenario, and where it costs more than 3
    points, is in docs/results/rules.md: `lava_meta.tune` searches from there.

    Args:
        steps: Optimizer steps per task, epochs * ceil(images / batch size); at least 1.
        lr: Adam's learning rate, above 0, in units of the hidden weight.
        tasks: How many tasks of that length are learned in a row.
        norm: Of the network.
        convolutions: Whether the network has any.
        new_classes: Whether tasks have no classes in common and one readout, as in `split_classes`: what pushes the
            classes of earlier tasks away then is a steady gradient and no noise, which only a larger m withstands.

    Returns:
        A metaplasticity in 1/(units of the hidden weight), to two digits.

    Raises:
        ValueError: An argument is out of its range.

    Source:
        Measured for this project: docs/results/rules.md.
    """
    for name, value in (("steps", steps), ("tasks", tasks)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")
    if not (isinstance(lr, Real) and 0 < lr < math.inf):
        raise ValueError(f"lr is {lr!r}; it must be a number above 0")
    if norm not in _FITS:
        raise ValueError(f"norm is {norm!r}; choose one of {', '.join(map(repr, _FITS))}")
    fit = _FITS[norm]
    if new_classes:
        fit = _NEW_CLASSES
    elif norm != "batch":
        fit = _CONVOLUTIONS if convolutions else _TWO_TASKS if tasks == 2 else fit
    return float(f"{min(fit.largest, fit.factor * (float(lr) * steps * tasks) ** -fit.power):.2g}")


def for_all_images(m: float, held_out: float, norm: Norm) -> float:
    """The `m` that on all training images, which are more steps, is what `m` is without the share that is held out."""
    return float(f"{m * (1 - held_out) ** _FITS[norm].power:.3g}")


def norm_of(model: nn.Module | None) -> Norm:
    """The kind of a model's norms, as far as proposals differ: "batch" if one takes the batch's statistics."""
    modules = () if model is None else model.modules()
    return "batch" if any(isinstance(module, _BATCH_NORMS) for module in modules) else "fixed"


def has_convolutions(model: nn.Module | None) -> bool:
    """Whether a model has weights that serve many places of an image."""
    return model is not None and any(weight.dim() > 2 for weight in model.parameters())


def has_new_classes(scenario: Scenario) -> bool:
    """Whether each task has classes of its own, which one readout compares with those of all others."""
    labels = [set(test.y.unique().tolist()) for test in scenario.tests]
    return scenario.heads is None and len(labels) > 1 and all(a.isdisjoint(b) for a, b in combinations(labels, 2))
