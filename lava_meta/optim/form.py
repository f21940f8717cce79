"""What a form of the optimizers' steps is given and does; the optimizers take the first form that takes a weight.

`clear` is the reference implementation, in torch's operations. `fused_cpu` and, behind `gpu`, `fused_gpu` do the same
in one pass. A form is handed one weight, what the optimizer keeps of it, and the numbers of its group.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor

from lava_meta.rule import Consolidation, Constant


class Weight(NamedTuple):
    """One parameter in one step."""

    hidden: Tensor  # h, of any shape; changed in place
    gradient: Tensor  # of its shape; float32 or bfloat16 where h is float32
    f: Consolidation  # the gate of shrinking steps
    signs: Tensor | None = None  # of its shape; gets sign(h), +1 and -1, after the step
    grow: Consolidation = Constant()  # the gate of growing steps


class AdamNumbers(NamedTuple):
    """A group's options for Adam."""

    decay: float
    betas: tuple[float, float]
    lr: float
    eps: float


class SgdNumbers(NamedTuple):
    """A group's options for SGD: buffer <- momentum * buffer + keep * g."""

    decay: float
    momentum: float  # 0 in the first step of a buffer
    keep: float  # 1 in the first step, and without a buffer
    lr: float | Tensor  # a float64 () on the weight's device if it is only known there


class Form(Protocol):
    """One way to compute the steps.

    Both steps are taken in place, and return False if a new weight is known not to be finite; `takes` is asked first.
    """

    def takes(self, weight: Weight, *kept: Tensor) -> bool:
        """Whether it can do a step of this weight with these moments or this buffer."""

    def adam(
        self, weight: Weight, moments: tuple[Tensor, Tensor], corrections: tuple[Any, Any], numbers: AdamNumbers
    ) -> bool:
        """One step of Adam.

        corrections: 1 - beta**t of both moments, floats, or float64 () if steps are counted on the device.
        """

    def sgd(self, weight: Weight, buffer: Tensor | None, numbers: SgdNumbers) -> bool:
        """One step of SGD. buffer: None without momentum."""

    def mean_square(self, gradient: Tensor) -> Tensor:
        """The mean of the gradient's squares, float32 () on its device."""
