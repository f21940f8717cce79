"""A network of units that integrate over time (`over_time`), the spiking network that it is, and what runs it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.errors import ConversionError
from lava_meta.graph.acyclic import INPUT
from lava_meta.graph.bits import pack
from lava_meta.graph.nodes import BinaryWeight, Linear, Node
from lava_meta.graph.spiking_graph import SteppedGraph
from lava_meta.graph.spiking_neurons import Neurons
from lava_meta.online_learning.backend import LocalEngine
from lava_meta.online_learning.encoding import Encoding
from lava_meta.online_learning.network import PlasticNetwork
from lava_meta.online_learning.neurons import NEURON_STATE, State, neurons_of
from lava_meta.online_learning.options import LearnerOptions
from lava_meta.online_learning.over_time import FixedOverTime, FloatOverTime
from lava_meta.online_learning.reference import Layer
from lava_meta.online_learning.settings import NEURON_BITS, LayerSettings

MOST_STEPS = 128
OUTPUT = "output"  # the readout in a spiking network


@dataclass(eq=False)
class NetworkOverTime(PlasticNetwork):
    """A network whose hidden units integrate for `steps` time steps an image."""

    steps: int = 1
    leak: float = 1.0

    @classmethod
    def integrating(
        cls, sizes: Sequence[int], options: LearnerOptions, encoding: Encoding, steps: int, leak: float
    ) -> NetworkOverTime:
        """A new network, its weights drawn as those of one without time.

        Raises ValueError for steps or a leak out of range, or units that do not fire.
        """
        if type(steps) is not int or steps not in [2**k for k in range(MOST_STEPS.bit_length())]:
            raise ValueError(f"steps is {steps!r}; it is a power of two up to {MOST_STEPS}")
        if isinstance(leak, bool) or not isinstance(leak, (int, float)) or not 0 <= leak <= 1:
            raise ValueError(f"leak is {leak!r}; the share of a potential that stays lies between 0 and 1")
        if options.rule.activation == "signs" or options.form != "fused" or options.device is not None:
            raise ValueError(
                "units over time fire or are silent, in one Process, without a device: give a rule as "
                "OnlineRule.sparse(), form='fused' and device=None"
            )
        drawn = PlasticNetwork.drawn(sizes, options, encoding)
        settings = [replace(layer, max_level=steps) for layer in drawn.settings]
        rule = settings[-1].rule
        temperature = steps * (rule.temperature or math.sqrt(settings[-1].n_in))
        settings[-1] = replace(settings[-1], rule=replace(rule, temperature=temperature))
        return cls(settings, drawn.states, drawn.feedback, steps=steps, leak=leak)

    def graph(self) -> SteppedGraph:  # type: ignore[override]  # of spikes over time
        """The spiking network that the hidden weights stand for now: the same spikes and sums. It takes spikes.

        Raises ConversionError for units whose thresholds follow the image, or that spike on either side of it.
        """
        nodes: dict[str, Node] = {}
        source = INPUT
        names = (*self.names[:-1], OUTPUT)
        for name, settings, state in zip(names, self.settings, self.states, strict=True):
            weight = BinaryWeight(pack(state["hidden"].T >= 0), settings.n_in)
            nodes[f"{name}_sums"] = Linear((source,), weight)
            if settings.readout:
                neurons = Neurons((f"{name}_sums",), "integrator", np.ones(1), np.zeros(1), {})
            else:
                neurons = self._neurons(name, settings, state)
            nodes[name] = neurons
            source = name
        return SteppedGraph(nodes, source, 1, (self.settings[0].n_in,))

    def _neurons(self, name: str, settings: LayerSettings, state: State) -> Neurons:
        """A hidden layer's: they fire above the greatest number below the threshold."""
        if settings.two_sided:
            raise ConversionError(
                f"{name} spikes on either side of its threshold (activation='abs_spikes'), where a spike of one side "
                "sets the other's potential to 0 too, which neurons of a spiking network do not: use learner.predict, "
                "or learn with activation='spikes'"
            )
        neurons = neurons_of(replace(settings, max_level=1), {part: state[part] for part in NEURON_STATE})
        rest, least = neurons.from_rest()
        fixed = settings.precision != "float"
        below = least - 1 if fixed else np.nextafter(least, np.float32(-np.inf))
        if below.min() < 0 or (below.astype(np.float32) != below).any():
            raise ConversionError(
                f"{name} has units that fire at rest, or from a potential beyond 24 bits on: use learner.predict"
            )
        leak = round(self.leak * 2**NEURON_BITS) / 2**NEURON_BITS if fixed else self.leak
        constants = {"threshold": below.astype(np.float32), "beta": np.full(1, leak, np.float32)}
        gain = np.full(1, float(2**NEURON_BITS if fixed else 1))
        model = "integer" if fixed else "leaky"
        return Neurons((f"{name}_sums",), model, gain, -rest.astype(np.float64), constants, "zero", reset_delay=False)


class EngineOverTime(LocalEngine):
    """Takes spikes (n, steps * n_in), the first step's before the next one's."""

    def __init__(self, network: NetworkOverTime, lanes: int = 1, *, compiled: bool = False) -> None:
        super().__init__(network, lanes, compiled=compiled)
        self.steps = network.steps
        self.layers[:-1] = [
            layer_over_time(*layer, network.leak, compiled=compiled)
            for layer in zip(network.settings[:-1], network.states[:-1], strict=True)
        ]
        self._loop = None  # which knows no time

    def forward(self, x: NDArray[Any]) -> NDArray[Any]:
        trains = x.reshape(len(x), self.steps, -1)
        for layer in self.layers[:-1]:
            trains = layer.forward(trains)
        return self.layers[-1].forward(trains.sum(axis=1, dtype=np.int16))


def layer_over_time(settings: LayerSettings, state: State, leak: float, *, compiled: bool) -> Layer:
    """The layer, which works in place on `state`; compiled in fixed point."""
    if settings.precision == "float":
        return FloatOverTime(settings, state, leak)
    if compiled:
        from lava_meta.online_learning.compiled.over_time import CompiledOverTime

        return CompiledOverTime(settings, state, leak)
    return FixedOverTime(settings, state, leak)
