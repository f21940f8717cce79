"""Parameter groups of a network, one per layer."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Sequence
from typing import Any

from torch import nn

from lava_meta.nn.binary import hidden_weights
from lava_meta.rule import Consolidation


def parameter_groups(
    model: nn.Module, m: float | Sequence[float], grow: Consolidation | None = None
) -> list[dict[str, Any]]:
    """Groups for an optimizer with one metaplasticity per layer: `MetaplasticAdam(parameter_groups(net, [2.0, 4.0]))`.

    A layer here is a trainable hidden weight of the model, in its order: see `lava_meta.nn.hidden_weights`. It warns,
    by name, of the other weights of two or more dimensions, which are not gated.

    Args:
        model: the network.
        m: metaplasticity, one value for all layers, or a sequence with one value each.
        grow: the gate of growing steps of all layers; None is 1.

    Returns:
        One group per layer with its m, then, if there are any, one of the other trainable parameters, with m = 0.

    Raises:
        ValueError: if the numbers of values and layers differ.
    """
    hidden = hidden_weights(model)
    others = {name: p for name, p in model.named_parameters() if p.requires_grad and name not in hidden}
    values = [m] * len(hidden) if isinstance(m, numbers.Real) else list(m)  # type: ignore[arg-type]
    if len(values) != len(hidden):
        raise ValueError(
            f"m has {len(values)} values for {len(hidden)} layers with binary weights: give one value, or one each "
            "(layers of your own derive from lava_meta.nn.BinaryLayer)"
        )
    free = [name for name, p in others.items() if p.dim() >= 2]
    if free and m != 0 and (any(values) or not values):
        warn_of_free(free)
    groups = [{"params": [p], "m": value, "grow": grow} for p, value in zip(hidden.values(), values, strict=True)]
    return [*groups, {"params": [*others.values()], "m": 0.0}] if others else groups


def warn_of_free(weights: Sequence[str]) -> None:
    """Warn of weights that are not gated although a gate was asked for. weights: a name or description of each."""
    more = f" and {len(weights) - 3} more" if len(weights) > 3 else ""
    warnings.warn(
        f"no binary layer uses {len(weights)} of the weights ({', '.join(weights[:3])}{more}): their steps are not "
        "gated. If a layer of your own takes their signs, derive it from lava_meta.nn.BinaryLayer, or name them in a "
        'group of their own, {"params": [...], "m": ...}; if they are meant to be real-valued, put them into a group '
        'with "m": 0.0',
        stacklevel=3,
    )
