"""Modules that keep a graph of operations instead of Python code: TorchScript, and what `torch.export` gives.

They can be run, and so recorded, but have no modules to read as a chain of layers.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.jit import ScriptModule

from lava_meta.errors import ConversionError


def is_exported(module: nn.Module) -> bool:
    """Whether a module is a graph of ATen operations."""
    return isinstance(module, fx.GraphModule) and any(
        isinstance(node.target, OpOverload) for node in module.graph.nodes
    )


def keeps_no_code(module: nn.Module) -> bool:
    """Whether a module, or one in it, has no forward in Python."""
    return any(isinstance(part, ScriptModule) or is_exported(part) for part in module.modules())


def module_of(program: Any) -> nn.Module | None:
    """The module of a `torch.export.ExportedProgram`; None of anything else."""
    kind = type(program)  # to import it takes seconds
    if kind.__name__ != "ExportedProgram" or not kind.__module__.startswith("torch.export"):
        return None
    made: nn.Module = program.module()
    return made


def takes_one(model: nn.Module) -> bool:
    """Whether a model was exported for a single image, so that it computes each alone.

    Raises:
        ConversionError: It was exported for another fixed number of images.
    """
    if not isinstance(model, fx.GraphModule) or not is_exported(model):
        return False
    taken = [node.meta.get("val") for node in model.graph.nodes if node.op == "placeholder"]
    size = next((part.shape[0] for part in taken[:1] if isinstance(part, Tensor) and part.ndim), None)
    if isinstance(size, int) and size != 1:  # else a symbol
        raise ConversionError(
            f"the model was exported for batches of {size} images: export it for one image, or for any number, as with "
            "dynamic_shapes=({0: torch.export.Dim('images')},)"
        )
    return isinstance(size, int)


def advice(model: nn.Module) -> str:
    """What may help where a model fails in float64."""
    if any(isinstance(part, ScriptModule) and not hasattr(part, "training") for part in model.modules()):
        return ". It is frozen, its weights are numbers of its code: convert the module that torch.jit.freeze was given"
    return ""
