"""Networks whose weights are drawn at random for every pass: Bayesian neighbours of the binarized ones.

A layer keeps a distribution for each weight and computes with draws of it. A batch is a stack of `draws` copies of the
same images, one after the other; each copy meets weights of its own. What learns the distributions are the optimizers
of `lava_meta.optim.bayesian`.

Source: Cottart, Ballet, Bonnet and Querlioz, ICML 2026 (arXiv 2605.30198), for Bernoulli weights; Bonnet et al.,
Nature Communications 16 (2025, arXiv 2504.13569), for Gaussian ones.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from lava_meta.nn.binary import BinaryLayer
from lava_meta.nn.layers import AbsStep, BinaryLinear, Pixels, Sign
from lava_meta.nn.networks import check_dense, measured, seeded
from lava_meta.nn.norms import SampleNorm

if TYPE_CHECKING:
    from lava_meta.data import Images

L = TypeVar("L", bound=nn.Linear)
Activation = Literal["sign", "abs_step", "relu"]


class DrawnLinear(nn.Module):
    """A linear layer without bias whose weights are drawn for each pass, for each of `draws` copies of a batch.

    Shapes: x (draws * n, in_features), in which the copies follow each other; y (draws * n, out_features).
    """

    def __init__(self, in_features: int, out_features: int, draws: int = 1) -> None:
        super().__init__()
        self.in_features, self.out_features, self.draws = in_features, out_features, draws

    @abstractmethod
    def drawn(self) -> Tensor:
        """Weights (draws, out_features, in_features)."""

    @abstractmethod
    def most_probable(self) -> nn.Linear:
        """A layer that always has the most probable weights; a copy."""

    def forward(self, x: Tensor) -> Tensor:
        copies = x.view(self.draws, -1, self.in_features)
        return torch.bmm(copies, self.drawn().transpose(1, 2)).flatten(0, 1)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, draws={self.draws}"


class BernoulliLinear(BinaryLayer, DrawnLinear):
    """Binary weights at random: +1 with probability `1 / (1 + exp(-2 h))`, so that `tanh(h)` is their mean.

        training    w = tanh((h + log(r / (1 - r)) / 2) / temperature),  r uniform in (0, 1)    relaxed, differentiable
        eval        w = sign of the same: +1 or -1

    h = `weight` starts uniform in (-1/sqrt(in_features), 1/sqrt(in_features)).

    Source: Cottart et al. 2026; the relaxation is that of Maddison et al. (2017).
    """

    def __init__(self, in_features: int, out_features: int, draws: int = 1, temperature: float = 1.0) -> None:
        super().__init__(in_features, out_features, draws)
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}; it must be positive")
        self.temperature = temperature
        limit = 1 / math.sqrt(in_features)
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-limit, limit))

    def drawn(self) -> Tensor:
        r = torch.empty(self.draws, *self.weight.shape, dtype=self.weight.dtype, device=self.weight.device)
        h = self.weight + r.uniform_().logit_(eps=1e-7).mul_(0.5)
        if self.training:
            return torch.tanh(h / self.temperature)
        return torch.where(h >= 0, 1.0, -1.0).to(h.dtype)

    def most_probable(self) -> BinaryLinear:
        return _copied(BinaryLinear(self.in_features, self.out_features), self.weight)


class GaussianLinear(DrawnLinear):
    """Real weights at random: `w = mean + deviation * e`, e from the standard normal distribution.

    Means start uniform in (-4/sqrt(in_features), 4/sqrt(in_features)), deviations at a quarter of that limit.

    Source: Bonnet et al. 2025; where weights start, from the public code of Cottart et al. 2026.
    """

    def __init__(self, in_features: int, out_features: int, draws: int = 1) -> None:
        super().__init__(in_features, out_features, draws)
        limit = 4 / math.sqrt(in_features)
        self.mean = nn.Parameter(torch.empty(out_features, in_features).uniform_(-limit, limit))
        self.deviation = nn.Parameter(torch.full((out_features, in_features), limit / 4))

    def drawn(self) -> Tensor:
        e = torch.empty(self.draws, *self.mean.shape, dtype=self.mean.dtype, device=self.mean.device)
        return torch.addcmul(self.mean, self.deviation, e.normal_())

    def most_probable(self) -> nn.Linear:
        return _copied(nn.Linear(self.in_features, self.out_features, bias=False), self.mean)


class BayesianMLP(nn.Sequential):
    """A dense network of random weights on raw pixels: sizes (pixels, hidden, ..., classes), a `SampleNorm` per layer.

    In training a batch is `draws` copies of the same images, one after the other (`lava_meta.training.methods.BiMU` and
    `MESU` make them), so that a mean loss over the batch is the mean over draws and images. In eval mode images
    come once, and the result is the mean over draws of the logarithms of the classes' probabilities.

    Args:
        sizes: units per layer.
        weights: `"bernoulli"` (binary) or `"gaussian"` (real).
        activation: `"sign"`, `"abs_step"` (0 and 1) or `"relu"`; None is abs_step for binary and relu for real weights.
        draws: networks drawn at a time.
        pixel_mean: of the images, in pixel levels.
        pixel_std: likewise.
        max_level: the brightest pixel.
        seed: of the weights at the start; None draws from torch's generator.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        weights: Literal["bernoulli", "gaussian"] = "bernoulli",
        activation: Activation | None = None,
        *,
        draws: int = 5,
        pixel_mean: float = 0.0,
        pixel_std: float = 80.0,
        max_level: int = 255,
        seed: int | None = None,
    ) -> None:
        check_dense(sizes, "layer", ("layer",), pixel_std, {})
        if weights not in _WEIGHTS:
            raise ValueError(f"weights is {weights!r}; choose one of {', '.join(_WEIGHTS)}")
        linear, usual = _WEIGHTS[weights]
        activation = activation or usual
        if activation not in _ACTIVATIONS:
            raise ValueError(f"activation is {activation!r}; choose one of {', '.join(_ACTIVATIONS)}")
        if draws < 1:
            raise ValueError(f"draws is {draws}; at least one network is drawn")
        layers: list[nn.Module] = [nn.Flatten(), Pixels(pixel_mean, 1 / pixel_std, max_level)]
        with seeded(seed):
            for fan_in, fan_out in pairwise(sizes):
                layers += [linear(fan_in, fan_out, draws), SampleNorm(), _ACTIVATIONS[activation]()]
        super().__init__(*layers[:-1])
        self.draws = draws

    @classmethod
    def for_images(
        cls, images: Images, hidden: Sequence[int], weights: Literal["bernoulli", "gaussian"], **options: Any
    ) -> BayesianMLP:
        """A network for these images: their pixels, classes, mean, deviation and brightest level are measured."""
        return cls(
            (images.features, *hidden, images.classes),
            weights,
            **measured(images),
            **options,
        )

    def most_probable(self) -> nn.Sequential:
        """One network of the most probable weights, in eval mode: signs of h, which `convert` takes, or means."""
        layers = (module.most_probable() if isinstance(module, DrawnLinear) else module for module in self)
        return nn.Sequential(*layers).eval()

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) % self.draws:
            raise ValueError(
                f"a batch of {len(x)} is not {self.draws} copies of the same images: train with "
                "method=lava_meta.training.methods.BiMU() or MESU(), which make them"
            )
        stack = x if self.training else copies(x, self.draws)
        logits: Tensor = super().forward(stack)  # type: ignore[no-untyped-call]  # torch gives it no types
        if self.training:
            return logits
        return functional.log_softmax(logits, dim=1).view(self.draws, len(x), -1).mean(dim=0)


def _copied(layer: L, weight: Tensor) -> L:
    layer.weight = nn.Parameter(weight.detach().clone())
    return layer


def copies(x: Tensor, draws: int) -> Tensor:
    """`draws` copies of x (n, ...), one after the other: (draws * n, ...)."""
    return x.repeat(draws, *[1] * (x.dim() - 1))


_WEIGHTS: dict[str, tuple[type[BernoulliLinear | GaussianLinear], Activation]] = {
    "bernoulli": (BernoulliLinear, "abs_step"),
    "gaussian": (GaussianLinear, "relu"),
}
_ACTIVATIONS: dict[str, type[nn.Module]] = {"sign": Sign, "abs_step": AbsStep, "relu": nn.ReLU}
