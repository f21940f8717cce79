"""Engrams: the units of a layer that take part in a task."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Engrams(nn.Module):
    """A subset of a layer's units for each task: `y = x` for units of the task's engram, else 0.

    Each unit belongs to the engram of a task with probability `share`, drawn from `seed` and the task. A unit outside
    sends nothing and gets no gradient, so that its synapses keep what other tasks put there: two tasks have `share**2`
    of a layer's units in common, and `share**4` of the synapses between two layers. There is no end to tasks, and
    nothing is stored but the seed. The task must be told, in tests too: `select_task`.

    Takes and gives (n, units, ...).

    Args:
        units: of the layer.
        share: in (0, 1].
        seed: of the engrams; drawn by torch's generator if None.

    Source: subsets drawn for each task as in Masse, Grant and Freedman 2018 (context-dependent gating). Aguilar et al.
    2025 (stochastic engrams) gate metaplastic binarized networks in a form of their own.
    """

    mask: Tensor

    def __init__(self, units: int, share: float = 0.5, seed: int | None = None) -> None:
        super().__init__()
        if units < 1:
            raise ValueError(f"units is {units}; a layer has at least one")
        if not 0 < share <= 1:
            raise ValueError(f"share is {share}; it must lie in (0, 1]")
        self.units, self.share = units, share
        self.seed = int(torch.randint(2**31, (), device="cpu")) if seed is None else seed
        self.task = 0
        self.register_buffer("mask", self._engram(0), persistent=False)

    def _engram(self, task: int) -> Tensor:
        """True for the units of the task's engram; one unit at least."""
        generator = torch.Generator().manual_seed((self.seed << 20) + task)
        drawn = torch.rand(self.units, generator=generator, device="cpu")
        return drawn <= drawn.min().clamp(min=self.share)

    def select_task(self, task: int) -> None:
        """Use the engram of `task`, 0, 1, ..."""
        if task < 0:
            raise ValueError(f"task is {task}; tasks are counted from 0")
        self.task = task
        self.mask.copy_(self._engram(task))

    def get_extra_state(self) -> Tensor:
        """The seed and the selected task, for `state_dict`."""
        return torch.tensor([self.seed, self.task])

    def set_extra_state(self, state: Tensor) -> None:
        """Undo `get_extra_state`."""
        self.seed, task = state.tolist()
        self.select_task(task)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask.reshape(-1, *(1,) * (x.dim() - 2))

    def extra_repr(self) -> str:
        return f"{self.units}, share={self.share:g}, seed={self.seed}"
