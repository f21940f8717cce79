"""A metaplastic layer in the learning engine's form: its neurons, and the twin of neurons and synapses together.

The neurons keep the equations of `layers`: thresholds, window, scale, centring. What they hand to their synapses is
no step but traces, in fixed point

    y1 = floor(-step / rule.step + draw)   clamped to +-127
    y2 = |y1|
    y3 = floor(rule.rounding + draw)       0 where y1 is

with a draw for each unit and image (`draws`, rows 0 and 1); in floating point y1 is the step itself. The synapses
are `engine_synapses`. Errors are not passed down: the engine reads its weights in one direction only.

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
from lava_meta.online_learning.reference import FixedLayer, FloatLayer, Layer
from lava_meta.online_learning.settings import LayerSettings
from lava_meta.rule.lowering import TRACE_LIMIT

SPIKE_BACK, ALL_SPIKE, SUMS_OF_ALL = 1, 3, 4  # time steps of an image

Traces = dict[str, NDArray[Any]]


class EngineNeurons(Layer):
    """The neurons of a layer, whose sums come from elsewhere and whose traces go elsewhere.

    The state is that of a layer, without `hidden`; `balance` is what was measured in the fourth time step.
    """

    def __init__(self, settings: LayerSettings, state: dict[str, NDArray[Any]]) -> None:
        super().__init__(settings, {"hidden": np.zeros((0, settings.n_out)), **state})
        self._x = np.zeros((1, 0))
        self._traces: Traces = {}

    def fire(self, sums: NDArray[Any]) -> NDArray[Any]:
        """Sums (units,) of binary weights -> outputs int32 (1, units): signs, or the readout's sums."""
        self._u = sums[None].astype(np.int32)
        return self._u if self.settings.readout else np.where(self._distance(self._u) >= 0, 1, -1).astype(np.int32)

    def learn(self, error: NDArray[Any]) -> Traces:
        """Errors (1, units) of what `fire` gave last -> the traces y1, y2, y3 (units,) of this image."""
        none = np.zeros(self.settings.n_out, np.int64)
        self._traces = {"y1": none, "y2": none, "y3": none}
        self.backward(error, pass_down=False)
        return self._traces

    def set_rule(self, lr: float, consolidation_range: float) -> None:
        if consolidation_range != 1:
            raise ConversionError("the gate of the learning engine is fixed in its strings: consolidation_range is 1")
        super().set_rule(lr, consolidation_range)

    def _step_synapses(self, x: NDArray[Any], amount: NDArray[Any]) -> None:
        self._traces = self._sent(amount)

    def _sent(self, amount: NDArray[Any]) -> Traces:
        raise NotImplementedError


class EngineNeuronsFixed(EngineNeurons, FixedLayer):
    """In integers: traces of 7 bits and a sign."""

    def refresh(self) -> None:
        self._rate = self.settings.rate_fixed(self.lr)

    def _sent(self, amount: NDArray[Any]) -> Traces:
        s = self.settings
        bits = s.step_bits - 8
        first, second = draws.draws(draws.key(s.seed, int(self.images[0])), np.arange(2), s.n_out, bits)
        y1 = np.clip((-amount.astype(np.int64) + first) >> bits, -TRACE_LIMIT, TRACE_LIMIT)
        y3 = (round(s.engine_rule.rounding * 2**bits) + second) >> bits
        return {"y1": y1, "y2": np.abs(y1), "y3": np.where(y1 == 0, 0, y3)}


class EngineNeuronsFloat(EngineNeurons, FloatLayer):
    """In floating point."""

    def refresh(self) -> None:
        """Nothing follows from a state without hidden weights."""

    def _sent(self, amount: NDArray[Any]) -> Traces:
        y1 = -amount.astype(np.float64) * (self.settings.engine_rule.scale / self.settings.limit)
        return {"y1": y1, "y2": np.abs(y1), "y3": np.zeros_like(y1)}


class _WithSynapses(EngineNeurons):
    """The twin: neurons, and the synapses that they drive. `hidden` are the tags."""

    def __init__(self, settings: LayerSettings, state: dict[str, NDArray[Any]], compiled: bool = False) -> None:
        super().__init__(settings, state)
        self.synapses = EngineSynapses(settings.engine_rule, np.ascontiguousarray(self.hidden.T), ENGINE_SEED, compiled)
        self.balance[:] = self.synapses.sums(np.ones(settings.n_in, bool))

    def forward(self, x: NDArray[Any]) -> NDArray[Any]:
        if len(x) != 1:
            raise ConversionError(f"the learning engine sees one image at a time, not {len(x)} lanes")
        self._x = x
        sums = self.synapses.sums(x[0] > 0)
        return self.fire(sums if self.settings.engine_rule.inputs == "spikes" else 2 * sums - self.balance)

    def backward(self, error: NDArray[Any], *, learn: bool = True, pass_down: bool = True) -> NDArray[Any]:
        if pass_down:
            raise ConversionError(NO_WAY_DOWN)
        return super().backward(error, learn=learn, pass_down=False)

    def _step_synapses(self, x: NDArray[Any], amount: NDArray[Any]) -> None:
        super()._step_synapses(x, amount)
        units, inputs = self.synapses.learn(x > 0, self._traces, self.settings.engine_steps)
        new, chosen = self.synapses.tags[np.ix_(units, inputs)].T, np.ix_(inputs, units)
        self.balance[units] += 2 * ((new >= 0).sum(axis=0) - (self.hidden[chosen] >= 0).sum(axis=0)).astype(np.int32)
        self.hidden[chosen] = new


class EngineLayerFixed(_WithSynapses, EngineNeuronsFixed):
    """The twin in integers."""


class EngineLayerFloat(_WithSynapses, EngineNeuronsFloat):
    """The twin in floating point."""


ENGINE_SEED = 1  # of the learning rule in Lava, for the decay of traces
NO_WAY_DOWN = (
    "the learning engine reads its weights in one direction only and passes no error down: connect the readout's error "
    "to the layer through fixed feedback (feedback='direct')"
)


def make_neurons(settings: LayerSettings, state: dict[str, NDArray[Any]]) -> EngineNeurons:
    """The neurons in the form that the precision asks for."""
    return (EngineNeuronsFloat if settings.precision == "float" else EngineNeuronsFixed)(settings, state)


def make_engine_layer(settings: LayerSettings, state: dict[str, NDArray[Any]], compiled: bool) -> Any:
    """The twin in the form that the precision asks for. It works in place on `state`."""
    return (EngineLayerFloat if settings.precision == "float" else EngineLayerFixed)(settings, state, compiled)
