"""A network of stock Processes as populations of neurons with the synapses before them, and what they send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.loihi.cost.synapses import Kernel, Synapses, read
from lava_meta.loihi.stock import Part, StockLayer

INPUT = "input"


@dataclass(frozen=True, eq=False)
class Population:
    """The neurons of one stock Process.

    `synapses` holds, for each stock Process of synapses before them, its arrays and the name of who sends to it.
    """

    layer: str
    name: str  # layer and Process: "hidden1.neurons"
    part: Part
    synapses: tuple[tuple[Synapses, str], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """(units,), or (rows, columns, channels) of a map."""
        return tuple(self.part.arguments["shape"])

    @property
    def units(self) -> int:
        """Number of neurons."""
        return int(np.prod(self.shape))

    @property
    def channels(self) -> int:
        """Number of channels of a map; 1 elsewhere."""
        return self.shape[2] if len(self.shape) == 3 else 1

    @property
    def fan_in(self) -> NDArray[Any]:
        """Synapses of each neuron, int64 (units,)."""
        return sum((self._in_order(one, one.fan_in) for one, _ in self.synapses), np.zeros(self.units, np.int64))

    def stored_a_unit(self, *, share_kernels: bool) -> NDArray[Any]:
        """Weights in memory of each neuron alone, int64 (units,)."""
        total = np.zeros(self.units, np.int64)
        for one, _ in self.synapses:
            if not (share_kernels and isinstance(one, Kernel)):
                total += self._in_order(one, one.stored_a_unit())
        return total

    def stored_a_channel(self, *, share_kernels: bool) -> int:
        """Weights in memory that the neurons of one channel share."""
        return sum(one.stored_a_channel() for one, _ in self.synapses) if share_kernels else 0

    def send(self, values: dict[str, NDArray[Any]]) -> NDArray[Any]:
        """What the neurons send in the step after they received `values` (n, ...) by sender, int64 (n, units)."""
        count = len(values[INPUT])
        received = np.zeros((count, self.units), np.int64)
        for one, source in self.synapses:
            received += self._in_order(one, one.sums(values[source]))
        arguments = self.part.arguments
        if self.part.kind == "LIF":  # without memory: v = current + bias
            bias = np.broadcast_to(arguments["bias_mant"], self.shape).astype(np.int64) << arguments["bias_exp"]
            fires: NDArray[Any] = (received << 6) + _flat(bias, self.shape) > arguments["vth"] << 6
            return fires.astype(np.int64)
        return np.maximum(received, 0) if self.part.kind == "GradedReluVec" else received

    def operations(self, values: dict[str, NDArray[Any]]) -> NDArray[Any]:
        """Synaptic operations at each neuron for `values` (n, ...) by sender, int64 (n, units)."""
        total = np.zeros((len(values[INPUT]), self.units), np.int64)
        for one, source in self.synapses:
            total += self._in_order(one, one.operations(values[source]))
        return total

    def _in_order(self, one: Synapses, by_unit: NDArray[Any]) -> NDArray[Any]:
        """A matrix before a map counts its units as Lava does, (rows, columns, channels): bring them in our order."""
        if isinstance(one, Kernel) or len(self.shape) == 1:
            return by_unit
        return _flat(by_unit.reshape(*by_unit.shape[:-1], *self.shape), self.shape)


def populations(layers: Sequence[StockLayer]) -> list[Population]:
    """All populations in the order in which a spike passes them."""
    found: list[Population] = []
    entering, leaving = INPUT, {INPUT: INPUT}  # who sends what enters: the layer before, or those that are named
    for layer in layers:
        waiting = {name: part for name, part in layer.parts.items() if part.is_neurons}
        while waiting:
            ready = [name for name in waiting if not any(s in waiting and s != name for s in _senders(layer, name))]
            for name in ready:
                synapses = []
                for source, target in layer.links:
                    if target == name:
                        senders = [s for s, t in layer.links if t == source]
                        entered = leaving[layer.senders[source]] if source in layer.senders else entering
                        sender = f"{layer.name}.{senders[0]}" if senders else entered
                        synapses.append((read(layer.parts[source]), sender))
                found.append(Population(layer.name, f"{layer.name}.{name}", waiting.pop(name), tuple(synapses)))
        entering = leaving[layer.name] = f"{layer.name}.{layer.output}"
    return found


def _senders(layer: StockLayer, neurons: str) -> list[str]:
    """Neurons of the same layer that send to `neurons`, through their synapses."""
    before = [source for source, target in layer.links if target == neurons]
    return [source for source, target in layer.links if target in before]


def _flat(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """(..., rows, columns, channels) to (..., channels * rows * columns)."""
    if len(shape) == 3:
        values = np.moveaxis(values, -1, -3)
    return values.reshape(*values.shape[: -len(shape)], -1)
