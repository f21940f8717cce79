"""Dense layers and the readout as stock Processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import diags

from lava_meta.graph.dense import DenseLayer, Readout, reachable
from lava_meta.graph.inputs import Binarize
from lava_meta.loihi.stock.limits import MESSAGE_BITS
from lava_meta.loihi.stock.parts import StockLayer
from lava_meta.loihi.stock.units import add_units

Levels = tuple[int, int] | None  # the least and greatest input of a layer; None if it gets spikes

_MOST_SHIFT = 8  # a weight exponent is at least -8


def dense_layer(name: str, layer: DenseLayer, levels: Levels) -> StockLayer:
    """Map a dense layer; its input is graded spikes of these levels, or spikes if they are None."""
    if layer.centred:
        return _centred(name, layer, levels)
    plan = StockLayer(name)
    weight = layer.polarity[:, None] * _signs(layer.weight)
    low, high = bounds(weight, levels)
    theta = layer.threshold.copy()
    if levels is None:
        theta = half_up(theta, weight.sum(axis=1))
    plan.output = add_units(plan, theta, low, high)
    plan.add_synapses("synapses", 2 * weight, message_bits(levels), plan.output)
    return plan


def readout(name: str, layer: Readout, levels: Levels) -> StockLayer:
    """Map the readout: graded spikes that carry its integer sums."""
    plan = StockLayer(name)
    weight = _signs(layer.weight)
    low, high = bounds(weight, levels)
    if levels is None:  # sum(w x) = 2 sum(w s) - sum(w)
        constant, weight = -weight.sum(axis=1), 2 * weight
        low, high = 2 * low + np.minimum(constant, 0), 2 * high + np.maximum(constant, 0)
    plan.output = plan.add_graded("neurons", (layer.n_out,), low, high)
    plan.add_synapses("synapses", weight, message_bits(levels), plan.output)
    if levels is None:
        plan.add_constant(constant, plan.output)
    return plan


@dataclass(frozen=True)
class _Centring:
    """The integers of a layer whose mean is taken out, with n units: `n s_j - sum_k s_k` against T, in 24 bits.

    With the polarity p in the weights, a_j = 2 y_j as ever. Let U_p be -p times the sum of a_k without polarity. Unit j
    fires if n a_j + U_p + c_j >= 0, with c_j = -2 T_j for pixels, and -T_j - p (n R_j - sum_k R_k) for spikes, R_j
    being the sum of a row of weights. Let 2**b, at most 256, divide n, and c_j = 2**b q_j + r_j. Then, since rounding
    down keeps what is below 0 there,

        (n / 2**b) a_j + floor((U_p + r_j) / 2**b) + q_j + 1 > 0
    """

    shift: int  # b
    weight: NDArray[Any]  # (units, inputs), with the polarity: their sums are y_j
    pull: NDArray[Any]  # (kinds, inputs): their sums are U_p of each pair (p, r) that occurs
    remainder: NDArray[Any]  # (kinds,): r
    kind_of: NDArray[Any]  # (units,): the pair of each unit
    bias: NDArray[Any]  # (units,): q_j + 1

    @classmethod
    def of(cls, layer: DenseLayer, levels: Levels) -> _Centring:
        """Thresholds that no input reaches, or none fails to reach, move to just beyond what there is."""
        n = layer.n_out
        sign = np.where(layer.weight, 1, -1).astype(np.int64)
        columns, rows = sign.sum(axis=0), sign.sum(axis=1)
        polarity = layer.polarity.astype(np.int64)
        least, most = bounds(polarity[:, None] * (n * sign - columns), levels)
        if levels is None:
            own = polarity * (n * rows - rows.sum())
            theta = np.clip(layer.threshold, 2 * least - own, 2 * most - own + 1)
            constant = -theta - own
        else:
            constant = -2 * np.clip(layer.threshold, least, most + 1)
        shift = min(_MOST_SHIFT, (n & -n).bit_length() - 1)
        quotient, remainder = constant >> shift, constant % 2**shift
        kinds, kind_of = np.unique(np.stack([polarity, remainder]), axis=1, return_inverse=True)
        pull = -2 * kinds[0][:, None] * columns
        return cls(shift, polarity[:, None] * sign, pull, kinds[1], kind_of.reshape(-1), quotient + 1)


def _centred(name: str, layer: DenseLayer, levels: Levels) -> StockLayer:
    """Map a layer whose mean is taken out.

    Relays send a_j; inhibitory units, one for each pair (p, r) that occurs, send U_p + r, and their synapses divide by
    the weight exponent -b. So the layer takes two time steps.
    """
    plan = StockLayer(name, latency=2)
    n, own = layer.n_out, _Centring.of(layer, levels)
    shift, kinds, bits = own.shift, len(own.remainder), message_bits(levels)
    low, high = bounds(own.weight, levels)
    pull_low, pull_high = bounds(own.pull, levels)
    pull_high = pull_high + own.remainder

    relays = plan.add_graded("relays", (n,), 2 * low, 2 * high)
    plan.add_synapses("synapses", 2 * own.weight, bits, relays)
    inhibition = plan.add_graded("inhibition", (kinds,), pull_low, pull_high)
    plan.add_synapses("inhibition_synapses", own.pull, bits, inhibition)
    plan.add_constant(own.remainder, inhibition)

    times = n >> shift
    plan.output = plan.add_graded(
        "neurons",
        (n,),
        2 * times * low + np.minimum(pull_low >> shift, 0)[own.kind_of] + np.minimum(own.bias, 0),
        2 * times * high + (np.maximum(pull_high, 0) >> shift)[own.kind_of] + np.maximum(own.bias, 0),
        relu=True,
        advice=f"Take a width that {2**_MOST_SHIFT} divides, fewer inputs, or the fixed norm",
    )
    plan.add_diagonal("relay_synapses", times, MESSAGE_BITS, plan.output, relays)
    part = plan.add(
        "shared_synapses",
        "Dense",
        weights=(own.kind_of[:, None] == np.arange(kinds)).astype(np.int32),
        weight_exp=-shift,
        num_message_bits=MESSAGE_BITS,
    )
    plan.connect(inhibition, part)
    plan.connect(part, plan.output)
    plan.add_constant(own.bias, plan.output)
    return plan


def binarized_inputs(name: str, binarize: Binarize, levels: tuple[int, int]) -> StockLayer:
    """Map the units that make spikes of graded ones, before a layer that takes the signs of the inputs."""
    plan = StockLayer(name)
    weight = binarize.polarity.astype(np.int64)
    low, high = bounds(weight[:, None], levels)
    plan.output = add_units(plan, binarize.threshold, low, high)
    part = plan.add(
        "synapses",
        "Sparse",
        weights=diags(2 * weight, format="csr", dtype=np.int32),
        num_message_bits=message_bits(levels),
    )
    plan.inputs.append(part)
    plan.connect(part, plan.output)
    return plan


def _signs(positive: NDArray[Any]) -> NDArray[Any]:
    return np.where(positive, np.int8(1), np.int8(-1))


def bounds(matrix: NDArray[Any], levels: Levels) -> tuple[NDArray[Any], NDArray[Any]]:
    """The least and the greatest `matrix x` (units,) over all x within the levels, or of spikes."""
    least, most = levels or (0, 1)
    negative, positive = np.minimum(matrix, 0).sum(axis=1), np.maximum(matrix, 0).sum(axis=1)
    return most * negative + least * positive, most * positive + least * negative


def message_bits(levels: Levels) -> int:
    """Of graded spikes that carry these levels, one for a sign; 0 for spikes without a value."""
    return 0 if levels is None else max(map(abs, levels)).bit_length() + (levels[0] < 0)


def half_up(threshold: NDArray[Any], weight_sum: NDArray[Any]) -> NDArray[Any]:
    """Threshold theta in spikes: the ceiling of (threshold + sum(w)) / 2."""
    theta: NDArray[Any] = -((-reachable(threshold) - weight_sum) // 2)
    return theta
