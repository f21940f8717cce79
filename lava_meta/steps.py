"""One step of training, in the clear form and in the fast one: forward, backward, update.

    loss(x, y)      the mean cross entropy of a batch of raw levels, uint8
    backward()      gradients; where others want to see them, each is in its parameter's `grad`
    update(...)     the optimizer's step
    accuracy(...)   of the model as it is

`ClearStep` is autograd and works for any model; it is what `FastStep` is tested against.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lava_meta.data import Images
from lava_meta.evaluation import evaluate
from lava_meta.fast import FastNetwork


class ClearStep:
    """The model's own forward and autograd's backward pass."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def refresh(self) -> None:
        """Look at the weights anew, after something else than `update` has changed them."""

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """The mean cross entropy, detached."""
        self._loss = functional.cross_entropy(self.model(x.to(torch.float32)), y)
        return self._loss.detach()

    def backward(self) -> None:
        """The gradients of the last `loss`."""
        for parameter in self.model.parameters():
            parameter.grad = None
        self._loss.backward()

    def update(self, optimizer: torch.optim.Optimizer) -> bool:
        """One step with these gradients; False where weights were seen that are not finite."""
        optimizer.step()
        return True

    def accuracy(self, images: Images, batch_size: int) -> float:
        """Share of images that are classified rightly, in eval mode."""
        return evaluate(self.model, images, batch_size)


class FastStep(ClearStep):
    """The same by `FastNetwork`. shown: whether gradients must be in each parameter's `grad`, in float32."""

    def __init__(self, model: nn.Module, network: FastNetwork, shown: bool) -> None:
        super().__init__(model)
        self.network, self.shown = network, shown

    def refresh(self) -> None:
        self.network.refresh()

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        if self.shown:
            self.refresh()  # who looks at gradients may change weights too
        return self.network.loss(x, y)

    def backward(self) -> None:
        self.network.backward()
        if self.shown:
            for parameter, gradient in self.network.gradients.items():
                if parameter.grad is None:
                    parameter.grad = torch.empty_like(parameter)
                parameter.grad.copy_(gradient)

    def update(self, optimizer: torch.optim.Optimizer) -> bool:
        return optimizer.step_with({} if self.shown else self.network.gradients, self.network.signs)  # type: ignore[attr-defined]

    def accuracy(self, images: Images, batch_size: int) -> float:
        self.refresh()
        return evaluate(self.model, images, batch_size, self.network.logits)


def step_for(model: nn.Module, fast: bool, shown: bool) -> ClearStep:
    """The fast step where it is asked for and the model has one, else the clear one."""
    network = FastNetwork.of(model) if fast else None
    return ClearStep(model) if network is None else FastStep(model, network, shown)
