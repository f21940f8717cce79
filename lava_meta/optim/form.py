"""What a form of the optimizers' steps is given and does; the optimizers take the first form that takes a weight.

`clear` is the reference implementation, in torch's operations. `fused_cpu` and, behind `gpu`, `fused_gpu` do the same
in one pass. A form is handed one weight, what the optimizer keeps of it, and the numbers of its group.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor

from lava_meta.rule import Consolidation


class Weight(NamedTuple):
    """One parameter in one step."""

    hidden: Tensor  # h, of any shape; changed in place
    gradient: Tensor  # of its shape; float32 or bfloat16 where h is float32
    f: Consolidation  # its gate
    signs: Tensor | None = None  # of its shape; gets sign(h), +1 and -1, after the step


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
    lr: float


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
