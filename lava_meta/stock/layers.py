"""Dense layers and the readout as stock Processes."""

from __future__ import annotations

import numpy as np

from lava_meta.layers import DenseLayer, Readout
from lava_meta.stock.limits import MESSAGE_BITS
from lava_meta.stock.parts import StockLayer
from lava_meta.stock.units import add_units

_MOST_SHIFT = 8  # a weight exponent is at least -8


def dense_layer(name: str, layer: DenseLayer, max_level: int | None) -> StockLayer:
    """Plan a dense layer; with `max_level` its input is pixels 0 .. max_level, else spikes."""
    if layer.centred:
        return _centred(name, layer, max_level)
    plan = StockLayer(name)
    weight = layer.polarity[:, None] * np.where(layer.weight, 1, -1)
    low, high = bounds(weight, max_level)
    theta = layer.threshold.copy()
    if max_level is None:
        theta = half_up(theta, weight.sum(axis=1))
    plan.output = add_units(plan, theta, low, high)
    plan.add_synapses("synapses", 2 * weight, message_bits(max_level), plan.output)
    return plan


def readout(name: str, layer: Readout, max_level: int | None) -> StockLayer:
    """Plan the readout: graded spikes that carry its integer sums."""
    plan = StockLayer(name)
    weight = np.where(layer.weight, 1, -1)
    low, high = bounds(weight, max_level)
    if max_level is None:  # sum(w x) = 2 sum(w s) - sum(w)
        constant, weight = -weight.sum(axis=1), 2 * weight
        low, high = 2 * low + np.minimum(constant, 0), 2 * high + np.maximum(constant, 0)
    plan.output = plan.add_graded("neurons", (layer.n_out,), low, high)
    plan.add_synapses("synapses", weight, message_bits(max_level), plan.output)
    if max_level is None:
        plan.add_constant(constant, plan.output)
    return plan


def _centred(name: str, layer: DenseLayer, max_level: int | None) -> StockLayer:
    """Plan a layer whose mean is taken out, with n units: `n s_j - sum_k s_k` against T, in 24 bits.

    With the polarity p in the weights, a_j = 2 y_j as ever. Let U_p be -p times the sum of a_k without polarity. Unit j
    fires where n a_j + U_p + c_j >= 0, with c_j = -2 T_j for pixels, and -T_j - p (n R_j - sum_k R_k) for spikes, R_j
    being the sum of a row of weights. Let 2**b, at most 256, divide n, and c_j = 2**b q_j + r_j. Then, since rounding
    down keeps what is below 0 there,

        (n / 2**b) a_j + floor((U_p + r_j) / 2**b) + q_j + 1 > 0

    Relays send a_j; inhibitory units, one for each pair (p, r) that occurs, send U_p + r, and their synapses divide by
    the weight exponent -b. So the layer takes two time steps.
    """
    plan = StockLayer(name, latency=2)
    n = layer.n_out
    sign = np.where(layer.weight, 1, -1).astype(np.int64)
    columns, rows = sign.sum(axis=0), sign.sum(axis=1)
    polarity = layer.polarity.astype(np.int64)
    weight = polarity[:, None] * sign
    low, high = bounds(weight, max_level)
    # Thresholds that no input reaches, or none fails to reach, move to just beyond what there is.
    least, most = bounds(polarity[:, None] * (n * sign - columns), max_level)
    if max_level is None:
        own = polarity * (n * rows - rows.sum())
        theta = np.clip(layer.threshold, 2 * least - own, 2 * most - own + 1)
        constant = -theta - own
    else:
        constant = -2 * np.clip(layer.threshold, least, most + 1)
    shift = min(_MOST_SHIFT, (n & -n).bit_length() - 1)
    quotient, remainder = constant >> shift, constant % 2**shift
    kinds, unit_of = np.unique(np.stack([polarity, remainder]), axis=1, return_inverse=True)
    pull = -2 * kinds[0][:, None] * columns
    pull_low, pull_high = bounds(pull, max_level)
    pull_low, pull_high = pull_low, pull_high + kinds[1]

    bits = message_bits(max_level)
    relays = plan.add_graded("relays", (n,), 2 * low, 2 * high)
    plan.add_synapses("synapses", 2 * weight, bits, relays)
    inhibition = plan.add_graded("inhibition", (kinds.shape[1],), pull_low, pull_high)
    plan.add_synapses("inhibition_synapses", pull, bits, inhibition)
    plan.add_constant(kinds[1], inhibition)

    times, bias = n >> shift, quotient + 1
    plan.output = plan.add_graded(
        "neurons",
        (n,),
        2 * times * low + np.minimum(pull_low >> shift, 0)[unit_of] + np.minimum(bias, 0),
        2 * times * high + (np.maximum(pull_high, 0) >> shift)[unit_of] + np.maximum(bias, 0),
        relu=True,
        advice=f"Take a width that {2**_MOST_SHIFT} divides, fewer inputs, or the fixed norm",
    )
    plan.add_diagonal("relay_synapses", times, MESSAGE_BITS, plan.output, relays)
    part = plan.add(
        "shared_synapses",
        "Dense",
        weights=(unit_of.reshape(-1, 1) == np.arange(kinds.shape[1])).astype(np.int32),
        weight_exp=-shift,
        num_message_bits=MESSAGE_BITS,
    )
    plan.connect(inhibition, part)
    plan.connect(part, plan.output)
    plan.add_constant(bias, plan.output)
    return plan


def bounds(matrix: np.ndarray, max_level: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest `matrix x` (units,) over all x of 0 .. max_level, or of spikes."""
    scale = max_level or 1
    return scale * np.minimum(matrix, 0).sum(axis=1), scale * np.maximum(matrix, 0).sum(axis=1)


def message_bits(max_level: int | None) -> int:
    """Of the spikes that carry pixels; 0 for spikes without a value."""
    return 0 if max_level is None else max_level.bit_length()


def half_up(threshold: np.ndarray, weight_sum: np.ndarray) -> np.ndarray:
    """theta of spikes: the ceiling of (threshold + sum(w)) / 2. Thresholds beyond 2**62 are brought there first."""
    threshold = np.clip(threshold, -(2**62), 2**62)
    return -((-threshold - weight_sum) // 2)
