"""Loihi's integer ranges, as Lava 0.10.0's fixed-point models and docstrings state them, and their checks.

Loihi 2's own limits are not public in this detail; if Lava's models allow more than they document, the documented
range is taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse

from lava_meta.errors import ConversionError

STATE = 2**23 - 1  # potentials and currents: signed, 24 bits
ACTIVATION = 2**15 - 1  # what a LIF neuron receives in a step: signed, 16 bits
MESSAGE_BITS = 24  # of a graded spike
BIAS_EXPONENT = 7  # the greatest
MANTISSA = (-(2**12), 2**12 - 1)  # of a bias: signed, 13 bits
DECAY_SHIFT = 12
ACTIVATION_SHIFT = 6  # a LIF neuron's input and threshold are shifted by it

_RANGES = {
    "weight_exp": (-8, 7),
    "num_message_bits": (0, MESSAGE_BITS),
    "vth": (0, 2**17 - 1),
    "bias_mant": MANTISSA,
    "bias_exp": (0, BIAS_EXPONENT),
    "stride": (0, 127),  # the extents of Lava's Conv
    "padding": (0, 127),
    "dilation": (0, 127),
    "groups": (0, 127),
    "du": (0, 2**12 - 1),
    "dv": (0, 2**12 - 1),
}


def check_arguments(layer: str, part: str, arguments: dict[str, Any]) -> None:
    """Raises `ConversionError` for an argument of a stock Process outside its range."""
    for name, (least, most) in _RANGES.items():
        if name in arguments:
            check_range(layer, f"{part}.{name}", arguments[name], arguments[name], least, most)
    weight = arguments.get("weights", arguments.get("weight"))
    if weight is not None:
        values = weight.data if issparse(weight) else weight
        mixed = values.min() < 0 < values.max()
        check_range(layer, f"{part}'s weights", values, values, -256 if mixed else -255, 254 if mixed else 255)
        if mixed and (values % 2).any():
            raise ConversionError(f"{layer}: {part} has odd weights of both signs, whose last bit synapses do not hold")


def check_range(layer: str, what: str, low: Any, high: Any, least: int, most: int, advice: str = "") -> None:
    """Raises `ConversionError` unless what lies between `low` and `high` lies between `least` and `most`."""
    lowest, highest = int(np.min(low)), int(np.max(high))
    if lowest < least or highest > most:
        raise ConversionError(
            f"{layer}: {what} runs from {lowest:,} to {highest:,}; Loihi holds {least:,} to {most:,}"
            + (f". {advice}" if advice else "")
        )
