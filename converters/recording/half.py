"""What a model computes in half precision, as under `torch.autocast`: its rounding is none of a network of integers."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lava_meta.converters.recording.calling import COARSE, each, is_coarse, name_of
from lava_meta.converters.recording.every_module import every_module
from lava_meta.converters.recording.places import innermost
from lava_meta.converters.recording.steps import Place


class InHalf(TorchDispatchMode):
    """Notes where operations of a model that is in float32 give float16 or bfloat16 which float64 has otherwise.

    Casts to these types in lines that were `read` are none of them: they are part of the network
    (`lava_meta.converters.functions.halves`). With None none is, as of a chain, in which only signs are cast.
    """

    def __init__(self, model: nn.Module, read: frozenset[tuple[str, int]] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no types
        self.names = {id(module): name for name, module in every_module(model).items()}
        self.looks, self.read = not is_coarse(model), read
        self.places: dict[Place, torch.dtype] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """As `operations.Float64` has it."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if not self.looks or not any(map(_names_half, tree_leaves((args, given)))):
            return func(*args, **given)
        cast = func is torch.ops.aten._to_copy.default
        if getattr(func, "is_view", False) or (cast and self.read is None):
            return func(*args, **given)
        try:
            exact = tree_leaves(func(*each(_wide, args), **each(_wide, given)))
        except RuntimeError:  # a kernel that takes no float64
            exact = []
        found = func(*args, **given)
        for own, wide in zip(tree_leaves(found), exact, strict=False):
            if _is_half(own) and not torch.equal(own.double(), wide.double()):
                place = innermost(self.names)
                if not cast or (place.file, place.line) not in (self.read or ()):
                    self.places.setdefault(place, own.dtype)
        return found

    def warn(self, wrong: int, images: int) -> None:
        """Say so, with the first place, if there is one."""
        if not self.places:
            return
        place, dtype = next(iter(self.places.items()))
        others = f" (and {len(self.places) - 1} other places)" if len(self.places) > 1 else ""
        warnings.warn(
            f"{place} computes in {name_of(dtype)}{others}, as under torch.autocast or by layers of that type. The "
            "network computes there what the model does in float64, without this rounding: the model itself gives "
            f"{wrong} of {images} images another class. Convert it with autocast off and these layers in float32, or "
            "look at net.compare on your own data; a cast alone, as x.to(torch.bfloat16).float(), is rounded as it is",
            stacklevel=2,
        )


def rounded_to(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Values in float64, rounded to the nearest float16 or bfloat16.

    PyTorch takes float64 to float32 before, which may move a value to halfway between two of them: here none is.
    """
    info, wide = torch.finfo(dtype), values.double()
    finest = math.frexp(info.smallest_normal)[1]
    exponent = torch.frexp(wide).exponent.clamp(min=finest) - 1
    apart = torch.ldexp(torch.full_like(wide, info.eps), exponent)
    found = torch.round(wide / apart) * apart
    return torch.where(found.abs() > info.max, torch.copysign(torch.tensor(torch.inf).to(found), found), found)


def _is_half(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.dtype in COARSE


def _names_half(leaf: Any) -> bool:
    """Whether an argument is a tensor in half precision, or such a type."""
    return _is_half(leaf) or (isinstance(leaf, torch.dtype) and leaf in COARSE)


def _wide(leaf: Any) -> Any:
    """A float in float64, a copy; types likewise."""
    if isinstance(leaf, Tensor):
        return leaf.to(torch.float64, copy=True) if leaf.is_floating_point() else leaf
    return torch.float64 if isinstance(leaf, torch.dtype) and leaf in COARSE else leaf
