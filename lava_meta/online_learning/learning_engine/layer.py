"""A metaplastic layer in the learning engine's form: its neurons, and the reference of neurons and synapses together.

    neurons     in integers or in floating point        those of any layer (`neurons`); what they send is made here
    synapses    in Lava, or the reference of Lava's     a stock `LearningDense`, or `synapses`

The neurons hand no step to their synapses but traces, in fixed point

    y1 = floor(-step / rule.step + draw)   clamped to +-127
    y2 = |y1|
    y3 = floor(rule.rounding + draw)       0 where y1 is

with a draw for each unit and image (`draws`, rows 0 and 1); in floating point y1 is the step itself.
Errors are not passed down: the engine reads its weights in one direction only.

An image takes `engine_steps` time steps, layers + 4:

    1        the neurons spike back (y0): weights take the signs of the tags, with magnitude 64 or 128
    2        weights take magnitude 128
    3        every input spikes: the sums, a step later, are those of all weights, of which thresholds are made
    4        the image reaches the first layer; each layer adds a step, since a Dense sends what it summed a step ago
    last     the readout's error arrives, the neurons send their traces, the tags step

In all of them but the third the image's spikes go on, so that in the last one x0 is still there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.errors import ConversionError
from lava_meta.online_learning import draws
from lava_meta.online_learning.learning_engine.synapses import EngineSynapses
from lava_meta.online_learning.neurons import Neurons, State, neurons_of
from lava_meta.online_learning.reference import Layer
from lava_meta.online_learning.settings import LayerSettings
from lava_meta.rule.lowering import TRACE_LIMIT

SPIKE_BACK, ALL_SPIKE, SUMS_OF_ALL = 1, 3, 4  # time steps of an image
ENGINE_SEED = 1  # of the learning rule in Lava, for the decay of traces
NO_WAY_DOWN = (
    "the learning engine reads its weights in one direction only and passes no error down: connect the readout's error "
    "to the layer through fixed feedback (feedback='direct')"
)

Traces = dict[str, NDArray[Any]]


class EngineNeurons:
    """The neurons of a layer, whose sums come from elsewhere and whose traces go elsewhere.

    They work in place on the state of a layer, of which they need no `hidden`; `balance` is what was measured in the
    fourth time step.
    """

    def __init__(self, settings: LayerSettings, state: State) -> None:
        self.settings, self.neurons = settings, neurons_of(settings, state)
        self._distance = np.zeros((1, settings.n_out))
        self._traces = _float_traces if settings.precision == "float" else _fixed_traces

    def fire(self, sums: NDArray[Any]) -> NDArray[Any]:
        """Sums (units,) of binary weights -> outputs int32 (1, units): signs, or the readout's sums."""
        u = sums[None].astype(np.int32)
        self._distance = self.neurons.distance(u, u)  # the inputs are for divisive units, of which no engine has any
        return self.neurons.fire(u, self._distance)

    def learn(self, error: NDArray[Any]) -> Traces:
        """Errors (1, units) of what `fire` gave last -> the traces y1, y2, y3 (units,) of this image."""
        distance = self._distance
        amount = self.neurons.learn(distance[0], self.neurons.windowed(error, distance)[0])
        traces = no_traces(self.settings.n_out) if self.settings.frozen else self._traces(self.neurons, amount)
        self.neurons.images += 1
        return traces

    def set_rule(self, lr: float, consolidation_range: float) -> None:
        """Change the learning rate; the gate lies fixed in the rule's strings. Raises ConversionError for another."""
        if consolidation_range != 1:
            raise ConversionError("the gate of the learning engine is fixed in its strings: consolidation_range is 1")
        self.neurons.set_rate(lr)


class EngineLayer(Layer):
    """The reference: neurons, and the synapses that they drive. `hidden` are the tags."""

    def __init__(self, settings: LayerSettings, state: State, *, compiled: bool = False) -> None:
        self._units = EngineNeurons(settings, state)
        super().__init__(settings, state, self._units.neurons)
        self.refresh()
        tags = np.ascontiguousarray(self.hidden.T)
        self._synapses = EngineSynapses(settings.engine_rule, tags, ENGINE_SEED, compiled=compiled)
        self._x = np.zeros(settings.n_in, bool)

    def set_rule(self, lr: float, consolidation_range: float) -> None:
        self._units.set_rule(lr, consolidation_range)

    def forward(self, x: NDArray[Any]) -> NDArray[Any]:
        if len(x) != 1:
            raise ConversionError(f"the learning engine sees one image at a time, not {len(x)} lanes")
        self._x = x[0] > 0
        sums = self._synapses.sums(self._x)
        return self._units.fire(sums if self.settings.engine_rule.inputs == "spikes" else 2 * sums - self.balance)

    def backward(self, error: NDArray[Any], *, learn: bool = True, pass_down: bool = True) -> NDArray[Any]:
        if pass_down:
            raise ConversionError(NO_WAY_DOWN)
        if learn:
            traces = self._units.learn(error)
            if not self.settings.frozen:
                self._step_synapses(traces)
        return np.zeros((1, self.settings.n_in), np.int32)

    def _step_synapses(self, traces: Traces) -> None:
        units, inputs = self._synapses.learn(self._x, traces, self.settings.engine_steps)
        new, chosen = self._synapses.tags[np.ix_(units, inputs)].T, np.ix_(inputs, units)
        self.balance[units] += 2 * ((new >= 0).sum(axis=0) - (self.hidden[chosen] >= 0).sum(axis=0)).astype(np.int32)
        self.hidden[chosen] = new


def no_traces(units: int) -> Traces:
    """Of neurons that send nothing."""
    return dict.fromkeys(("y1", "y2", "y3"), np.zeros(units, np.int64))


def _fixed_traces(neurons: Neurons, amount: NDArray[Any]) -> Traces:
    """In integers: 7 bits and a sign."""
    s = neurons.settings
    bits = s.step_bits - 8
    first, second = draws.draws(draws.key(s.seed, int(neurons.images[0])), np.arange(2), s.n_out, bits)
    y1 = np.clip((-amount.astype(np.int64) + first) >> bits, -TRACE_LIMIT, TRACE_LIMIT)
    y3 = (round(s.engine_rule.rounding * 2**bits) + second) >> bits
    return {"y1": y1, "y2": np.abs(y1), "y3": np.where(y1 == 0, 0, y3)}


def _float_traces(neurons: Neurons, amount: NDArray[Any]) -> Traces:
    """In floating point."""
    s = neurons.settings
    y1 = -amount.astype(np.float64) * (s.engine_rule.scale / s.limit)
    return {"y1": y1, "y2": np.abs(y1), "y3": np.zeros_like(y1)}
