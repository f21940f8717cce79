"""A metaplasticity to begin with, from the length of a run.

Under Adam a hidden weight moves by about `lr` a step, so a longer run and a larger `lr` carry |h| further from 0, where
the gate closes: the best `m` falls with both. How fast was measured, not derived; see `propose_m`.
"""

from __future__ import annotations

import math
from numbers import Integral, Real

LARGEST = 60.0  # hidden weights start within 0.05: a larger m would hold them where chance has put them


def propose_m(steps: int, lr: float, tasks: int = 1) -> float:
    """The `m` of `Tanh2(m)` to begin a search with, for Adam: m = min(60, 60 * (lr * steps * tasks)**-0.8).

    A fit to 20 sweeps of permuted digits and permuted MNIST: lr from 0.00025 to 0.01, lr * steps * tasks from 1.7 to
    27, 2 to 10 tasks, one or two hidden layers of 128 to 1024 units, the fixed norm, a new optimizer per task. There
    the best `m` of a sweep was 0.7 to 1.9 times this one (standard deviation of the logarithm: 0.27), and this one cost
    1.7 points of mean accuracy against the best on average, 5 at most. Outside of that range, with another norm, for
    convolutions, or for tasks that share their inputs (split classes, streams) it is an extrapolation: choose `m` on
    held-out images.

    Args:
        steps: Optimizer steps per task, epochs * ceil(images / batch size); at least 1.
        lr: Adam's learning rate, above 0, in units of the hidden weight.
        tasks: How many tasks of that length are learned in a row.

    Returns:
        A metaplasticity in 1/(units of the hidden weight), to two digits.

    Raises:
        ValueError: An argument is out of its range.

    Source:
        Measured for this project: docs/rules.md, "Choosing m".
    """
    for name, value in (("steps", steps), ("tasks", tasks)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")
    if not (isinstance(lr, Real) and 0 < lr < math.inf):
        raise ValueError(f"lr is {lr!r}; it must be a number above 0")
    return float(f"{min(LARGEST, 60.0 * (float(lr) * steps * tasks) ** -0.8):.2g}")
