"""Calling a user's own model on images, and leaving it as it was."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from lava_meta.converters.recording.every_module import every_module
from lava_meta.converters.recording.exported import takes_one
from lava_meta.converters.recording.written_out import whole_numbers
from lava_meta.errors import ConversionError


class floats_in(TorchDispatchMode):
    """Inside, every floating value is of one type, whatever the code names.

    So `torch.where(x >= 0, 1.0, -1.0)`, which makes float32, and `(x >= 0).float()` compute in the model's type too.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no types
        self.dtype = dtype

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*each(self._cast, whole_numbers(func, args)), **each(self._cast, kwargs or {}))
        # What is made, as by torch.zeros, is so at once: a cast copy of it would be written into and lost.
        return made if func._schema.is_mutable else each(self._cast, made)

    def _cast(self, value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.to(self.dtype)
        return self.dtype if is_wide(value) else value


def each(change: Callable[[Any], Any], given: Any) -> Any:
    """`tree_map(change, given)`, of which most arguments of operations need nothing but this, and a run has many."""
    kind = type(given)
    if kind is tuple or kind is list:
        return kind(each(change, part) for part in given)
    if kind is dict:
        return {key: each(change, part) for key, part in given.items()}
    return tree_map(change, given) if isinstance(given, (tuple, list, dict)) else change(given)


def is_wide(value: Any) -> bool:
    """Whether it is a floating type in which values are computed, not one of 8 bits, to which they are rounded."""
    return isinstance(value, torch.dtype) and value.is_floating_point and value.itemsize > 1


def float_types(model: nn.Module) -> list[torch.dtype]:
    """The floating types of a model's parameters, in the order of the model; of its buffers, where it has none."""
    for tensors in (model.parameters(), model.buffers()):
        found = dict.fromkeys(tensor.dtype for tensor in tensors if tensor.is_floating_point())
        if found:
            return list(found)
    return [torch.get_default_dtype()]


COARSE = frozenset({torch.float16, torch.bfloat16})


def is_coarse(model: nn.Module) -> bool:
    """Whether all of a model is in half precision, so that no cast to it rounds anything."""
    return COARSE.issuperset(float_types(model))


def name_of(dtype: torch.dtype) -> str:
    """`float32` for `torch.float32`."""
    return str(dtype).removeprefix("torch.")


def call(model: nn.Module, inputs: Tensor, place: int | None = None) -> Tensor:
    """What an unwrapped `model` gives for `inputs` (n, ...), cast to its type and device: (n, classes, ...), on a CPU.

    The model is called as it is (`computed`), compiled parts by their Python code, and left as it was (`untouched`).
    `place` chooses one of the tensors that it returns.

    Raises:
        ConversionError: The model fails, or gives anything but numbers for each image.
    """
    device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    dtype = float_types(model)[0]
    x = inputs.to(device, dtype if inputs.is_floating_point() else None)
    with untouched(model):
        try:
            parts = x.split(1) if takes_one(model) else [x]
            found = together([computed(model, part, dtype) for part in parts])
        except ConversionError:
            raise
        except Exception as error:
            raise ConversionError(
                f"the model itself fails on {name_of(x.dtype)} inputs of shape {tuple(x.shape)}: "
                f"{type(error).__name__}: {error}"
            ) from error
    if place is not None:
        found = [leaf for leaf in tree_leaves(as_tree(found)) if leaf is not None][place]
    if not isinstance(found, Tensor) or not found.ndim or len(found) != len(inputs):
        what = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise ConversionError(
            f"the model gives {what} for {len(inputs)} images; it must give (images, classes), or maps of them"
        )
    return found.reshape(len(found), -1).cpu() if found.ndim == 1 else found.cpu()


def as_tree(given: Any) -> Any:
    """What a model gave, its dataclasses and mappings of any class as dictionaries."""

    def plain(leaf: Any) -> Any:
        leaf = vars(leaf) if isinstance(leaf, SimpleNamespace) else leaf
        if isinstance(leaf, Mapping):
            return {str(key): as_tree(value) for key, value in leaf.items()}
        if not dataclasses.is_dataclass(leaf) or isinstance(leaf, type):
            return leaf
        return {each.name: as_tree(getattr(leaf, each.name)) for each in dataclasses.fields(leaf)}

    return tree_map(plain, given)


def together(results: list[Any]) -> Any:
    """What a model gave for some images and for others, as what it would give for all."""
    if len(results) == 1:
        return results[0]
    return tree_map(lambda *parts: torch.cat(parts) if isinstance(parts[0], Tensor) else parts[0], *results)


def computed(module: nn.Module, x: Tensor, dtype: torch.dtype) -> Any:
    """`module(x)`; where that fails, as it does if its forward mixes types of floats, with all floats in `dtype`."""
    try:
        return module(x.clone())  # a forward may write into what it is given
    except RuntimeError:
        with floats_in(dtype):
            return module(x.clone())


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Inside, no gradients are recorded; after it, parameters, buffers, attributes, mode and RNG are as before."""
    modules = list(every_module(model).values())
    kinds = (part for module in modules for part in (module._parameters, module._buffers))
    tensors = {id(own): own for kind in kinds for own in kind.values() if own is not None}.values()
    values = [(tensor, tensor.detach(), tensor.detach().clone()) for tensor in tensors]
    names = ("_parameters", "_buffers", "_modules")
    kept = [module for module in modules if not isinstance(module, torch.jit.ScriptModule)]
    holders = [vars(module) for module in kept]
    holders += [vars(module)[name] for module in kept for name in names]
    held = [(holder, dict(holder)) for holder in holders]
    with rng_kept(model), torch.no_grad(), _uncompiled(), _unfused(), _as_written():
        try:
            yield
        finally:
            for holder, content in held:
                holder.clear()
                holder.update(content)
            for tensor, memory, value in values:
                if tensor.data_ptr() != memory.data_ptr():  # as by `weight.data = sign(weight)` in a forward
                    tensor.data = memory
                if not torch.equal(memory, value):
                    memory.copy_(value)


def rng_kept(model: nn.Module) -> contextlib.AbstractContextManager[Any]:
    """After it, torch's random generators are as before, on the CPU and on the devices of `model`."""
    devices = {tensor.device.index for tensor in (*model.parameters(), *model.buffers()) if tensor.is_cuda}
    return torch.random.fork_rng(devices=sorted(devices))


@contextlib.contextmanager
def _unfused() -> Iterator[None]:
    """Attention, and whole layers of transformers, run as the matrix products and softmax that they are."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _as_written() -> contextlib.AbstractContextManager[None]:
    """TorchScript runs what it was made of, the same at each call."""
    made: contextlib.AbstractContextManager[None] = vars(torch.jit)["optimized_execution"](should_optimize=False)
    return made


def _uncompiled() -> contextlib.AbstractContextManager[Any]:
    """Compiled modules run as the Python code that they were made of, which needs no compiler and no minutes."""
    stance = getattr(torch.compiler, "set_stance", None)  # torch 2.6 and later
    compiler = "torch._dynamo" in sys.modules  # else nothing is compiled, and its import would take seconds
    return stance("force_eager") if stance is not None and compiler else contextlib.nullcontext()
