"""The diagonal of the Fisher information of a network's synapses.

    F_k = 1/N sum over images b of (d log p(y_b | x_b) / d w_k)^2

The square is of each image's own gradient. Squaring the mean gradient of a batch, as much code does, gives another
number: near 0 at the end of a training, whatever the synapse is worth.

For a layer of sums s = W x the gradient of one image is the outer product of ds and x, so the sum of squares over a
batch is one more matrix product, (ds^2)^T x^2, and no image needs a backward pass of its own. That holds only where
the likelihood of an image depends on that image alone. Batch statistics tie the images of a batch together; here
they are measured once on the images at hand and then held constant.

A binary synapse passes the gradient of its sign straight through, so F is at the same time that of the hidden weight
as training sees it.

Source: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017 (arXiv 1612.00796).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lava_meta.nn import SampleNorm, TaskBatchNorm, recalibrate

_BATCH = 100  # images at a time; the result does not depend on it, except for rounding


def diagonal_fisher(
    model: nn.Module,
    pixels: Tensor,
    labels: Tensor | None = None,
    batch_size: int = _BATCH,
) -> dict[str, Tensor]:
    """F for the weights of every dense and convolutional layer, by parameter name, each of its weight's shape.

    pixels: (n, *shape), raw levels. labels: int64 (n,), the data's (the empirical Fisher), or None to draw each from
    the network's own distribution (the Fisher itself), from torch's global generator. The likelihood is that of
    training: logits are normed where training norms them. The model, its statistics and its mode are left as they are.

    Raises `ValueError` for a trainable weight of two or more dimensions that is not a dense or an ungrouped
    convolutional layer's.
    """
    layers = _layers(model)
    sums = {name: torch.zeros_like(layer.weight) for name, layer in layers.items()}
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            inputs[name], outputs[name] = args[0].detach(), output

        return hook

    handles = [layer.register_forward_hook(keep(name)) for name, layer in layers.items()]
    try:
        with _constant_statistics(model, pixels), torch.enable_grad():
            for index in torch.arange(len(pixels), device=pixels.device).split(batch_size):
                log_p = functional.log_softmax(model(pixels[index].to(torch.float32)), dim=1)
                y = _drawn(log_p.detach()) if labels is None else labels[index]
                likelihood = log_p.gather(1, y.unsqueeze(1)).sum()
                gradients = torch.autograd.grad(likelihood, [outputs[name] for name in layers])
                for (name, layer), gradient in zip(layers.items(), gradients, strict=True):
                    sums[name] += _squares(layer, inputs[name], gradient)
    finally:
        for handle in handles:
            handle.remove()
    return {f"{name}.weight" if name else "weight": value / len(pixels) for name, value in sums.items()}


def _drawn(log_p: Tensor) -> Tensor:
    return torch.multinomial(log_p.exp(), 1).squeeze(1)


def _layers(model: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and module.weight.requires_grad
    }
    for name, layer in layers.items():
        if isinstance(layer, nn.Conv2d) and (layer.groups != 1 or isinstance(layer.padding, str)):
            raise ValueError(f"layer {name}: the Fisher information of grouped or named padding is not known here")
    known = {id(layer.weight) for layer in layers.values()}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.dim() >= 2 and id(parameter) not in known:
            raise ValueError(f"{name} belongs to no dense or convolutional layer: its Fisher information is not known")
    return layers


def _squares(layer: nn.Linear | nn.Conv2d, x: Tensor, gradient: Tensor) -> Tensor:
    """Sum over the images of the square of each one's weight gradient, shaped as the weight."""
    if isinstance(layer, nn.Linear):
        if x.dim() != 2:
            raise ValueError(f"a dense layer was given inputs of shape {tuple(x.shape)}; (n, features) was expected")
        return gradient.square().T @ x.square()
    patches = functional.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]
    return torch.bmm(gradient.flatten(2), patches.transpose(1, 2)).square().sum(0).view_as(layer.weight)


@contextmanager
def _constant_statistics(model: nn.Module, pixels: Tensor) -> Iterator[None]:
    """Eval mode with the batch norms' statistics of `pixels`, held constant, and logits normed as in training."""
    modes = [(module, module.training) for module in model.modules()]
    norms = [module for module in model.modules() if isinstance(module, TaskBatchNorm)]
    kept = [(n, n.running_mean.clone(), n.running_var.clone(), n.get_extra_state(), n.statistics) for n in norms]
    try:
        if norms:
            recalibrate(model, pixels.to(torch.float32), norms[0].task)
        model.eval()
        for module in model.modules():
            if isinstance(module, SampleNorm):
                module.train()
        yield
    finally:
        for norm, mean, var, state, statistics in kept:
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(var)
            norm.set_extra_state(state)
            norm.statistics = statistics
        for module, mode in modes:
            module.training = mode
