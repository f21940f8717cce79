"""The optimizers' Triton kernels (`fused_gpu`) as a form that is tried before it is used.

Importing this needs neither Triton nor a GPU.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lava_meta.optim.clear import mean_square
from lava_meta.optim.form import AdamNumbers, Form, SgdNumbers, Weight
from lava_meta.rule import Tanh2, metaplastic_update


class OnGpu:
    """The form that takes weights on a GPU on which the kernels work. See `lava_meta.optim.form.Form`.

    Args:
        load: gives the kernels, when a weight on a GPU is met first.
    """

    def __init__(self, load: Callable[[], Any] = lambda: importlib.import_module("lava_meta.optim.fused_gpu")) -> None:
        self._load = load
        self._tried: dict[torch.device, Form | None] = {}

    def kernels(self, device: torch.device) -> Form | None:
        """The kernels, once they have taken a step rightly on this device; else None, with a warning."""
        if device not in self._tried:
            self._tried[device] = self._try(device)
        return self._tried[device]

    def takes(self, weight: Weight, *kept: Tensor) -> bool:
        if not all(tensor.is_cuda for tensor in (weight.hidden, weight.gradient, *kept)):
            return False
        kernels = self.kernels(weight.hidden.device)
        return kernels is not None and kernels.takes(weight, *kept)

    def adam(
        self, weight: Weight, moments: tuple[Tensor, Tensor], corrections: tuple[Any, Any], numbers: AdamNumbers
    ) -> bool:
        return self._on(weight).adam(weight, moments, corrections, numbers)

    def sgd(self, weight: Weight, buffer: Tensor | None, numbers: SgdNumbers) -> bool:
        return self._on(weight).sgd(weight, buffer, numbers)

    def mean_square(self, gradient: Tensor) -> Tensor:
        return mean_square(gradient)

    def _on(self, weight: Weight) -> Form:
        kernels = self.kernels(weight.hidden.device)
        assert kernels is not None  # `takes` was asked
        return kernels

    def _try(self, device: torch.device) -> Form | None:
        try:
            kernels: Form = self._load()
            check(kernels, device)
        except Exception as error:  # whatever keeps Triton from working, the optimizers work without it
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            warnings.warn(
                f"the fused optimizer step does not work on {device} ({reason}); torch's operations take its place, "
                "which are several times slower. It needs the package triton and a C compiler",
                stacklevel=2,
            )
            return None
        return kernels


def check(kernels: Form, device: torch.device) -> None:
    """Raise RuntimeError unless a first step of plain SGD and of Adam are those of `metaplastic_update`."""
    h = torch.linspace(-1, 1, 3000, device=device)
    gradient = h.roll(1000)
    f, lr, betas, eps = Tanh2(2.0), 0.1, (0.9, 0.999), 1e-8
    for name in ("sgd", "adam"):
        weight = Weight(h.clone(), gradient, f)
        if name == "sgd":
            kernels.sgd(weight, None, SgdNumbers(decay=0.0, momentum=0.0, keep=1.0, lr=lr))
            step = lr * gradient
        else:
            first, second = (torch.full((), 1 - beta, dtype=torch.float64, device=device) for beta in betas)
            moments = torch.zeros_like(h), torch.zeros_like(h)
            kernels.adam(weight, moments, (first, second), AdamNumbers(decay=0.0, betas=betas, lr=lr, eps=eps))
            step = lr * gradient / (gradient.abs() + eps)
        if not torch.allclose(weight.hidden, metaplastic_update(h, step, f), rtol=1e-4, atol=1e-5):
            raise RuntimeError(f"a step of {name} came out wrong")
