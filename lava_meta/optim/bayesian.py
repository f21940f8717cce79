"""BiMU and MESU: two rules that learn distributions of weights over a window of N images, and forget what is older.

Both minimise, over the latest N images, the expected loss plus the divergence from a prior. A synapse that is sure
moves little, which is their metaplasticity; a pull towards the prior keeps any from becoming sure for good.

Gradients come of mean losses; `batch_size` makes them those of the sum, as both papers have it, and counts the window
in images.

Source: Cottart et al., ICML 2026 (arXiv 2605.30198); Bonnet et al., Nature Communications 16 (2025, arXiv 2504.13569).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from lava_meta.nn.bayesian import GaussianLinear


class BiMUOptimizer(torch.optim.Optimizer):
    """Binary metaplasticity from uncertainty, for the `weight` of `BernoulliLinear` layers.

        t = tanh(h);   s = prior * (1 - t^2)                            s: how unsure the sign is
        g = likelihood * batch_size * gradient
        h <- h - (lr * g + h * s * batch_size / window) / (s + 2 * g * t + 2 * |g| + 1 / lr_max)

    Without a gradient h decays to 0, where +1 and -1 are equally probable, in some `window * (1 + 1/(s * lr_max))`
    images. With `likelihood = prior = 1` this is the published equation; its public code has the two factors.

    Args:
        params: hidden weights.
        lr: weight of the gradient, positive.
        lr_max: the largest rate of a step, positive.
        window: N, positive; infinity never forgets.
        likelihood: factor of the gradient.
        prior: factor of the uncertainty.
        batch_size: images in the mean that the gradients come of.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        lr_max: float = 1.0,
        window: float = 60000.0,
        *,
        likelihood: float = 1.0,
        prior: float = 1.0,
        batch_size: int = 1,
    ) -> None:
        options = {"lr": lr, "lr_max": lr_max, "window": window, "likelihood": likelihood, "prior": prior}
        super().__init__(params, _positive({**options, "batch_size": batch_size}))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step on every weight that has a gradient; returns the closure's loss, or None without one."""
        loss = _loss(closure)
        for group in self.param_groups:
            for h in group["params"]:
                if h.grad is None:
                    continue
                t = torch.tanh(h)
                s = group["prior"] * (1 - t.square())
                g = group["likelihood"] * group["batch_size"] * h.grad
                pull = h * s * (group["batch_size"] / group["window"])
                h.sub_((group["lr"] * g + pull) / (s + 2 * g * t + 2 * g.abs() + 1 / group["lr_max"]))
        return loss


class MESUOptimizer(torch.optim.Optimizer):
    """Metaplasticity from synaptic uncertainty, for `GaussianLinear` layers.

        v = deviation^2;   g = batch_size * gradient, within +-clip / deviation
        mean      <- mean - lr * (v * g_mean + v * mean * batch_size / (window * prior^2))
        deviation <- deviation - lr_deviation / 2 *
                     (v * g_deviation - deviation * (prior^2 - v) * batch_size / (window * prior^2))

    The published equations have both rates 1 and no `clip`; the public code has it, and with it a deviation stays
    positive. Where the loss is a parabola of curvature c, the weight settles at the posterior of N images,
    `1 / v = 1 / prior^2 + N c`.

    Args:
        layers: whose means and deviations learn.
        lr: of the means, positive.
        lr_deviation: of the deviations, positive.
        window: N, positive; infinity never forgets.
        prior: the deviation that a weight returns to; the mean it returns to is 0.
        clip: the largest step of a mean, in deviations; positive, `lr_deviation * clip` below 2.
        batch_size: images in the mean that the gradients come of.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(
        self,
        layers: Iterable[GaussianLinear],
        lr: float = 1.0,
        window: float = 300000.0,
        *,
        lr_deviation: float = 1.0,
        prior: float = 1.0,
        clip: float = 1.0,
        batch_size: int = 1,
    ) -> None:
        options = {"lr": lr, "lr_deviation": lr_deviation, "window": window, "prior": prior, "clip": clip}
        if lr_deviation * clip >= 2:
            raise ValueError(f"lr_deviation * clip is {lr_deviation * clip:g}; below 2 a deviation stays positive")
        groups = [{"params": [layer.mean, layer.deviation]} for layer in layers]
        super().__init__(groups, _positive({**options, "batch_size": batch_size}))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step on every layer that has gradients; returns the closure's loss, or None without one."""
        loss = _loss(closure)
        for group in self.param_groups:
            mean, deviation = group["params"]
            if mean.grad is None or deviation.grad is None:
                continue
            share = group["batch_size"] / (group["window"] * group["prior"] ** 2)
            most = group["clip"] / deviation
            v = deviation.square()
            g_mean, g_deviation = (
                torch.minimum(torch.maximum(group["batch_size"] * p.grad, -most), most) for p in (mean, deviation)
            )
            mean.sub_(group["lr"] * v * (g_mean + mean * share))
            pull = deviation * (group["prior"] ** 2 - v) * share
            deviation.sub_(group["lr_deviation"] / 2 * (v * g_deviation - pull))
        return loss


def _positive(options: dict[str, Any]) -> dict[str, Any]:
    for name, value in options.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}; it must be positive")
    return options


def _loss(closure: Callable[[], Any] | None) -> Any:
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
