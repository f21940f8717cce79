"""A readout of which only the classes of the task at hand are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lava_meta.nn.norms import select_task


class TaskHeads(nn.Module):
    """The logits of `network`, of which those outside of the task's own classes are -inf (task-incremental learning).

    logits_c if c in heads[task], else -inf: neither the loss nor the decision sees the classes of other tasks.

    Args:
        network: gives logits (n, classes) over the classes of all tasks.
        heads: the classes of each task; of a scenario, `scenario.heads`.

    Raises:
        ValueError: a head without classes.
    """

    def __init__(self, network: nn.Module, heads: Sequence[Sequence[int]]) -> None:
        super().__init__()
        if not heads or not all(len(head) for head in heads):
            raise ValueError(f"heads is {heads}; give the classes of each task, at least one")
        self.network, self.task = network, 0
        self.heads = [list(head) for head in heads]

    def forward(self, x: Tensor) -> Tensor:
        """Raises `ValueError` if the network has fewer classes than the head."""
        logits, own = self.network(x), self.heads[self.task]
        if logits.shape[1] <= max(own):
            raise ValueError(f"the network has classes 0..{logits.shape[1] - 1}, the head of this task {own}")
        masked: Tensor = torch.full_like(logits, -math.inf)
        masked[:, own] = logits[:, own]
        return masked

    def select_task(self, task: int) -> None:
        """Compare the classes of `task`, and let the network's norms use theirs."""
        self.task = task
        select_task(self.network, task)
