"""Where a training run stopped being numbers: which layer's weights or sums are not finite."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def broken_parameter(model: nn.Module) -> str | None:
    """The first parameter with values that are not finite, in words; None where all are finite."""
    for name, parameter in model.named_parameters():
        wrong = parameter.numel() - int(torch.isfinite(parameter).sum())
        if wrong:
            layer = name.rpartition(".")[0] or "the model itself"
            return f"{wrong} of {parameter.numel()} values of {name} (layer {layer}) are not finite"
    return None


def broken_sums(model: nn.Module, pixels: Tensor) -> str | None:
    """The first layer whose output on `pixels` is not finite, in words; None where all are finite."""
    found: list[str] = []

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not torch.isfinite(output).all():
                found.append(f"the output of layer {name} ({type(module).__name__}) is not finite")

        return hook

    handles = [module.register_forward_hook(look(name)) for name, module in model.named_modules() if name]
    try:
        with torch.no_grad():
            model(pixels)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None
