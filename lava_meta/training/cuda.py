"""What a GPU adds to training: work captured as CUDA graphs, and products in TF32 where they are exact.

A step launches some hundred kernels, and at a few microseconds each the host cannot keep up with a large GPU. Captured
once as a graph, they are launched as one. A graph is its kernels and their addresses and nothing else: no Python runs
when it is replayed, so what is captured may depend on tensors alone. `can_capture` says for which models that holds.

TF32 keeps 10 bits after the leading one of each operand of a product, and sums in float32. Signs, and pixels less a
whole offset, fit in it, and their sums are whole numbers below 2**24; `exact_in_tf32` says where the whole forward pass
is of that kind, to the bit that of float32. The backward pass is not, and stays in float32: in TF32 its gradients would
lose 13 of 24 bits. Under batch norm the gradients of inputs that never change cancel over the batch, and of what is
left Adam makes steps where it is not far below its eps, 1e-8. On MNIST (784-512-512-10, the first batch of 100, the
rounding done on a CPU) it was 3e-11 at most in float32, and 5e-8 in TF32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lava_meta.nn import AbsStep, BinaryConv2d, BinaryLinear, FixedNorm, Pixels, SampleNorm, Sign, TaskBatchNorm

T = TypeVar("T")


class Graphs:
    """Functions of no arguments, run or captured on one stream of a GPU.

    Both are done on the same stream, which is none of the ordinary ones: autograd remembers for each parameter the
    stream where it was first met, and a capture must not meet another than its own.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, torch.cuda.Stream(device)

    def run(self, function: Callable[[], T]) -> T:
        """Call `function`, in order with what was and will be launched on the current stream."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = function()
        current.wait_stream(self.stream)
        return result

    def capture(self, function: Callable[[], T]) -> Callable[[], T]:
        """Capture `function`: the result launches its work on the current stream and returns its tensors.

        The tensors keep their addresses and are overwritten at each launch. Capturing itself computes nothing.

        Raises:
            RuntimeError: something in it cannot be captured, such as reading a value.
        """
        graph = torch.cuda.CUDAGraph()
        # The first of the two puts the current stream back if a capture fails; the second then does not.
        with torch.cuda.stream(self.stream), torch.cuda.graph(graph, stream=self.stream):
            result = function()

        def replay() -> T:
            graph.replay()
            return result

        return replay


def graphs_on(device: torch.device) -> Graphs | None:
    """The graphs of a device; None if it has none."""
    return Graphs(device) if device.type == "cuda" else None


@contextmanager
def tf32(*, on: bool = True) -> Iterator[None]:
    """Products of float32 matrices on a GPU take operands in TF32 inside the block, if `on`; else nothing changes."""
    if not on:
        yield
        return
    matmul: Any = torch.backends.cuda.matmul
    # Before torch 2.9 the one name, since then the other; from then on a user who has set one cannot read the other.
    name, value = ("fp32_precision", "tf32") if hasattr(matmul, "fp32_precision") else ("allow_tf32", True)
    before = getattr(matmul, name)
    setattr(matmul, name, value)
    try:
        yield
    finally:
        setattr(matmul, name, before)


_LEVELS_KEPT: tuple[type, ...] = (nn.Flatten, nn.Identity, nn.MaxPool2d)  # the values that come are those that go
_LAYERS = {
    *_LEVELS_KEPT,
    *(AbsStep, BinaryConv2d, BinaryLinear, FixedNorm, Pixels, SampleNorm, Sign, TaskBatchNorm),
    *(nn.Linear, nn.Conv2d, nn.ReLU, nn.AvgPool2d, nn.GroupNorm),
}


def can_capture(model: nn.Module) -> bool:
    """Whether a training step of `model` may be captured: a second pass in the same task does what the first did.

    True for sequences of this library's layers and torch's plain ones, without hooks, which would not be called. A
    class whose own `forward` does nothing but compute with its input, parameters, buffers and constants (no random
    numbers, no look at a value, nothing carried over in Python) says so by `capturable = True`, for its parts too.
    """
    return _is_pure(model) and not (is_watched(model) or any(map(_has_hooks, model.parameters())))


def _is_pure(module: nn.Module) -> bool:
    kind = type(module)
    if kind.forward is nn.Sequential.forward:
        return all(map(_is_pure, module.children()))
    return kind in _LAYERS or getattr(kind, "capturable", False)


def exact_in_tf32(model: nn.Module) -> bool:
    """Whether every product of the forward pass has operands that TF32 holds.

    That is a sequence whose weights are all binary, each of its layers behind a `Sign` or an `AbsStep`, except the
    first, which may follow raw levels or `Pixels` with a whole offset.
    """
    exact = True  # what comes in are raw levels
    for module in _in_order(model):
        if isinstance(module, BinaryLinear | BinaryConv2d):
            if not exact:
                return False
            exact = False
        elif type(module) in (AbsStep, Sign):
            exact = True
        elif type(module) is Pixels:
            offset, gain = module.offset.item(), module.gain.item()
            exact = exact and gain == 1 and offset == int(offset) and module.max_level + abs(offset) < 2**11
        elif type(module) not in _LEVELS_KEPT:
            if any(parameter.dim() >= 2 for parameter in module.parameters()):
                return False
            exact = False
    return True


def _in_order(model: nn.Module) -> Iterator[nn.Module]:
    if type(model).forward is nn.Sequential.forward:
        for module in model.children():
            yield from _in_order(module)
    else:
        yield model


def is_watched(model: nn.Module) -> bool:
    """Whether hooks hang on any module."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, kind) for module in model.modules() for kind in kinds)


def _has_hooks(parameter: Tensor) -> bool:
    return bool(parameter._backward_hooks or parameter._post_accumulate_grad_hooks)
