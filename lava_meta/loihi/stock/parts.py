"""Stock Processes as data, and how integer matrices and biases become some of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags

from lava_meta.loihi.stock.limits import STATE, check_arguments, check_range

_DIGIT = 128  # the base of planes of 8-bit weights; a digit is doubled, as weights of both signs are even
_MOST = 127  # the greatest digit: twice it is held among weights of one sign and of both
MEMORYLESS = {"du": 4095, "dv": 4095}


@dataclass(frozen=True)
class Part:
    """One stock Process: `kind` is the name of its class in Lava, `arguments` are what it is made from."""

    kind: str  # Dense, Sparse, Conv, LIF, LIFReset, GradedVec or GradedReluVec
    arguments: dict[str, Any]

    @property
    def is_neurons(self) -> bool:
        """Whether it has neurons (ports `a_in` and `s_out`), or synapses (`s_in` and `a_out`)."""
        return self.kind in ("LIF", "LIFReset", "GradedVec", "GradedReluVec")


@dataclass
class StockLayer:
    """A layer as a network of stock Processes.

    Neurons and inputs of three extents are maps in the order (rows, columns, channels), as Lava's `Conv` has them;
    between layers maps are flat in the order (channels, rows, columns).
    """

    name: str
    parts: dict[str, Part] = field(default_factory=dict)
    links: list[tuple[str, str]] = field(default_factory=list)  # from neurons to synapses or from synapses to neurons
    inputs: list[str] = field(default_factory=list)  # the synapses that get what another layer sends
    senders: dict[str, str] = field(default_factory=dict)  # by such synapses, that layer; if not named, the one before
    output: str = ""  # the neurons that send to the next layer
    latency: int = 1  # time steps between an input and its answer

    def add(self, name: str, kind: str, **arguments: Any) -> str:
        """Add a part, checked. Raises `ConversionError`."""
        check_arguments(self.name, name, arguments)
        self.parts[name] = Part(kind, arguments)
        return name

    def connect(self, source: str, target: str) -> None:
        """Let `source` send to `target`."""
        self.links.append((source, target))

    def add_synapses(
        self, name: str, matrix: NDArray[Any], message_bits: int, neurons: str, source: str | None = None
    ) -> None:
        """Dense synapses of an integer matrix (units, inputs) before `neurons`: one Process, or one a digit.

        They get what `source` sends; by default what the layer gets.
        """
        for i, (weights, exponent) in enumerate(digits(self.name, name, matrix)):
            part = self.add(
                name if i == 0 else f"{name}_{i}",
                "Dense",
                weights=weights,
                weight_exp=exponent,
                num_message_bits=message_bits,
            )
            self.connect(part, neurons)
            if source is None:
                self.inputs.append(part)
            else:
                self.connect(source, part)

    def add_sparse(
        self,
        name: str,
        matrix: csr_matrix,
        message_bits: int,
        neurons: str,
        source: str | None = None,
        sender: str | None = None,
    ) -> None:
        """As `add_synapses`, of a sparse matrix; without a `source` they get what the layer `sender` sends."""
        for i, (weights, exponent) in enumerate(digits(self.name, name, matrix.data)):
            part = self.add(
                name if i == 0 else f"{name}_{i}",
                "Sparse",
                weights=csr_matrix((weights, matrix.indices, matrix.indptr), matrix.shape),
                weight_exp=exponent,
                num_message_bits=message_bits,
            )
            self.connect(part, neurons)
            if source is not None:
                self.connect(source, part)
                continue
            self.inputs.append(part)
            if sender is not None:
                self.senders[part] = sender

    def add_constant(self, value: NDArray[Any], neurons: str) -> None:
        """Add `value` (units,) in every step to what `neurons` receive: synapses of units that fire in every step."""
        self.add_units_of(f"{neurons}_constant", value, neurons, "LIF", vth=0, bias_mant=1, bias_exp=0, **MEMORYLESS)

    def add_units_of(self, name: str, value: NDArray[Any], neurons: str, kind: str, **arguments: Any) -> None:
        """Add `value` (units,) to what `neurons` receive whenever units without an input fire: `kind`, `arguments`."""
        if not value.any():
            return
        low, high = _halves(value)
        columns = max(1, -(-int(np.abs(high).max()) // _MOST))
        matrix = np.zeros((len(value), columns), np.int64)
        for column in range(columns):
            share = np.clip(high, -_MOST, _MOST)
            matrix[:, column] = share * _DIGIT
            high = high - share
        matrix[:, 0] += low
        source = self.add(name, kind, shape=(columns,), **arguments)
        self.add_synapses(f"{source}_synapses", matrix, 0, neurons, source)

    def add_diagonal(self, name: str, weight: int, message_bits: int, neurons: str, source: str) -> None:
        """Synapses of one positive weight from each of `source` to the one of `neurons` in its place."""
        n = self.parts[source].arguments["shape"][0]
        for i, (weights, exponent) in enumerate(digits(self.name, name, np.array([[weight]]))):
            part = self.add(
                name if i == 0 else f"{name}_{i}",
                "Sparse",
                weights=diags(np.full(n, weights[0, 0]), format="csr", dtype=np.int32),
                weight_exp=exponent,
                num_message_bits=message_bits,
            )
            self.connect(source, part)
            self.connect(part, neurons)

    def add_graded(
        self,
        name: str,
        shape: tuple[int, ...],
        low: Any,
        high: Any,
        *,
        relu: bool = False,
        advice: str = "Take fewer inputs, fewer grey levels, or convolutions",
    ) -> str:
        """Neurons that send what they receive, between `low` and `high`; with `relu`, only what is above 0."""
        check_range(self.name, f"the sum of {name}", low, high, -STATE, STATE, advice)
        return self.add(name, "GradedReluVec" if relu else "GradedVec", shape=shape, vth=0)


def digits(layer: str, name: str, matrix: NDArray[Any]) -> list[tuple[NDArray[Any], int]]:
    """Integers (units, inputs) as planes of 8-bit weights and their exponents: `sum of weights * 2**exponent`.

    One plane if they are small, doubled if they are odd and of both signs; else digits of base 128, doubled likewise.
    Raises `ConversionError` beyond two digits.
    """
    low, high = int(matrix.min()), int(matrix.max())
    mixed = low < 0 < high
    if max(-low, high) <= 255 and not (mixed and (matrix % 2).any()):
        return [(matrix.astype(np.int32), 0)]
    if max(-low, high) <= _MOST:
        return [((2 * matrix).astype(np.int32), -1)]
    least, upper = _halves(matrix.astype(np.int64))
    check_range(layer, f"{name}, in steps of {_DIGIT},", upper, upper, -_MOST, _MOST)
    planes = [((2 * least).astype(np.int32), -1), ((2 * upper).astype(np.int32), 6)]
    return [plane for plane in planes if plane[0].any()]


def _halves(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """`low, high` with values = low + 128 * high and low between -64 and 63."""
    low = (values + _DIGIT // 2) % _DIGIT - _DIGIT // 2
    return low, (values - low) // _DIGIT
