"""The optimizers' steps in torch's operations: the reference implementation that the compiled forms are tested against.

At 4096 x 4096 a step costs what it moves through memory, and a plain sequence of torch calls moves every temporary
through it. Here a tensor is walked in blocks that stay in the cache, so that only the weights, gradients and moments
themselves come and go. Results do not depend on the blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lava_meta.optim.form import AdamNumbers, SgdNumbers, Weight
from lava_meta.rule import Consolidation, sign


@dataclass(frozen=True)
class Clear:
    """The form that takes every weight, on any device."""

    block: int = 65536  # elements that a thread works on at a time: 256 KiB of float32 for each tensor in play

    def takes(self, weight: Weight, *kept: Tensor) -> bool:
        return True

    def adam(
        self, weight: Weight, moments: tuple[Tensor, Tensor], corrections: tuple[Any, Any], numbers: AdamNumbers
    ) -> bool:
        hidden, gradient = weight.hidden, weight.gradient
        beta1, beta2 = numbers.betas
        step_size = numbers.lr / corrections[0]
        root_correction = corrections[1] ** 0.5
        for h, g, mean, square in self._blocks(hidden, gradient.to(hidden.dtype), *moments):
            if numbers.decay != 0:
                g = g.add(h, alpha=numbers.decay)
            mean.lerp_(g, 1 - beta1)
            square.mul_(beta2).addcmul_(g, g, value=1 - beta2)
            u = (mean * step_size).div_(square.sqrt().div_(root_correction).add_(numbers.eps))
            _take(h, u, weight.f, weight.grow)
        return _signed(weight)

    def sgd(self, weight: Weight, buffer: Tensor | None, numbers: SgdNumbers) -> bool:
        hidden = weight.hidden
        gradient = weight.gradient.to(hidden.dtype)
        # Without momentum there is no buffer, and the gradient only fills its place.
        for h, g, moving in self._blocks(hidden, gradient, gradient if buffer is None else buffer):
            if numbers.decay != 0:
                g = g.add(h, alpha=numbers.decay)
            if buffer is not None:
                first = numbers.momentum == 0
                g = moving.copy_(g) if first else moving.mul_(numbers.momentum).add_(g, alpha=numbers.keep)
            _take(h, g * numbers.lr, weight.f, weight.grow)
        return _signed(weight)

    def mean_square(self, gradient: Tensor) -> Tensor:
        return mean_square(gradient)

    def _blocks(self, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Matching flat views of tensors of one shape, each small enough for the cache.

        One view of everything if there is no such cache (a GPU) or the elements do not lie in one row.
        """
        if all(tensor.device.type == "cpu" and tensor.is_contiguous() for tensor in tensors):
            size = self.block * torch.get_num_threads()
            yield from zip(*(tensor.view(-1).split(size) for tensor in tensors), strict=True)
        else:
            yield tensors


def mean_square(gradient: Tensor) -> Tensor:
    """The mean of the gradient's squares, float32 () on its device."""
    return gradient.to(torch.float32).square().mean()


def _take(hidden: Tensor, step: Tensor, f: Consolidation, grow: Consolidation) -> None:
    """`metaplastic_update` in place, bit for bit; `step` is used up.

    If growing steps are taken whole, the gate is chosen by a maximum, because f <= 1 and a selection by a mask is ten
    times slower: it is f where `grows` is 0, and 1 where it is 1. What torch takes the sign of 0 to be does not matter
    here, since f(0) = 1.
    """
    if not (f.is_plain and grow.is_plain):
        grows = torch.sign(hidden).mul_(step)
        torch.le(grows, 0, out=grows)
        if grow.is_plain:
            step.mul_(torch.maximum(f(hidden), grows))
        else:
            step.mul_(torch.where(grows == 0, f(hidden), grow(hidden)))
    hidden.sub_(step)


def _signed(weight: Weight) -> bool:
    """Write the signs, if they are asked for. True: this form does not look for weights that are not finite."""
    if weight.signs is not None:
        weight.signs.copy_(sign(weight.hidden))
    return True
