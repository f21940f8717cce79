"""Spiking networks of any form as stock Processes: the integers of their form `fixed_pt`.

Between neurons everything is an affine function of spikes (`lava_meta.loihi.stock.affine`), as in networks without
time; pooling by the greatest takes spikes, not sums. Lava's `LIF` computes, in integers,

    u = u (4095 - du) / 4096 + 64 a,   v = v (4096 - dv) / 4096 + u + bias,   fires if v > 64 vth, then v = 0

which are `FixedState`'s `leaky` and `rleaky` with du = 4095, and `synaptic` with du = 4095 - 4096 alpha, if they are
reset to zero at once, thresholds are whole synapses, and all neurons of a layer have one alpha, beta and threshold;
anything else is refused by its node's name. `converters.spiking_fit` rounds weights so that thresholds are whole
synapses.

`LIFReset` starts again with every input, after `steps` time steps. What a layer sends in one step reaches it in the
next, so networks with recurrent synapses have an idle step before every input, in which units that fire once an input
silence these layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags

from lava_meta.errors import ConversionError
from lava_meta.graph.nodes import Conv, Node, Shape
from lava_meta.graph.spiking_delays import Delayed
from lava_meta.graph.spiking_graph import SteppedGraph, weighted
from lava_meta.graph.spiking_neurons import DECAY, STEPS, FixedState, Neurons
from lava_meta.loihi.stock.acyclic import Mapped, NodeMapping, accepted
from lava_meta.loihi.stock.affine import Coded, Value, through
from lava_meta.loihi.stock.limits import ACTIVATION, MANTISSA, STATE, check_range
from lava_meta.loihi.stock.parts import StockLayer
from lava_meta.loihi.stock.spiking import check_potentials, kept


def map_stepped(graph: SteppedGraph, steps: int | None) -> Mapped:
    """Every node that has a stock form as one, and every other's reason; inputs come every `period` time steps."""
    return _SteppedMapping(graph, steps).mapped()


def plan_stepped(graph: SteppedGraph, steps: int | None) -> list[StockLayer]:
    """The layers in order. Raises `ConversionError` naming every node that has no stock form, and why."""
    return accepted(map_stepped(graph, steps))


def period(graph: SteppedGraph, steps: int) -> int:
    """Time steps from one input to the next: an idle one behind `steps` if there are recurrent synapses."""
    return steps + any(node.recurrent is not None for node in graph.neurons.values())


_ROUNDED = 'from_snntorch(model, bits=8, form="stock") rounds'


@dataclass(frozen=True)
class _Constants:
    """What the neurons of one LIF Process share, in fixed point."""

    alpha: int  # of DECAY
    beta: int
    threshold: int  # in steps


class _SteppedMapping(NodeMapping):
    def __init__(self, graph: SteppedGraph, steps: int | None) -> None:
        super().__init__(graph)
        self.steps, self.period = steps, None if steps is None else period(graph, steps)

    def finish(self) -> None:
        """The output are neurons, which are read as they are."""

    def never(self, name: str, node: Node) -> str | None:
        """Weights too wide for fixed point and neurons' constants, too."""
        if isinstance(node, Delayed):
            return "connects time steps; the stock forms that do are RLeaky's and RSynaptic's recurrent synapses"
        if any(part.weight.bits_each > 8 for part in weighted(node)):
            return f"has weights of more than 8 bits: {_ROUNDED} them"
        if not isinstance(node, Neurons):
            return super().never(name, node)
        try:
            _shared(node, FixedState(node, self.graph.placed[name].output_shape))
        except ConversionError as refusal:
            return str(refusal)
        return None

    def value_of(self, name: str, node: Node, values: list[Value]) -> Value:
        if not isinstance(node, Neurons):
            return super().value_of(name, node, values)
        (value,) = values
        if value.pools:
            raise ConversionError("gets the greatest of sums: stock neurons find it of spikes only")
        shape = self.graph.placed[name].output_shape
        state = FixedState(node, shape)
        shared = _shared(node, state)
        own, back_constant = _recurrent(node, state, shape)

        def flat(part: NDArray[Any]) -> NDArray[Any]:
            return np.broadcast_to(part, shape).reshape(-1)

        sign = flat(state.synapse) // STEPS
        parts = {
            sender: (diags(sign, dtype=np.int64) @ matrix).tocsr().astype(np.int64)
            for sender, matrix in value.parts.items()
        }
        constant = flat(state.constant) + STEPS * sign * value.constant + back_constant
        whole, bias = _bias(node, constant)
        if constant.any() and self.steps is None:
            raise ConversionError("has a bias, and never starts again: give steps")

        low, high = Value(parts, value.constant, shape).bounds(self.ranges)
        if own is not None:
            low = low + np.asarray(own.minimum(0).sum(axis=1)).reshape(-1)
            high = high + np.asarray(own.maximum(0).sum(axis=1)).reshape(-1)
        low, high = low + whole, high + whole
        silent = own is not None and self.steps is not None
        silence = -np.maximum(high - (-bias // STEPS), 0) if silent else np.zeros_like(low)
        advice = "Take fewer inputs, or smaller weights"
        check_range(name, "the sum of synapses", low + silence, high, -ACTIVATION, ACTIVATION, advice)
        currents = [STEPS * end for end in (low + silence, high)]
        if node.model == "synaptic":
            most = kept(shared.alpha, self.steps)
            currents = [np.minimum(currents[0], 0) * most, np.maximum(currents[1], 0) * most]
            check_range(name, "synaptic currents", currents[0], currents[1], -STATE, STATE, advice)
        check_potentials(name, currents[0] + bias, currents[1] + bias, shared.beta, shared.threshold, self.steps)

        layer = StockLayer(name)
        self._add_neurons(layer, shared, bias, parts)
        self.connect(layer, parts)
        layer.add_constant(whole, layer.output)
        if own is not None:
            layer.add_sparse("recurrent", own, 0, layer.output, layer.output)
            self._add_silence(layer, silence)
        self.close(layer)
        self.coded[name] = Coded(name, np.zeros(shape, np.int64), np.ones((1, *shape), np.int64))
        return self.coded[name].value()

    def _add_neurons(
        self, layer: StockLayer, shared: _Constants, bias: NDArray[Any], parts: dict[str, csr_matrix]
    ) -> None:
        self._delay = max((self.depth[sender] for sender, matrix in parts.items() if matrix.nnz), default=0)
        arguments: dict[str, Any] = {
            "shape": bias.shape,
            "du": DECAY - 1 - shared.alpha,
            "dv": DECAY - shared.beta,
            "vth": shared.threshold // STEPS,
            "bias_mant": bias.astype(np.int32),
            "bias_exp": 0,
        }
        if self.period is None:
            layer.output = layer.add("neurons", "LIF", **arguments)
            return
        # Time steps are counted from 1, and synapses hand on what they get one step later.
        first = 2 + self._delay
        layer.output = layer.add(
            "neurons", "LIFReset", **arguments, reset_interval=self.period, reset_offset=first % self.period
        )

    def _add_silence(self, layer: StockLayer, value: NDArray[Any]) -> None:
        """Units whose one spike an input arrives in the idle step, also in that before the first input."""
        if self.period is None:
            return
        clock = {"du": DECAY - 1, "dv": 0, "vth": self.period - 1, "bias_mant": 1, "bias_exp": 6}
        clock["v"] = 64 * max(0, self.period - self._delay)
        offset = (1 + self._delay) % self.period
        layer.add_units_of(
            "silence", value, layer.output, "LIFReset", **clock, reset_interval=self.period, reset_offset=offset
        )


def _shared(node: Neurons, state: FixedState) -> _Constants:
    """What all neurons of a layer have. Raises `ConversionError` if stock ones differ."""
    if node.model not in ("leaky", "rleaky", "synaptic"):
        raise ConversionError(f"has {node.model} neurons, which are no LIF neurons of Lava's")
    if node.reset != "zero" or node.reset_delay:
        late = " a step late" if node.reset_delay else ""
        raise ConversionError(
            f"resets by {node.reset!r}{late}; stock LIF neurons are set to 0 at once: train with "
            'reset_mechanism="zero" and reset_delay=False'
        )
    found = {name: np.unique(part) for name, part in [*state.shares.items(), ("threshold", state.threshold)]}
    several = [name for name, values in found.items() if len(values) > 1]
    if several == ["threshold"]:
        raise ConversionError(
            "has thresholds of several numbers of synapses; the neurons of a stock LIF Process share one: "
            f"{_ROUNDED} weights to fit"
        )
    if several:
        raise ConversionError(f"has several {' and '.join(several)}; the neurons of a stock LIF Process share one")
    numbers = {name: int(values[0]) for name, values in found.items()}
    alpha, beta, threshold = numbers.get("alpha", 0), numbers["beta"], numbers["threshold"]
    if threshold % STEPS or threshold < 0 or (node.recurrent is not None and not threshold):
        raise ConversionError(
            f"has a threshold of {threshold / STEPS:g} synapses; stock LIF neurons have whole ones: "
            f"{_ROUNDED} weights to fit"
        )
    if beta == 0 or alpha == DECAY:
        raise ConversionError(
            "has a beta of 0 or an alpha of 1; a stock LIF neuron keeps at least a 4096th of its potential, and loses "
            "as much of its current"
        )
    return _Constants(alpha, beta, threshold)


def _bias(node: Neurons, constant: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Constant currents, in steps, as whole synapses of units that fire in every step, and a bias."""
    if node.model == "leaky" and MANTISSA[0] <= constant.min() and constant.max() <= MANTISSA[1]:
        return np.zeros_like(constant), constant
    whole = constant // STEPS
    bias = constant - STEPS * whole
    if node.model == "synaptic" and bias.any():
        raise ConversionError(
            "has a bias that is no whole number of synapses, which stock neurons do not add to their current: "
            f"{_ROUNDED} it"
        )
    return whole, bias


def _recurrent(node: Neurons, state: FixedState, shape: Shape) -> tuple[csr_matrix | None, NDArray[Any]]:
    """Recurrent synapses as a matrix of whole synapses, and their constant, in steps."""
    n = int(np.prod(shape))
    if node.recurrent is None:
        return None, np.zeros(n, np.int64)
    gain, constant = (np.broadcast_to(part, shape).reshape(-1) for part in (state.back, state.back_constant))
    if (gain % STEPS).any():
        raise ConversionError(f"has recurrent weights that are no whole numbers of its synapses: {_ROUNDED} them")
    one = Value({"self": diags(np.ones(n), format="csr", dtype=np.int64)}, np.zeros(n, np.int64), shape)
    inner: Conv | Any = node.recurrent.node
    sums = one if inner is None else through(inner, [one], shape)
    matrix = (diags(gain // STEPS, dtype=np.int64) @ sums.parts["self"]).tocsr().astype(np.int64)
    matrix.eliminate_zeros()
    return (matrix if matrix.nnz else None), constant
