"""A module with a forward of its own, as the modules that its forward calls one after the other.

`torch.fx` traces the forward. What it calls must be a chain: each value made from the one before and used once, apart
from shapes, which may be read anywhere. Supported modules stay as they are, and functions become the modules that do
the same (`lava_meta.converters.chain.functions`). What a forward computes of parameters alone, as the sign of its
weights, is computed here. Autograd functions are entered as if their forward stood in place. Everything else is refused
with its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import fx, nn

from lava_meta.converters.chain.functions import (
    COMMUTATIVE,
    FUNCTION_NAMES,
    FUNCTIONS,
    METHODS,
    OPERATORS,
    REFUSED_FUNCTIONS,
    Bits,
    Cast,
    operator_of,
)
from lava_meta.converters.refusals import NotAChain
from lava_meta.converters.registry import Affine, is_registered
from lava_meta.errors import ConversionError
from lava_meta.nn import sign_ste

__all__ = ["FUNCTION_NAMES", "has_own_forward", "trace"]

_LIKE = {"ones_like": 1.0, "zeros_like": 0.0}


def has_own_forward(module: nn.Module) -> bool:
    """Whether a module computes otherwise than known ones (PyTorch's, ours, registered): its forward must be traced."""
    known = ("torch.nn.", "lava_meta.nn.", "lava_meta.converters.")
    # A traced graph module's forward is generated code, which has no module.
    return not is_registered(module) and not (type(module).forward.__module__ or "").startswith(known)


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
        with _autograd_functions_entered():
            graph = _Tracer().trace(model)
    except Exception as error:
        raise NotAChain(f"{own} has a forward of its own that cannot be traced: {error}") from error
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise NotAChain(f"{own} takes {len(inputs)} inputs; one is supported")
    value: fx.Node = inputs[0]
    constants: dict[fx.Node, Any] = {}
    found: list[tuple[str, nn.Module]] = []
    for node in graph.nodes:
        place = _place(prefix, node, own)
        if node.op == "placeholder" or _is_constant(model, node, constants, place) or _is_shape(node):
            continue
        used = [other for other in _used(node) if not _is_shape(other) and other not in constants]
        if used != [value]:
            raise NotAChain(
                f"{place} does not take the value before it alone: sums, joins and branches of paths are not supported"
            )
        if node.op == "output":
            if node.args[0] is not value:
                raise NotAChain(f"{own} gives more than one tensor")
            _check_bits_are_signs(found)
            return found
        name = _join(prefix, node.target if node.op == "call_module" else node.name)
        _append(found, name, _module(model, node, value, constants, place))
        value = node
    raise AssertionError("a traced graph ends with its output")


@contextmanager
def _autograd_functions_entered() -> Iterator[None]:
    """Inside, an autograd function that is called on a traced value runs its forward on it."""
    original = torch.autograd.Function.__dict__["apply"]

    def apply(cls: type[torch.autograd.Function], *arguments: Any, **options: Any) -> Any:
        if not any(isinstance(argument, fx.Proxy) for argument in arguments):
            return original.__func__(cls, *arguments, **options)
        if cls.setup_context is not torch.autograd.Function.setup_context:
            return cls.forward(*arguments, **options)
        context = SimpleNamespace(save_for_backward=lambda *_: None, mark_non_differentiable=lambda *_: None)
        return cls.forward(context, *arguments, **options)

    torch.autograd.Function.apply = classmethod(apply)
    try:
        yield
    finally:
        torch.autograd.Function.apply = original


def _is_constant(model: nn.Module, node: fx.Node, constants: dict[fx.Node, Any], place: str) -> bool:
    """Whether a node is made of parameters, buffers and numbers alone; then its value is noted."""
    if node.op == "get_attr":
        value: Any = model
        for part in str(node.target).split("."):
            value = getattr(value, part)
        constants[node] = value
        return True
    if node.op not in ("call_function", "call_method") or not node.all_input_nodes:
        return False
    if not all(used in constants for used in node.all_input_nodes):
        if getattr(node.target, "__name__", "") not in _LIKE:
            return False
        constants[node] = _LIKE[node.target.__name__]  # type: ignore[union-attr]
        return True
    arguments, options = _filled(node.args, constants), _filled(node.kwargs, constants)
    try:
        with torch.no_grad():
            if node.op == "call_method":
                constants[node] = getattr(arguments[0], str(node.target))(*arguments[1:], **options)
            else:
                constants[node] = node.target(*arguments, **options)  # type: ignore[operator]
    except Exception as error:
        raise NotAChain(f"{place} fails on the model's parameters: {error}") from error
    return True


def _used(node: fx.Node) -> list[fx.Node]:
    """The nodes whose values a node takes; of what it takes the type of, none."""
    typed = node.op == "call_method" and node.target in ("to", "type_as")
    return [node.args[0]] if typed else list(node.all_input_nodes)  # type: ignore[list-item]


def _filled(arguments: Any, constants: dict[fx.Node, Any]) -> Any:
    """The arguments with the values of the constants among them."""
    return fx.node.map_arg(arguments, lambda node: constants.get(node, node))


def _is_shape(node: Any) -> bool:
    """Whether a node reads a tensor's shape or type, or takes a part of it."""
    if node.op == "call_function" and node.target is getattr and node.args[1] in ("shape", "dtype", "device"):
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


def _module(model: nn.Module, node: fx.Node, value: fx.Node, constants: dict[fx.Node, Any], place: str) -> nn.Module:
    if node.op == "call_module":
        return model.get_submodule(str(node.target))
    every, options = list(_filled(node.args, constants)), dict(_filled(node.kwargs, constants))
    kind = operator_of(node.target)
    if kind in COMMUTATIVE and len(every) == 2 and every[1] is value:
        every.reverse()
    if node.target is torch.where and len(every) == 3:
        return _where(every[1], every[2], place)
    arguments = every[1:]
    if node.op == "call_method" and node.target in ("view", "reshape"):
        shape = list(arguments[0]) if arguments and isinstance(arguments[0], (tuple, list)) else arguments
        # (-1, n) is that too: a layer of n inputs follows, and finds out if an image has another number.
        if len(shape) == 2 and ((_is_batch(shape[0]) and shape[1] == -1) or _is_rows(shape)):
            return nn.Flatten()
        raise NotAChain(f"{place} may change more than the shape of one image; use x.flatten(1)")
    known: dict[Any, Any] = METHODS if node.op == "call_method" else FUNCTIONS | REFUSED_FUNCTIONS
    make = OPERATORS[kind] if kind is not None else known.get(node.target)
    if make is None or "input" in options or not every or every[0] is not value:
        raise NotAChain(f"{place} is not supported; supported functions are {FUNCTION_NAMES}")
    try:
        return make(*arguments, **options)
    except (TypeError, ValueError, RuntimeError, ConversionError) as error:
        raise NotAChain(f"{place} {error}") from error


def _is_rows(shape: list[Any]) -> bool:
    return shape[0] == -1 and isinstance(shape[1], int) and shape[1] > 0


def _where(chosen: Any, other: Any, place: str) -> nn.Module:
    """What `torch.where(condition, chosen, other)` makes of a condition's bits: their factor and addend."""
    try:
        high, low = float(_number(chosen)), float(_number(other))
    except (TypeError, ValueError) as error:
        raise NotAChain(f"{place} chooses between tensors; numbers are supported") from error
    return Affine(torch.tensor([high - low]), torch.tensor([low]))


def _number(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value


def _append(found: list[tuple[str, nn.Module]], name: str, module: nn.Module) -> None:
    """Add a module; what follows a comparison is taken together with it, until it is a sign."""
    before = found[-1][1] if found else None
    if not isinstance(before, Bits):
        found.append((name, module))
    elif isinstance(module, Affine) and module.scale.numel() == 1:
        found[-1] = (name, before.then(float(module.factor), float(module.offset)))
    elif not isinstance(module, Cast):
        _check_bits_are_signs(found)


def _check_bits_are_signs(found: list[tuple[str, nn.Module]]) -> None:
    if found and isinstance(found[-1][1], Bits):
        bits = found[-1][1]
        raise NotAChain(
            f"{found[-1][0]} passes on {bits.offset:g} and {bits.offset + bits.scale:g}, not -1 and +1: make signs of "
            "bits as 2 * bits - 1"
        )


def _join(prefix: str, name: Any) -> str:
    return f"{prefix}.{name}" if prefix else str(name)


def _place(prefix: str, node: fx.Node, own: str) -> str:
    kind = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    return f"{_join(prefix, node.name)} ({kind}) in the forward of {own}"
