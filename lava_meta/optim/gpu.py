"""Whether the optimizers' Triton kernels (`update_gpu`) can be used. Asking needs neither Triton nor a GPU."""

from __future__ import annotations

import warnings
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from lava_meta.rule import Tanh2, metaplastic_update


def gpu_pass(*tensors: Tensor) -> ModuleType | None:
    """The module `update_gpu` where all of these tensors are on a GPU and its kernels take them and work there."""
    if not all(tensor.is_cuda for tensor in tensors):
        return None
    module = _kernels(tensors[0].device)
    return module if module is not None and module.can_pass(*tensors) else None


@cache
def _kernels(device: torch.device) -> ModuleType | None:
    """The kernels, once they have taken a step rightly on this device; else None, with a warning."""
    try:
        from lava_meta.optim import fused_gpu

        check(fused_gpu, device)
    except Exception as error:  # whatever keeps Triton from working, the optimizers work without it
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        warnings.warn(
            f"the fused optimizer step does not work on {device} ({reason}); torch's operations take its place, which "
            "are several times slower. It needs the package triton and a C compiler",
            stacklevel=2,
        )
        return None
    return fused_gpu


def check(kernels: ModuleType, device: torch.device) -> None:
    """Raise RuntimeError unless a first step of plain SGD and of Adam are those of `metaplastic_update`."""
    h = torch.linspace(-1, 1, 3000, device=device)
    gradient = h.roll(1000)
    f, lr = Tanh2(2.0), 0.1
    for name in ("sgd", "adam"):
        hidden = h.clone()
        if name == "sgd":
            kernels.sgd(hidden, gradient, None, f, decay=0.0, momentum=0.0, keep=1.0, lr=lr)
            step = lr * gradient
        else:
            corrections = [torch.full((), 1 - beta, dtype=torch.float64, device=device) for beta in (0.9, 0.999)]
            moments = torch.zeros_like(h), torch.zeros_like(h)
            options = {"decay": 0.0, "betas": (0.9, 0.999), "lr": lr, "eps": 1e-8}
            kernels.adam(hidden, gradient, *moments, f, corrections, **options)
            step = lr * gradient / (gradient.abs() + 1e-8)
        if not torch.allclose(hidden, metaplastic_update(h, step, f), rtol=1e-4, atol=1e-5):
            raise RuntimeError(f"a step of {name} came out wrong")
