"""The synapses of a stock Process, as arrays: who is connected to whom, and what a spike adds.

A `Synapses` is one `Dense`, `Sparse` or `Conv` of the stock form (`lava_meta.loihi.stock`). Maps are flat here in the
order (channels, rows, columns), as they are between layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.conv import Window
from lava_meta.loihi.stock import Part


class Synapses:
    """See the module; `Matrix` and `Kernel` are its two forms."""

    def __init__(self, part: Part) -> None:
        self.exponent = int(part.arguments.get("weight_exp", 0))
        self.graded = int(part.arguments.get("num_message_bits", 0)) > 0  # else any value is one spike

    def sums(self, values: NDArray[Any]) -> NDArray[Any]:
        """What arrives, int64 (n, units), of values (n, inputs)."""
        total = self._product(values if self.graded else values != 0, binary=False)
        return total << self.exponent if self.exponent >= 0 else total >> -self.exponent

    def operations(self, values: NDArray[Any]) -> NDArray[Any]:
        """Synaptic operations, int64 (n, units): pairs of an input that is not 0 and a weight that is not 0."""
        return self._product(values != 0, binary=True)

    n_in: int

    @property
    def fan_in(self) -> NDArray[Any]:
        """Synapses of each unit, int64 (units,)."""
        counts: NDArray[Any] = self._product(np.ones((1, self.n_in)), binary=True)[0]
        return counts

    def stored_a_unit(self) -> NDArray[Any]:
        """Weights in the memory of each unit, int64 (units,)."""
        return self.fan_in

    def stored_a_channel(self) -> int:
        """Weights that all units of a channel share; 0 if each has its own."""
        return 0

    def _product(self, values: NDArray[Any], *, binary: bool) -> NDArray[Any]:
        raise NotImplementedError


class Matrix(Synapses):
    """`Dense`, which stores every weight, and `Sparse`, which stores those that are not 0."""

    def __init__(self, part: Part) -> None:
        super().__init__(part)
        weights = part.arguments["weights"]
        self.sparse = part.kind == "Sparse"
        self.weights = weights if self.sparse else np.asarray(weights)
        self.n_in = weights.shape[1]
        self._full = not self.sparse and bool(np.all(self.weights))

    def stored_a_unit(self) -> NDArray[Any]:
        return self.fan_in if self.sparse else np.full(self.weights.shape[0], self.n_in, np.int64)

    def _product(self, values: NDArray[Any], *, binary: bool) -> NDArray[Any]:
        if binary and self._full:
            return np.broadcast_to(values.sum(axis=1, dtype=np.int64)[:, None], (len(values), self.weights.shape[0]))
        weights = (self.weights != 0) if binary else self.weights
        # float64 holds every sum of the stock form, which has 24 bits.
        return np.asarray((weights.astype(np.float64) @ values.T.astype(np.float64)).T).astype(np.int64)


class Kernel(Synapses):
    """`Conv`: every channel has one stored kernel, used at all its positions."""

    def __init__(self, part: Part) -> None:
        super().__init__(part)
        arguments = part.arguments
        kernel = np.asarray(arguments["weight"])[:, ::-1, ::-1]  # Lava's turned round again
        self.kernel = kernel.transpose(0, 3, 1, 2).reshape(len(kernel), -1)
        window = {name: arguments[name] for name in ("stride", "padding", "dilation") if name in arguments}
        self.window = Window((kernel.shape[1], kernel.shape[2]), **window)
        self.groups = int(arguments.get("groups", 1))
        rows, columns, channels = arguments["input_shape"]
        self.shape = (channels, rows, columns)
        self.n_in = channels * rows * columns

    def stored_a_channel(self) -> int:
        return self.kernel.shape[1]

    def _product(self, values: NDArray[Any], *, binary: bool) -> NDArray[Any]:
        kernel = (self.kernel != 0 if binary else self.kernel).astype(np.float64)
        kernel = kernel.reshape(self.groups, -1, kernel.shape[1])
        images = values.astype(np.float64).reshape(-1, *self.shape)
        views = self.window.views(images)
        n, _, down, across = views.shape[:4]
        # (groups, images and positions, what a unit sees)
        views = views.reshape(n, self.groups, -1, down, across, *self.window.kernel)
        views = views.transpose(1, 0, 3, 4, 2, 5, 6).reshape(self.groups, n * down * across, -1)
        sums = (views @ kernel.transpose(0, 2, 1)).reshape(self.groups, n, down, across, -1)
        flat: NDArray[Any] = sums.transpose(1, 0, 4, 2, 3).reshape(n, -1).astype(np.int64)
        return flat


def read(part: Part) -> Synapses:
    """The synapses of a stock Process that has some."""
    forms: dict[str, Callable[[Part], Synapses]] = {"Dense": Matrix, "Sparse": Matrix, "Conv": Kernel}
    return forms[part.kind](part)
