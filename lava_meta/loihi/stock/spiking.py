"""Layers of leaky integrate-and-fire neurons with time (`lava_meta.graph.spiking`, in fixed point) as stock Processes.

Lava's `LIF` computes, in integers, `v = v (4096 - dv) / 4096 + 64 a + bias`, fires if v > 64 vth, and then sets v
to 0 at once. That is `FixedLIF` with `reset="zero"` and no delay of it, `dv = 4096 (1 - beta)`, thresholds of whole
synapses, and one beta and one threshold for all neurons; anything else is refused. `LIFReset` starts again every
`steps` time steps. What is taken from each input, `offset`, is a constant current: the bias.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.errors import ConversionError
from lava_meta.graph.spiking import DECAY_BITS, FRACTION_BITS, FixedLIF, LIFLayer, SpikingGraph
from lava_meta.loihi.stock.dense import Levels, bounds, message_bits
from lava_meta.loihi.stock.limits import ACTIVATION, STATE, check_range
from lava_meta.loihi.stock.parts import StockLayer


def lif_layer(
    name: str, layer: LIFLayer, levels: Levels, offset: int = 0, steps: int | None = None, delay: int = 0
) -> StockLayer:
    """Map a layer whose first input comes `delay` time steps after the first, and which starts again every `steps`.

    Its input is graded spikes of these levels, or spikes if they are None. Raises `ConversionError`.
    """
    beta, threshold = _shared(name, layer)
    if offset and steps is None:
        raise ConversionError(f"{name} takes {offset} from its inputs, and never starts again: give steps")
    sign = np.where(layer.weight > 0, 1, -1)
    low, high = bounds(sign, levels)
    check_range(name, "the sum of synapses", low, high, -ACTIVATION, ACTIVATION, "Take fewer inputs or grey levels")
    constant = -offset * sign.sum(axis=1)
    check_potentials(
        name, (low + constant) << FRACTION_BITS, (high + constant) << FRACTION_BITS, beta, threshold, steps
    )

    plan = StockLayer(name)
    arguments = {
        "shape": (layer.n_out,),
        "du": 2**DECAY_BITS - 1,
        "dv": 2**DECAY_BITS - beta,
        "vth": threshold >> FRACTION_BITS,
        "bias_mant": constant.astype(np.int32),
        "bias_exp": FRACTION_BITS,
    }
    if steps is None:
        plan.output = plan.add("neurons", "LIF", **arguments)
    else:
        # Time steps are counted from 1, and synapses hand on what they get one step later.
        first = 2 + delay
        plan.output = plan.add("neurons", "LIFReset", **arguments, reset_interval=steps, reset_offset=first % steps)
    part = plan.add(
        "synapses",
        "Dense",
        weights=(2 * sign).astype(np.int32),
        weight_exp=-1,
        num_message_bits=message_bits(levels),
    )
    plan.inputs.append(part)
    plan.connect(part, plan.output)
    return plan


def _shared(name: str, layer: LIFLayer) -> tuple[int, int]:
    """The beta and the threshold of all neurons, in fixed point. Raises `ConversionError` if stock ones differ."""
    if layer.reset != "zero" or layer.reset_delay:
        late = " a step late" if layer.reset_delay else ""
        raise ConversionError(
            f"{name} resets by {layer.reset!r}{late}; stock LIF neurons are set to 0 at once: train with "
            'reset_mechanism="zero" and reset_delay=False'
        )
    neurons = FixedLIF(layer)
    betas, thresholds = np.unique(neurons.beta), np.unique(neurons.threshold)
    if len(betas) > 1 or len(thresholds) > 1:
        raise ConversionError(f"{name} has several betas or thresholds; the neurons of a stock LIF Process share one")
    beta, threshold = int(betas[0]), int(thresholds[0])
    if threshold % 2**FRACTION_BITS or threshold < 0:
        raise ConversionError(
            f"{name} has a threshold of {threshold / 2**FRACTION_BITS:g} synapses; stock LIF neurons have whole ones"
        )
    if beta == 0:
        raise ConversionError(f"{name} has a beta of 0; a stock LIF neuron keeps at least a 4096th of its potential")
    return beta, threshold


def check_potentials(
    name: str, low: NDArray[Any], high: NDArray[Any], beta: int, threshold: int, steps: int | None
) -> None:
    """Raise `ConversionError` unless inputs of `low` to `high` in every step keep potentials within Loihi's range."""
    most = kept(beta, steps)
    lowest = min(int(low.min()), 0)
    if lowest < 0 and lowest * most < -STATE:
        raise ConversionError(
            f"{name}: potentials fall by {-lowest:,} per step, to {lowest * most:,.0f}; Loihi holds {-STATE:,}. Take a "
            "smaller beta, fewer inputs, or neurons that start again (steps)"
        )
    check_range(name, "potentials", 0, threshold + np.maximum(high, 0), -STATE, STATE)


def kept(share: int, steps: int | None) -> float:
    """What a constant input adds up to, in inputs, if a step leaves `share` of 4096."""
    whole = 2**DECAY_BITS / (2**DECAY_BITS - share) if share < 2**DECAY_BITS else math.inf
    return min(whole, steps or math.inf)


def plan_spiking(graph: SpikingGraph, steps: int) -> list[StockLayer]:
    """Every layer of `graph`, whose neurons start again every `steps` time steps. Raises `ConversionError`."""
    levels: Levels = None if graph.max_level == 1 else (0, graph.max_level)
    offset, mapped = graph.offset, []
    for delay, (name, layer) in enumerate(graph.named_layers()):
        mapped.append(lif_layer(name, layer, levels, offset, steps, delay))
        levels, offset = None, 0
    return mapped
