"""One step of training, as the reference implementation and in two fast forms: forward, backward, update.

    begin_part()    what is learned, the optimizer or the task may be others from here on
    loss(x, y)      the mean cross entropy of a batch of raw levels, uint8
    backward()      gradients; where others want to see them, each is in its parameter's `grad`
    update(...)     the optimizer's step
    accuracy(...)   of the model as it is

`ClearStep` is autograd and works for any model; it is what the others are tested against: `FastStep` on the CPU, and
`CapturedStep` on a GPU.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from lava_meta.data import Images
from lava_meta.training import cuda
from lava_meta.training.conv_network import ConvNetwork
from lava_meta.training.evaluation import device_of, evaluate
from lava_meta.training.fast import FastNetwork

T = TypeVar("T")


class ClearStep:
    """The model's own forward and autograd's backward pass."""

    def __init__(self, model: nn.Module, *, fused: bool = False) -> None:
        self.model = model
        self.optimizer_form = {"fused": fused}  # options of the optimizer for this step

    def begin_part(self) -> None:
        """Forget what held for the part before."""

    def refresh(self) -> None:
        """Look at the weights again, after something other than `update` has changed them."""

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """The mean cross entropy, detached."""
        self._loss = functional.cross_entropy(self.model(x.to(torch.float32)), y)
        return self._loss.detach()

    def backward(self) -> None:
        """The gradients of the last `loss`."""
        for parameter in self.model.parameters():
            parameter.grad = None
        self._loss.backward()

    def update(self, optimizer: Any) -> bool:
        """One step with these gradients; False where weights were seen that are not finite."""
        optimizer.step()
        return True

    def accuracy(self, images: Images, batch_size: int) -> float:
        """Share of images that are classified rightly, in eval mode."""
        return evaluate(self.model, images, batch_size)


class FastStep(ClearStep):
    """The same by a network that is written out.

    shown: whether gradients must be in each parameter's `grad`, in float32.
    """

    def __init__(self, model: nn.Module, network: FastNetwork | ConvNetwork, *, shown: bool) -> None:
        super().__init__(model, fused=True)
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

    def update(self, optimizer: Any) -> bool:
        return bool(optimizer.step_with({} if self.shown else self.network.gradients, self.network.signs))

    def accuracy(self, images: Images, batch_size: int) -> float:
        self.refresh()
        return evaluate(self.model, images, batch_size, self.network.logits)


class CapturedStep(ClearStep):
    """The clear step, whose kernels are captured once a part and from then on launched as one.

    The first `WARM_UP` batches of a part are learned as by `ClearStep`. By then libraries have loaded, the optimizer
    has its state, and norms have seen the task. Then forward and backward pass are captured, and the optimizer's step
    apart from them, because methods work on the gradients in between. Each later batch is copied to where the captured
    kernels read it. A batch of another size than the first, as the last of an epoch, is learned as by `ClearStep`.

    Parameters, buffers, the optimizer's state and, from the capture on, each `grad` keep their addresses for the rest
    of the part. Where a method gives a weight other memory, what was captured is forgotten; where it gives a gradient
    another tensor, the optimizer's step is an ordinary one. The next batch overwrites the loss. The model must be one
    of `cuda.can_capture`.
    """

    WARM_UP = 3

    def __init__(self, model: nn.Module, graphs: cuda.Graphs, *, fused: bool = True) -> None:
        super().__init__(model)
        self.optimizer_form = {"fused": fused, "capturable": True}
        self.graphs, self.exact = graphs, cuda.exact_in_tf32(model)
        self.begin_part()

    def begin_part(self) -> None:
        self.left = self.WARM_UP  # batches before the capture
        self.batch: tuple[Tensor, Tensor] | None = None  # where captured kernels read
        self.gradients: dict[Tensor, Tensor | None] = {}  # where they write
        self.weights: list[int] = []  # and where the weights are
        self.learn: Callable[[], Tensor] | None = None  # the two graphs
        self.take_step: Callable[[], Any] | None = None
        for parameter in self.model.parameters():
            parameter.grad = None

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """The mean cross entropy; the gradients come with it."""
        if self.weights != [parameter.data_ptr() for parameter in self.gradients]:
            self.begin_part()
        if self.batch is None:
            self.batch = x.clone(), y.clone()
        fits = x.shape == self.batch[0].shape
        if fits and self.left == 0:
            self.learn = self._captured(partial(self._learn, *self.batch))
            self.gradients = {parameter: parameter.grad for parameter in self.model.parameters()}
            self.weights = [parameter.data_ptr() for parameter in self.gradients]
        self.left -= fits
        self.replays = fits and self.learn is not None
        if not fits or self.learn is None:
            return self.graphs.run(partial(self._learn, x, y))
        for place, value in zip(self.batch, (x, y), strict=True):
            place.copy_(value)
        for parameter, gradient in self.gradients.items():
            parameter.grad = gradient  # a batch of another size has left its own
        return self.learn()

    def backward(self) -> None:
        """Nothing is left to do."""

    def update(self, optimizer: Any) -> bool:
        eagerly = partial(self.graphs.run, optimizer.step)
        if not self.replays or any(parameter.grad is not own for parameter, own in self.gradients.items()):
            eagerly()
            return True
        if self.take_step is None:
            can = optimizer.can_be_captured
            self.take_step = (self._captured(optimizer.step) if can else None) or eagerly
        self.take_step()
        return True

    def accuracy(self, images: Images, batch_size: int) -> float:
        with cuda.tf32(on=self.exact):
            return super().accuracy(images, batch_size)

    def _learn(self, x: Tensor, y: Tensor) -> Tensor:
        with cuda.tf32(on=self.exact):
            loss = super().loss(x, y)
        super().backward()
        del self._loss  # with it autograd forgets on which stream it was
        return loss

    def _captured(self, function: Callable[[], T]) -> Callable[[], T] | None:
        """`function` as a graph; None, with a warning, if it cannot be one."""
        try:
            return self.graphs.capture(function)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            warnings.warn(f"a part of the training step runs uncaptured, which is slower: {reason}", stacklevel=2)
            return None


class StepFactory(Protocol):
    """Makes the step of a run."""

    def __call__(self, model: nn.Module, *, shown: bool) -> ClearStep:
        """shown: whether gradients must be in each parameter's `grad`."""


def step_factory(*, fast: bool) -> StepFactory:
    """Where `TrainSettings.fast` is decided: everything else is what the step and its `optimizer_form` say."""
    return _fast_step if fast else _clear_step


def _clear_step(model: nn.Module, *, shown: bool) -> ClearStep:
    return ClearStep(model)


def _fast_step(model: nn.Module, *, shown: bool) -> ClearStep:
    """The fast step that the model has; for any other model the optimizer alone is fast."""
    network = FastNetwork.of(model) or ConvNetwork.of(model)
    if network is not None:
        return FastStep(model, network, shown=shown)
    graphs = cuda.graphs_on(device_of(model)) if cuda.can_capture(model) else None
    return ClearStep(model, fused=True) if graphs is None else CapturedStep(model, graphs)
