"""A user's model as a plain copy: without wrappers, hooks, masks and parametrizations, its weights as they compute.

What wraps a model without changing what it computes (`torch.compile`, `nn.DataParallel`) is taken off; what makes a
weight anew for every forward (parametrizations, weight norm, pruning masks) is evaluated once. The user's own module
keeps all of it.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.optim.swa_utils import AveragedModel

from lava_meta.converters.recording.every_module import every_module, held
from lava_meta.converters.recording.exported import is_exported, module_of
from lava_meta.errors import ConversionError

# What a forward pre-hook that makes a weight is undone with, given the module and the weight's name.
_WEIGHT_HOOKS: dict[type, tuple[str, Any]] = {
    prune.BasePruningMethod: ("_tensor_name", prune.remove),
    WeightNorm: ("name", remove_weight_norm),
    SpectralNorm: ("name", remove_spectral_norm),
}
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
_INTEGER_MODULES = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside `torch.compile`, `nn.DataParallel`, `DistributedDataParallel` or `AveragedModel`, or `model`.

    Of a `torch.export.ExportedProgram`, its module.

    Raises:
        TypeError: `model` is not a `torch.nn.Module`.
    """
    exported = module_of(model)
    if exported is not None:
        return exported
    if not isinstance(model, nn.Module):
        raise TypeError(f"the model is of type {_kind(model)}; it must be a torch.nn.Module{_advice(model)}")
    inner = _inside(model)
    return model if inner is None else unwrap(inner)


def check_given(model: nn.Module) -> None:
    """Check an unwrapped model: all of it in eval mode, every parameter with a value.

    Raises:
        ConversionError: Names the module that is not so, and what to do.
    """
    for name, module in model.named_modules():
        if type(module).__module__.startswith(_INTEGER_MODULES):
            raise ConversionError(
                f"{name or 'the model'} ({type(module).__name__}) computes with integers of its own: convert the model "
                "as it was trained, before torch.ao.quantization.convert or quantize_dynamic"
            )
        if int(getattr(module, "observer_enabled", torch.zeros(1)).sum()):
            raise ConversionError(
                f"{name} ({type(module).__name__}) goes on to observe what it is given, so that an image's result "
                "depends on the others: call model.apply(torch.ao.quantization.disable_observer)"
            )
        if (
            getattr(module, "training", False)  # frozen ones have none
            and _inside(module) is None
            and not is_exported(module)
            and (not name or _asks_for_mode(module))
        ):
            place = f"{name} ({type(module).__name__})" if name else "the model"
            raise ConversionError(f"{place} is in training mode: call model.eval() first")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
            raise ConversionError(f"{name} has no shape yet: pass an image through the model first")
        if tensor.layout != torch.strided:
            raise ConversionError(f"{name} is sparse ({tensor.layout}): make it dense, as {name}.to_dense() is")
        if tensor.is_meta:
            raise ConversionError(f"{name} has no values, only a shape: load them first")


def _asks_for_mode(module: nn.Module) -> bool:
    """Whether a method of the module's classes names `training`: for others the mode changes nothing."""
    classes = [kind for kind in type(module).__mro__ if kind not in nn.Module.__mro__]
    methods = (value for kind in classes for value in vars(kind).values() if isinstance(value, FunctionType))
    return any("training" in method.__code__.co_names for method in methods)


def plain_copy(model: nn.Module, *, hooks: bool = False) -> nn.Module:
    """A copy of an unwrapped model, in its own type and on its own device, that shares nothing with it.

    Wrappers inside are taken off; pruning masks, weight norms and parametrizations are evaluated; other hooks are left
    out, or with `hooks` those of its forward are called as they are.

    Raises:
        ConversionError: It cannot be copied, or a weight's parametrization cannot be evaluated.
    """
    memo: dict[int, Any] = {}
    modules = list(every_module(model).values())
    for module in modules:
        for name in _HOOKS:
            kept = getattr(module, name) if hooks and "forward" in name else ()
            made = OrderedDict(_weight_hooks(module) if name == "_forward_pre_hooks" else ())
            memo[id(getattr(module, name))] = made | OrderedDict(kept)
        for _, value in held([*vars(module).values(), *module._buffers.values()]):
            # A weight that a hook made, or a state of a spiking neuron, which copy refuses.
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    for parameter in [own for module in modules for own in module.parameters(recurse=False)]:
        if vars(parameter) or type(parameter) is not nn.Parameter:
            memo[id(parameter)] = _whole_copy(parameter)
    try:
        for module in reversed(modules):  # the inner ones first
            inner = _inside(module)
            if inner is not None:
                memo[id(module)] = copy.deepcopy(unwrap(inner), memo)
        clone = copy.deepcopy(model, memo)
    except ConversionError:
        raise
    except Exception as error:
        raise ConversionError(
            f"the model cannot be copied ({type(error).__name__}: {error}): take what is no part of the network out of "
            "its attributes"
        ) from error
    for name, module in every_module(clone).items():
        _evaluate_weights(name or "the model", module)
    return clone


def _whole_copy(parameter: nn.Parameter) -> Tensor:
    """A copy with its class and attributes, such as master weights, which PyTorch leaves out."""
    made: Tensor = torch.Tensor._make_subclass(type(parameter), parameter.detach().clone(), parameter.requires_grad)
    for name, value in vars(parameter).items():
        setattr(made, name, value.detach().clone() if isinstance(value, Tensor) else copy.copy(value))
    return made


@torch.no_grad()
def _evaluate_weights(place: str, module: nn.Module) -> None:
    """Make parameters of the weights that hooks and parametrizations of `module` give."""
    weight = "weight"
    try:
        for hook in [hook for _, hook in _weight_hooks(module)]:
            attribute, remove = next(how for kind, how in _WEIGHT_HOOKS.items() if isinstance(hook, kind))
            weight = getattr(hook, attribute)
            remove(module, weight)
        if parametrize.is_parametrized(module):
            # Not remove_parametrizations, which alters the class, and the user's module is of that class too.
            kind, values = parametrize.type_before_parametrizations(module), {}
            for weight in module.parametrizations:  # type: ignore[union-attr]
                values[weight] = getattr(module, weight)
            del module._modules["parametrizations"]
            module.__class__ = kind
            for weight, value in values.items():
                module.register_parameter(weight, nn.Parameter(value.clone(), requires_grad=False))
    except Exception as error:
        raise ConversionError(
            f"{place}: its {weight} is made by a hook or parametrization that cannot be evaluated ({error}); call "
            "torch.nn.utils.parametrize.remove_parametrizations, prune.remove or remove_weight_norm before converting"
        ) from error


def has_hooks(model: nn.Module) -> bool:
    """Whether anything but what makes its weights is called around the forwards of a model's modules."""
    modules = every_module(model).values()
    return any(len(m._forward_hooks) + len(m._forward_pre_hooks) > len(_weight_hooks(m)) for m in modules)


def _weight_hooks(module: nn.Module) -> list[tuple[int, Any]]:
    return [item for item in module._forward_pre_hooks.items() if isinstance(item[1], tuple(_WEIGHT_HOOKS))]


def _inside(module: nn.Module) -> nn.Module | None:
    """What a wrapper wraps; None where `module` is no wrapper."""
    if isinstance(module, _WRAPPERS):
        return module.get_submodule("module")
    if type(module).__name__ == "OptimizedModule":  # torch.compile's, whose class is not public
        return module.get_submodule("_orig_mod")
    return None


def _kind(model: object) -> str:
    return f"class {model.__name__}" if isinstance(model, type) else type(model).__name__


def _advice(model: object) -> str:
    if isinstance(model, type):
        return ": make one of this class"
    if isinstance(model, dict):
        return ": load a state dict into a model with load_state_dict"
    return ""
