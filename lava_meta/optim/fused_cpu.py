"""The optimizers' steps as one compiled pass: moments, gate, update and sign of one weight after the other.

A plain sequence of torch calls moves every temporary through memory, or at best through the second-level cache. Here
weights, gradients and moments are read once and written once, and what lies between stays in registers; the binary
weights leave in the form in which products take them. The equations and the order of operations are
those of `lava_meta.optim.clear`, the reference implementation; roundings differ (a fused multiply-add, an exponential
of its own), so steps agree within a few units in the last place and not bit for bit. Results do not depend on the
number of threads.

Each pair of consolidation functions has a pass compiled for it, so that the loop has no branch and runs on vectors.
Integers are cut to 32 bits wherever numba would widen them: one value of 64 bits in a loop halves the width of all its
vectors.

Which functions the expressions below are for is said once, in `lava_meta/rule/gates.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray
from torch import Tensor

from lava_meta.jit import njit
from lava_meta.optim.form import AdamNumbers, SgdNumbers, Weight
from lava_meta.optim.threads import in_parts
from lava_meta.rule import Consolidation, Table, sign
from lava_meta.rule.gates import closed_form

_F = np.float32
_ONE, _ZERO = _F(1), _F(0)
_CHUNK = 1 << 16  # elements whose squares are summed in float32
# Divisions by zero give infinity, as in torch; a check would keep the loops from becoming vectors.
_options: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract"}, "nogil": True, "cache": True}


# A consolidation function as the compiled pass takes it: a type, for which numba compiles a pass, and its numbers.


class _Plain(NamedTuple):
    unused: np.float32


class _Tanh2(NamedTuple):
    minus_two_m: np.float32


class _Exponential(NamedTuple):
    minus_m: np.float32


class _Linear(NamedTuple):
    end: np.float32


class _Quadratic(NamedTuple):
    end: np.float32


class _Towards(NamedTuple):
    end: np.float32
    falls: np.float32  # 1 - floor


class _Towards2(NamedTuple):
    end: np.float32
    falls: np.float32


class _Table(NamedTuple):
    points: NDArray[Any]
    values: NDArray[Any]
    slopes: NDArray[Any]  # of the line that begins at each point, the last one unused


Gate = _Plain | _Tanh2 | _Exponential | _Linear | _Quadratic | _Towards | _Towards2 | _Table
_GATES: dict[str, Any] = {
    "plain": _Plain,
    "tanh2": _Tanh2,
    "exponential": _Exponential,
    "linear": _Linear,
    "quadratic": _Quadratic,
    "towards": _Towards,
    "towards2": _Towards2,
}


def gate_of(f: Consolidation) -> Gate | None:
    """The compiled form of `f`; None if there is none, as for a function of the user's own."""
    if form := closed_form(f):
        kind = _GATES[form.name]
        gate: Gate = kind(*(_F(number) for number in (form.number, 1 - form.floor)[: len(kind._fields)]))
        return gate
    if type(f) is Table:
        points, values = np.array(f.points), np.array(f.values)
        slopes = np.append(np.diff(values) / np.diff(points), 0)
        return _Table(*(row.astype(_F) for row in (points, values, slopes)))
    return None


def takes(weight: Weight, *kept: Tensor) -> bool:
    """Whether the pass does this step: contiguous float32 on the CPU (or a bfloat16 gradient), a gate that it has."""
    kinds = (torch.float32, torch.bfloat16)
    return (
        all(type(f) is Table or closed_form(f) is not None for f in (weight.f, weight.grow))
        and _in_a_row(weight.hidden, *kept)
        and _in_a_row(weight.gradient, kinds=kinds)
    )


def adam(weight: Weight, moments: tuple[Tensor, Tensor], corrections: tuple[Any, Any], numbers: AdamNumbers) -> bool:
    """One step of Adam in place; whether all new weights are finite. See `lava_meta.optim.form.Form`.

    Signs may be int8 or float32.
    """
    step_size, root_correction = float(numbers.lr / corrections[0]), float(corrections[1] ** 0.5)
    beta1, beta2 = numbers.betas
    scalars = (numbers.decay, 1 - beta1, beta2, 1 - beta2, step_size, 1 / root_correction, numbers.eps)
    return _in_parts(_adam, weight, moments, scalars)


def sgd(weight: Weight, buffer: Tensor | None, numbers: SgdNumbers) -> bool:
    """One step of SGD in place; the rest as for `adam`."""
    return _in_parts(_sgd, weight, (buffer,), (*numbers[:-1], float(numbers.lr)))


def mean_square(gradient: Tensor) -> Tensor:
    """The mean of the gradient's squares, float32 (); equal for any number of threads. It lies in one row."""
    row = _row(gradient)
    totals = np.empty(-(-row.size // _CHUNK), np.float32)

    def part(start: int, end: int) -> bool:
        for place in range(start, end, _CHUNK):
            totals[place // _CHUNK] = _sum_of_squares(row[place : min(place + _CHUNK, end)])
        return True

    in_parts(part, row.size, _CHUNK)
    return torch.tensor(totals.sum(dtype=np.float64) / row.size, dtype=torch.float32)


def take_signs(hidden: Tensor, signs: Tensor) -> None:
    """Signs <- sign(hidden). Tensors on the CPU; a hidden weight that does not lie in one row takes torch's way."""
    if _in_a_row(hidden):
        rows = _row(hidden), _row(signs)
        in_parts(lambda start, end: _take_signs(*(row[start:end] for row in rows)), hidden.numel())
    else:
        signs.copy_(sign(hidden))


def _in_a_row(*tensors: Tensor, kinds: Sequence[torch.dtype] = (torch.float32,)) -> bool:
    """Whether the elements of each lie in one row on the CPU, and are of one of these kinds."""
    return all(t.device.type == "cpu" and t.is_contiguous() and t.dtype in kinds for t in tensors)


def _in_parts(compiled: Any, weight: Weight, kept: Sequence[Tensor | None], numbers: Sequence[float]) -> bool:
    tensors = (weight.hidden, weight.gradient, *kept, weight.signs)
    arrays = [None if tensor is None else _row(tensor) for tensor in tensors]
    gates = gate_of(weight.f), gate_of(weight.grow)
    with np.errstate(over="ignore"):  # a rate beyond float32 is infinite: the run will say that it diverges
        scalars = tuple(map(_F, numbers))

    def part(start: int, end: int) -> bool:
        return bool(compiled(*(None if array is None else array[start:end] for array in arrays), scalars, *gates))

    assert arrays[0] is not None
    return in_parts(part, arrays[0].size)


def _row(tensor: Tensor) -> NDArray[Any]:
    flat = tensor.detach().view(-1)
    return flat.view(torch.int16).numpy() if flat.dtype == torch.bfloat16 else flat.numpy()


def _float_of_bits(typing_context: Any, bits: Any) -> Any:
    """The float32 of these bits (int32)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), codegen


def _bits_of_float(typing_context: Any, value: Any) -> Any:
    """The bits of a float32, as int32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), codegen


_as_float: Any = intrinsic(_float_of_bits)
_bits_of: Any = intrinsic(_bits_of_float)


@njit(inline="always", **_options)
def _exp(x):  # type: ignore[no-untyped-def]
    """exp(x) for x <= 0, within a relative 1e-7; 1e-38 below -87. Cephes' polynomial, in lanes of the vector unit."""
    x = max(x, _F(-87))
    k = np.int32(x * _F(1.44269504) - _F(0.5))
    whole = _F(k)
    r = x - whole * _F(0.693359375)
    r = r + whole * _F(2.12194440e-4)
    p = _F(1.9875691500e-4)
    p = p * r + _F(1.3981999507e-3)
    p = p * r + _F(8.3334519073e-3)
    p = p * r + _F(4.1665795894e-2)
    p = p * r + _F(1.6666665459e-1)
    p = p * r + _F(5.0000001201e-1)
    p = p * r * r + r + _ONE
    return p * _as_float(np.int32((k + np.int32(127)) << np.int32(23)))


_INFINITY = np.int32(0x7F800000)


def _wide(value: Any) -> Any:
    """A gradient as float32: it is one, or a bfloat16 as int16."""


@overload(_wide, inline="always")
def _wide_of_type(value):  # type: ignore[no-untyped-def]
    if value == types.int16:
        return lambda value: _as_float(np.int32(np.int32(value) << np.int32(16)))
    return lambda value: value


def _share(gate: Any, h: Any) -> Any:
    """f(h)."""


@overload(_share, inline="always")
def _share_of_type(gate, h):  # type: ignore[no-untyped-def]
    return _SHARES[gate.instance_class]


def _tanh2(gate, h):  # type: ignore[no-untyped-def]
    e = _exp(abs(h) * gate.minus_two_m)
    q = e + _ONE
    return _F(4) * e / (q * q)


def _exponential(gate, h):  # type: ignore[no-untyped-def]
    return _exp(abs(h) * gate.minus_m)


def _linear(gate, h):  # type: ignore[no-untyped-def]
    return _ONE - min(abs(h) / gate.end, _ONE)


def _quadratic(gate, h):  # type: ignore[no-untyped-def]
    r = min(abs(h) / gate.end, _ONE)
    return (_ONE - r) * (_ONE + r)


def _towards(gate, h):  # type: ignore[no-untyped-def]
    left = _ONE - min(abs(h) / gate.end, _ONE)
    return _ONE - gate.falls * (_ONE - left)


def _towards2(gate, h):  # type: ignore[no-untyped-def]
    left = _ONE - min(abs(h) / gate.end, _ONE)
    return _ONE - gate.falls * (_ONE - left * left)


def _table(gate, h):  # type: ignore[no-untyped-def]
    distance = abs(h)
    piece = min(np.searchsorted(gate.points, distance, side="right") - 1, gate.points.size - 2)
    line = gate.values[piece] + gate.slopes[piece] * (distance - gate.points[piece])
    return max(line, gate.values[piece + 1])


_SHARES: dict[type, Any] = {
    _Plain: lambda gate, h: _ONE,
    _Tanh2: _tanh2,
    _Exponential: _exponential,
    _Linear: _linear,
    _Quadratic: _quadratic,
    _Towards: _towards,
    _Towards2: _towards2,
    _Table: _table,
}


@njit(inline="always", **_options)
def _gated(gate, grow, h, u):  # type: ignore[no-untyped-def]
    """Hidden weight h after the step u."""
    # Both shares, although one is needed: a branch would keep the loop from becoming vectors.
    shrinking, growing = _share(gate, h), _share(grow, h)
    return h - u * (shrinking if (u > _ZERO) == (h >= _ZERO) else growing)


@njit(inline="always", **_options)
def _sign(h):  # type: ignore[no-untyped-def]
    return np.int8(1) if h >= _ZERO else np.int8(-1)


@njit(inline="always", **_options)
def _size_bits(h):  # type: ignore[no-untyped-def]
    """The bits of |h|, which grow with it; infinity and what is no number have the largest exponent."""
    return np.int32(_bits_of(h) & np.int32(0x7FFFFFFF))


@njit(**_options)
def _adam(hidden, gradient, mean, square, signs, scalars, gate, grow):  # type: ignore[no-untyped-def]
    decay, keep1, beta2, keep2, step_size, root_factor, eps = scalars
    largest = np.int32(0)
    for i in range(hidden.size):
        h = hidden[i]
        g = _wide(gradient[i]) + decay * h
        m = mean[i] + keep1 * (g - mean[i])
        s = beta2 * square[i] + keep2 * g * g
        mean[i], square[i] = m, s
        h = _gated(gate, grow, h, m * step_size / (np.sqrt(s) * root_factor + eps))
        hidden[i] = h
        largest = max(largest, _size_bits(h))
        if signs is not None:
            signs[i] = _sign(h)
    return largest < _INFINITY


@njit(**_options)
def _sgd(hidden, gradient, buffer, signs, scalars, gate, grow):  # type: ignore[no-untyped-def]
    decay, momentum, keep, lr = scalars
    largest = np.int32(0)
    for i in range(hidden.size):
        h = hidden[i]
        g = _wide(gradient[i]) + decay * h
        if buffer is not None:
            g = momentum * buffer[i] + keep * g
            buffer[i] = g
        h = _gated(gate, grow, h, lr * g)
        hidden[i] = h
        largest = max(largest, _size_bits(h))
        if signs is not None:
            signs[i] = _sign(h)
    return largest < _INFINITY


@njit(**{**_options, "fastmath": {"contract", "reassoc"}})  # a sum in order would not become vectors
def _sum_of_squares(gradient):  # type: ignore[no-untyped-def]
    total = _ZERO
    for i in range(gradient.size):
        g = _wide(gradient[i])
        total += g * g
    return total


@njit(**_options)
def _take_signs(hidden, signs):  # type: ignore[no-untyped-def]
    for i in range(hidden.size):
        signs[i] = _sign(hidden[i])
    return True
