"""Connections across time steps: a node that gives what another one gave some steps before, 0 at the beginning.

    y(t) = x(t - steps), 0 for t < steps

The source may stand anywhere in the network: recurrent layers, feedback from later layers and axons with delays are
built of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.nodes import Bounds, Node, Shape

MOST_STEPS = 4096


@dataclass(frozen=True, eq=False)
class Delayed(Node):
    """See the module. Raises `ValueError` for fewer than one step."""

    kind = "delayed"
    delay: int  # time steps
    out: Shape  # of what it delays
    levels: tuple[int, int] = (0, 1)  # the least and greatest integer, 0 included

    def __post_init__(self) -> None:
        if type(self.delay) is not int or not 1 <= self.delay <= MOST_STEPS:
            raise ValueError(f"a delay of {self.delay!r} time steps; 1 to {MOST_STEPS} are possible")
        if len(self.sources) != 1 or len(self.levels) != 2 or not self.levels[0] <= 0 <= self.levels[1]:
            raise ValueError(f"a delay of {self.sources}, from {self.levels}: one source, and levels that include 0")

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return self.out

    def bounds(self, bounds: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        ones = (1,) * len(self.out)
        low, high = (np.full(ones, level, np.int64) for level in self.levels)
        return low, high


class Past:
    """What the delayed nodes of a network remember, for a number of inputs at once."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = {name: node for name, node in nodes.items() if isinstance(node, Delayed)}
        self.restart()

    def restart(self) -> None:
        """Nothing has been sent."""
        self._sent: dict[str, deque[NDArray[Any]]] = {
            name: deque(maxlen=node.delay) for name, node in self._nodes.items()
        }

    def given(self, lanes: int) -> dict[str, NDArray[Any]]:
        """What the nodes give in this step, (lanes, *shape)."""
        found = {}
        for name, node in self._nodes.items():
            sent = self._sent[name]
            spikes = node.levels == (0, 1)
            found[name] = (
                sent[0] if len(sent) == node.delay else np.zeros((lanes, *node.out), bool if spikes else np.int64)
            )
        return found

    def keep(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Remember what was sent in this step."""
        for name, node in self._nodes.items():
            self._sent[name].append(values[node.sources[0]].reshape(-1, *node.out).copy())
