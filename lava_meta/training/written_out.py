"""What training steps that are written out have in common: the hidden weights, and what their products hold of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lava_meta.optim import fused_cpu


class WrittenOut:
    """A model's forward and backward pass, by binary layers, each with a hidden `weight` and its `products`."""

    def __init__(self, binary: Sequence[Any]) -> None:
        self.binary = binary
        self.refresh()

    @property
    def signs(self) -> dict[Tensor, Tensor]:
        """By hidden weight, the binary weight that the products take."""
        return {layer.weight: layer.products.signs for layer in self.binary}

    @property
    def gradients(self) -> dict[Tensor, Tensor]:
        """By hidden weight, its gradient after `backward`; those of other parameters are in their `grad`."""
        return {layer.weight: layer.products.gradient for layer in self.binary}

    @torch.no_grad()
    def refresh(self) -> None:
        """Take the signs of the hidden weights again."""
        for layer in self.binary:
            fused_cpu.take_signs(layer.weight, layer.products.signs)
