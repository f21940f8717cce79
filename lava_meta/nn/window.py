"""Whether a network's units can learn: the share of values inside their straight-through window."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lava_meta.nn.layers import AbsStep, Sign


@torch.no_grad()
def learning_shares(model: nn.Module, pixels: Tensor) -> dict[str, float]:
    """For each `Sign` and `AbsStep` of `model`, by module name: the share of values that pass a gradient, 0 to 1.

    A value passes one if its distance from the unit's edge is at most `window`. pixels: (n, ...).

    The gradient of a value outside the window is 0. A healthy fixed-norm network has 0.15 to 0.5; far less means
    that the input's offset or scale does not fit the images, and the layer hardly learns. The model's state and
    statistics are left as they are, and torch's generators: the pass runs in eval mode.
    """
    shares: dict[str, float] = {}

    def look(name: str, module: Sign | AbsStep, values: Tensor) -> None:
        shares[name] = float((module.distance(values).abs() <= module.window).float().mean())

    hooks = [
        module.register_forward_pre_hook(lambda module, inputs, name=name: look(name, module, inputs[0]))
        for name, module in model.named_modules()
        if isinstance(module, Sign | AbsStep)
    ]
    if not hooks:
        return {}
    was_training = model.training
    model.eval()
    try:
        with torch.random.fork_rng([pixels.device] if pixels.is_cuda else []):  # weights may be drawn
            model(pixels)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return shares
