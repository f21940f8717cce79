"""CUDA graphs on the CPU: a stand-in for `lava_meta.training.cuda.Graphs` that keeps their rules.

`capture` writes down every operation that torch dispatches, those of the backward pass and of the optimizer too, with
the very tensors that it had. A replay does these operations again and writes to the tensors that they gave the first
time: no Python of the captured function runs, and a number that Python put in stays what it was. As with a graph, what
was captured is not done by the capture (all that it changed is put back), and looking at a value in it is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

T = TypeVar("T")


class Tape:
    """Counts what it runs and captures. refuses: names of captured functions whose capture fails."""

    def __init__(self, refuses: tuple[str, ...] = ()) -> None:
        self.refuses = refuses
        self.runs = self.captures = self.replays = 0

    def run(self, function: Callable[[], T]) -> T:
        self.runs += 1
        return function()

    def capture(self, function: Callable[[], T]) -> Callable[[], T]:
        self.captures += 1
        recorder = _Recorder()
        try:
            with recorder:
                result = function()
                if getattr(getattr(function, "func", function), "__name__", "") in self.refuses:
                    raise RuntimeError("operation not permitted when stream is capturing\nand more")
        finally:
            recorder.put_back()

        def replay() -> T:
            self.replays += 1
            recorder.replay()
            return result

        return replay


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, list[Tensor | None]]] = []
        self.before: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("a captured function looks at a value")
        given = _tensors((args, kwargs))
        before = [tensor.clone() for tensor in given]
        result = function(*args, **kwargs)
        # Compared, because not every operation declares what it changes: batch norm does not.
        self.before += [(t, value) for t, value in zip(given, before, strict=True) if not torch.equal(t, value)]
        own = {_place(tensor) for tensor in given}
        self.operations.append((function, args, kwargs, [None if _place(t) in own else t for t in _tensors(result)]))
        return result

    @torch.no_grad()
    def put_back(self) -> None:
        for tensor, value in reversed(self.before):
            tensor.copy_(value)
        self.before = []

    @torch.no_grad()
    def replay(self) -> None:
        for function, args, kwargs, places in self.operations:
            for place, value in zip(places, _tensors(function(*args, **kwargs)), strict=True):
                if place is not None:  # else a view, or an argument that was changed in place
                    place.copy_(value)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
