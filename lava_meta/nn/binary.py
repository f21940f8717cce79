"""Which parameters are hidden weights: those whose sign is what a layer computes with.

An optimizer sees parameters and not the layers that use them, so a hidden weight carries a mark. The metaplastic
optimizers gate marked weights, and a real-valued weight only if its parameter group names the gate itself.

A class that derives from `BinaryLayer` marks its own weights, whatever happens to them: copies, moves to another
device, loaded states. A weight of any other layer is marked by hand, with `mark_binary`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

P = TypeVar("P", bound=Tensor)


def mark_binary(parameter: P) -> P:
    """Say that `parameter` is a hidden weight, whose sign a layer computes with. Returns it.

    A copy made by `copy.deepcopy` does not carry the mark, unless its layer is a `BinaryLayer`: mark it again.

    Args:
        parameter: the hidden weight, two or more dimensions (the optimizers gate no other).

    Raises:
        TypeError: if it is not a tensor.
    """
    if not isinstance(parameter, Tensor):
        raise TypeError(f"mark_binary takes a parameter, such as layer.weight, not {type(parameter).__name__}")
    parameter._binary_weight = True  # type: ignore[attr-defined]
    return parameter


def is_binary(parameter: Tensor) -> bool:
    """Whether `parameter` is marked as a hidden weight."""
    return getattr(parameter, "_binary_weight", False)


def hidden_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable hidden weights of `model` by name, in its order: marked, of two or more dimensions."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad and p.dim() >= 2 and is_binary(p)}


class BinaryLayer(nn.Module):
    """A layer that computes with the signs of its weights: a mixin that marks them for the optimizers.

        class MyLinear(BinaryLayer, nn.Linear):
            def forward(self, x):
                return functional.linear(x, my_sign(self.weight))

    The class attribute `binary` names the parameters whose signs are used; any others are ordinary ones.
    """

    binary: ClassVar[tuple[str, ...]] = ("weight",)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        super().register_parameter(name, param)
        self._mark()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]  # torch gives it no types
        self._mark()  # a deep copy has new parameters

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:  # noqa: FBT001, FBT002  # torch's
        result = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch gives it no types
        self._mark()  # where parameters cannot be moved in place, new ones stand in their places
        return result

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._mark()  # a loaded tensor may be swapped in

    def _mark(self) -> None:
        for name in self.binary:
            # torch.nn.utils.prune keeps the weight itself under the second name.
            for parameter in (self._parameters.get(name), self._parameters.get(f"{name}_orig")):
                if parameter is not None:
                    mark_binary(parameter)
