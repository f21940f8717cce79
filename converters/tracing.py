"""A module with a forward of its own, as the modules that its forward calls one after the other.

`torch.fx` traces the forward. What it calls must be a chain: each value made from the one before and used once, apart
from shapes, which may be read anywhere. Supported modules stay as they are, and functions become the modules that do
the same. Everything else is refused with its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from lava_meta.converters.registry import is_registered
from lava_meta.errors import ConversionError
from lava_meta.nn import Sign, sign_ste


def _dropout(p: float = 0.5, training: bool = True, inplace: bool = False) -> nn.Module:
    if training:
        raise ConversionError("drops inputs in eval mode too: call it with training=self.training")
    return nn.Identity()


def _max_pool(
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: Any = False,
    return_indices: Any = False,
) -> nn.Module:
    return nn.MaxPool2d(kernel_size, stride, padding, dilation, return_indices, ceil_mode)


def _hardtanh(min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> nn.Module:
    return nn.Hardtanh(min_val, max_val)


def _flatten(start_dim: int = 0, end_dim: int = -1) -> nn.Module:
    return nn.Flatten(start_dim, end_dim)


# What a function's further arguments make of it; the arguments have the function's own names and order.
FUNCTIONS: dict[Any, Callable[..., nn.Module]] = {
    functional.max_pool2d: _max_pool,
    functional.avg_pool2d: nn.AvgPool2d,
    functional.hardtanh: _hardtanh,
    functional.dropout: _dropout,
    torch.flatten: _flatten,
    sign_ste: Sign,
}
FUNCTION_NAMES = ", ".join(sorted(function.__name__ for function in FUNCTIONS))
METHODS: dict[str, Callable[..., nn.Module]] = {"flatten": _flatten}


def has_own_forward(module: nn.Module) -> bool:
    """Whether a module computes otherwise than known ones (PyTorch's, ours, registered): its forward must be traced."""
    return not is_registered(module) and not type(module).forward.__module__.startswith(("torch.nn.", "lava_meta.nn."))


class _Tracer(fx.Tracer):
    """Enters modules with a forward of their own and `nn.Sequential`; all others stay as they are."""

    def __init__(self) -> None:
        super().__init__(autowrap_functions=(sign_ste,))

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not has_own_forward(m) and type(m).forward is not nn.Sequential.forward


def trace(model: nn.Module, prefix: str) -> list[tuple[str, nn.Module]]:
    """The modules that `model` calls, with their places. Raises `ConversionError` for what is not a chain of them."""
    own = f"{prefix or 'the model'} ({type(model).__name__})"
    try:
        graph = _Tracer().trace(model)
    except Exception as error:
        raise ConversionError(f"{own} has a forward of its own that cannot be traced: {error}") from error
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise ConversionError(f"{own} takes {len(inputs)} inputs; one is supported")
    value: fx.Node = inputs[0]
    found: list[tuple[str, nn.Module]] = []
    for node in graph.nodes:
        if node.op == "placeholder" or _is_shape(node):
            continue
        place = _place(prefix, node, own)
        if node.op == "get_attr":
            raise ConversionError(f"{place} is read by itself; call the module that has it")
        if [used for used in node.all_input_nodes if not _is_shape(used)] != [value]:
            raise ConversionError(
                f"{place} does not take the value before it alone: sums, joins and branches of paths are not supported"
            )
        if node.op == "output":
            if node.args[0] is not value:
                raise ConversionError(f"{own} gives more than one tensor")
            return found
        found.append(
            (_join(prefix, node.target if node.op == "call_module" else node.name), _module(model, node, place))
        )
        value = node
    raise AssertionError("a traced graph ends with its output")


def _is_shape(node: Any) -> bool:
    """Whether a node reads a tensor's shape or takes a part of it."""
    if node.op == "call_function" and node.target is getattr and node.args[1] == "shape":
        return True
    if node.op == "call_method" and node.target == "size":
        return True
    part = node.op == "call_function" and getattr(node.target, "__name__", "") == "getitem"
    return part and _is_shape(node.args[0])


def _is_batch(value: Any) -> bool:
    """Whether a value is the number of images: `x.shape[0]` or `x.size(0)`."""
    if not isinstance(value, fx.Node) or not _is_shape(value):
        return False
    return len(value.args) == 2 and bool(value.args[1] == 0)


def _module(model: nn.Module, node: fx.Node, place: str) -> nn.Module:
    if node.op == "call_module":
        return model.get_submodule(str(node.target))
    arguments, options = node.args[1:], dict(node.kwargs)
    if node.op == "call_method" and node.target in ("view", "reshape"):
        if len(arguments) == 2 and _is_batch(arguments[0]) and arguments[1] == -1:
            return nn.Flatten()
        raise ConversionError(f"{place} may change more than the shape of one image; use x.flatten(1)")
    known: dict[Any, Any] = METHODS if node.op == "call_method" else FUNCTIONS
    make = known.get(node.target)
    if make is None or "input" in options:
        raise ConversionError(f"{place} is not supported; supported functions are {FUNCTION_NAMES}")
    try:
        return make(*arguments, **options)
    except (TypeError, ConversionError) as error:
        raise ConversionError(f"{place} {error}") from error


def _join(prefix: str, name: Any) -> str:
    return f"{prefix}.{name}" if prefix else str(name)


def _place(prefix: str, node: fx.Node, own: str) -> str:
    kind = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    return f"{_join(prefix, node.name)} ({kind}) in the forward of {own}"
