"""The options of the metaplastic optimizers: their ranges, and what a saved state says of them."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lava_meta.rule import Consolidation, Constant, Tanh2, as_consolidation, consolidation_from_dict

FORM = ("fused", "capturable")
"""Options that say how a step is computed, and not which: a loaded state leaves them as they are."""
GATES = ("consolidation", "grow")
"""Options that are consolidation functions, or None."""
NOT_HERE = ("amsgrad", "maximize", "nesterov", "decoupled_weight_decay")
"""Options of torch's optimizers that change the step, and that these optimizers do not have."""


def checked_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options, a plain function as a `Consolidation`. Raises the error that names the first out of its range."""
    Tanh2(options["m"])  # says what m may be
    for name in GATES:
        if options[name] is not None:
            options = {**options, name: as_consolidation(options[name], torch.zeros(0))}
    consolidation_of(options)
    for name in ("lr", "weight_decay", "eps"):
        if name in options:
            _check_range(name, options[name])
    for name in ("momentum", "dampening"):
        if name in options:
            _check_range(name, options[name], below=1)
    if "betas" in options:
        if not isinstance(options["betas"], tuple | list) or len(options["betas"]) != 2:
            raise ValueError(f"betas must be two numbers, not {options['betas']!r}")
        for index, beta in enumerate(options["betas"]):
            _check_range(f"betas[{index}]", beta, below=1)
    if options.get("eps") == 0:
        raise ValueError("eps must be above 0: a weight that has had no gradient yet would get 0/0")
    for name in (*FORM, "relative"):
        if not isinstance(options.get(name, False), bool):
            raise TypeError(f"{name} is {options[name]!r}; it must be True or False")
    if options["relative"] and options["consolidation"] is not None:
        raise ValueError("relative=True is of m, in medians of |h|: a consolidation function has a scale of its own")
    if options["gated"] not in ("binary", "all"):
        raise ValueError(f'gated is {options["gated"]!r}; choose "binary" or "all"')
    return options


def consolidation_of(options: dict[str, Any]) -> Consolidation:
    """The consolidation function f of a group, whose options may be set at any time.

    Raises:
        ValueError: `m` and `consolidation` are both given, or one is out of range.
        TypeError: one is of another type.
    """
    f, m = options["consolidation"], options["m"]
    if f is None:
        return Tanh2(m)
    if m != 0:
        raise ValueError(f"give m or consolidation, not both: m={m} already means Tanh2({m})")
    return f if isinstance(f, Consolidation) else as_consolidation(f, torch.zeros(0))


def grow_of(options: dict[str, Any]) -> Consolidation:
    """The consolidation function of a group's growing steps; 1 unless it is given."""
    grow = options["grow"]
    return Constant() if grow is None else as_consolidation(grow, torch.zeros(0))


def loaded_options(own: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
    """The options of a group after loading: those that were saved, and its own for the others."""
    foreign = [name for name in NOT_HERE if saved.get(name) and (name != NOT_HERE[-1] or saved.get("weight_decay"))]
    if foreign:
        raise ValueError(
            f"the state is of an optimizer with {' and '.join(f'{name}=True' for name in foreign)}, which the "
            "metaplastic ones do not have: its steps cannot be gone on with"
        )
    ignored = {*FORM, *NOT_HERE, "foreach", "differentiable", "params", "param_names"}
    given = {name: _without_tensors(value) for name, value in saved.items() if name not in ignored}
    if {"m", "consolidation"} & given.keys():
        given = {"m": 0.0, "consolidation": None, "grow": None, "relative": False, **given}
    for name in GATES:
        if isinstance(given.get(name), Mapping):
            given[name] = consolidation_from_dict(given[name])
    kept = {name: value for name, value in own.items() if name not in ("params", "param_names", *FORM)}
    return {**checked_options({**kept, **given}), "params": saved["params"]}


def _without_tensors(value: Any) -> Any:
    """An option of torch's optimizers, some of which may be numbers in tensors."""
    if isinstance(value, tuple | list):
        return tuple(map(_without_tensors, value))
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else value


def _check_range(name: str, value: Any, below: float = math.inf) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not 0 <= float(value) < below:
        end = "finite" if below == math.inf else f"below {below}"
        raise ValueError(f"{name} must be at least 0 and {end}, not {value}")
