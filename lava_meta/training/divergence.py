"""What goes wrong in a training run: weights, sums or losses that are not finite, and layers that do not learn."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from lava_meta.data import Images
from lava_meta.errors import DivergenceError
from lava_meta.nn import AbsStep, learning_shares

_ADVICE = "A smaller lr, or inputs and norms of a smaller scale, may help"
_LOOK_AT = 256  # images per experience, to see whether layers learn
_LEAST_SHARE = 0.1  # of values inside the straight-through window; healthy layers have 0.15 to 0.5


def check_weights(model: nn.Module, where: str) -> None:
    """Raise `DivergenceError` if a parameter is not finite. where: in the run, for the message."""
    # A hidden weight that is not a number has a sign all the same: the loss does not show it.
    if broken := broken_parameter(model):
        raise DivergenceError(f"training diverged in {where}: {broken}. {_ADVICE}")


def check_losses(model: nn.Module, losses: Tensor, x: Tensor, where: str) -> None:
    """Raise `DivergenceError` if the loss of a step is not finite, with its cause. x: the batch of the last step."""
    finite = torch.isfinite(losses)
    if not finite.all():
        step = int(finite.logical_not().nonzero()[0])
        cause = broken_parameter(model) or broken_sums(model, x.float()) or "the logits overflow the loss"
        loss = losses[step].item()
        raise DivergenceError(f"training diverged in {where}, step {step + 1}: the loss is {loss}; {cause}. {_ADVICE}")


def warn_of_closed_layers(model: nn.Module, part: int, images: Images) -> None:
    """Warn of units whose gradient is 0 for most values, so that what comes before them hardly learns. part: from 1."""
    pixels = images.x[:_LOOK_AT].to(torch.float32)
    for layer, share in learning_shares(model, pixels).items():
        if share < _LEAST_SHARE:
            steps = isinstance(model.get_submodule(layer), AbsStep)
            hint = " Layer norm keeps such units where they learn." if steps else ""
            warnings.warn(
                f"experience {part}: only {share:.1%} of the values before the units {layer!r} lie where their "
                "gradient is not 0, so what comes before them hardly learns: do the network's pixel offset "
                f"and scale fit these images?{hint}",
                stacklevel=2,
            )


def broken_parameter(model: nn.Module) -> str | None:
    """The first parameter with values that are not finite, in words; None if all are finite."""
    for name, parameter in model.named_parameters():
        wrong = parameter.numel() - int(torch.isfinite(parameter).sum())
        if wrong:
            layer = name.rpartition(".")[0] or "the model itself"
            return f"{wrong} of {parameter.numel()} values of {name} (layer {layer}) are not finite"
    return None


def broken_sums(model: nn.Module, pixels: Tensor) -> str | None:
    """The first layer whose output on `pixels` is not finite, in words; None if all are finite."""
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
