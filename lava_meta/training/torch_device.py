"""Where a model computes: the names of devices that users give."""

from __future__ import annotations

import torch


def usable_device(name: str) -> torch.device:
    """The device of this name, tried out. Raises `ValueError` that says what to do if there is none."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(
            f"there is no device {name!r}; choose cpu, or cuda for a GPU (cuda:1 for the second)"
        ) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        why = "this torch is built without CUDA" if torch.version.cuda is None else "torch finds no GPU or no driver"
        raise ValueError(f"device is {name!r}, but {why}: choose cpu, or install a driver and a torch built for it")
    try:
        float(torch.zeros(1, device=device))
    except Exception as error:  # of any kind, by device
        reason = str(error).partition(". ")[0].splitlines()[0]
        raise ValueError(f"the device {name!r} cannot be used here ({reason}); choose cpu or cuda") from None
    return device
