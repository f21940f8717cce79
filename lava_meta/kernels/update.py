"""The optimizers' steps as one compiled pass: moments, gate, update and sign, a tile at a time.

A plain sequence of torch calls moves every temporary through memory, or at best through the second-level cache. Here a
tile of weights, gradients and moments is read once and written once, and what lies between stays in the first-level
cache; the binary weights leave in the form in which products take them. The equations and the order of operations are
those of `lava_meta.optim`, which is the oracle; roundings differ (a fused multiply-add, an exponential of its own), so
steps agree within a few units in the last place and not bit for bit. Results do not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload
from torch import Tensor

from lava_meta.kernels.threads import in_parts
from lava_meta.rule import Consolidation, Exponential, Linear, Quadratic, Table, Tanh2

TILE = 2048  # elements: 8 KiB of float32 each for the weights, the gradient, two moments and the step
PLAIN, TANH2, EXPONENTIAL, LINEAR, QUADRATIC, TABLE = range(6)
_F = np.float32
_ONE, _ZERO = _F(1), _F(0)
# Divisions by zero give infinity, as in torch; a check would keep the loops from becoming vectors.
_options: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract"}, "nogil": True, "cache": True}


class Gate(NamedTuple):
    """A consolidation function as the compiled pass takes it."""

    kind: int
    numbers: np.ndarray  # float32 (3, n): points, values and slopes of a table; else one parameter, at [0, 0]


def gate_of(f: Consolidation) -> Gate | None:
    """The compiled form of `f`; None where there is none, as for a function of the user's own."""
    if f.is_plain:
        return _gate_with(PLAIN, 0.0)
    if type(f) is Tanh2:
        return _gate_with(TANH2, -2.0 * f.m)
    if type(f) is Exponential:
        return _gate_with(EXPONENTIAL, -f.m)
    if type(f) is Linear:
        return _gate_with(LINEAR, f.T)
    if type(f) is Quadratic:
        return _gate_with(QUADRATIC, f.T)
    if type(f) is Table:
        points, values = np.array(f.points), np.array(f.values)
        slopes = np.append(np.diff(values) / np.diff(points), 0)
        return Gate(TABLE, np.stack([points, values, slopes]).astype(_F))
    return None


def _gate_with(kind: int, number: float) -> Gate:
    return Gate(kind, np.full((3, 1), number, _F))


def can_pass(*tensors: Tensor) -> bool:
    """Whether the compiled pass takes these: on the CPU, in one row each, float32 (the second, the gradient, bfloat16
    too)."""
    kinds = (torch.float32, torch.bfloat16)
    return all(
        tensor.device.type == "cpu" and tensor.is_contiguous() and tensor.dtype in kinds[: 2 if i == 1 else 1]
        for i, tensor in enumerate(tensors)
    )


def adam(
    hidden: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    gate: Gate,
    *,
    decay: float,
    betas: tuple[float, float],
    step_size: float,
    root_correction: float,
    eps: float,
    signs: Tensor | None = None,
) -> bool:
    """One step of Adam in place; returns whether all new weights are finite.

    signs: int8 or float32 of the same shape, gets +1 and -1. Tensors as `can_pass` says.
    """
    arrays = [_row(hidden), _row(gradient), _row(mean), _row(square), _signs(signs)]
    numbers = (decay, 1 - betas[0], betas[1], 1 - betas[1], step_size, root_correction, eps)
    scalars = np.array(numbers, _F)

    def part(start: int, end: int) -> bool:
        return _adam(*(array[start:end] for array in arrays), scalars, gate.kind, gate.numbers)

    return in_parts(part, hidden.numel(), TILE)


def sgd(
    hidden: Tensor,
    gradient: Tensor,
    buffer: Tensor | None,
    gate: Gate,
    *,
    decay: float,
    momentum: float,
    keep: float,
    lr: float,
    signs: Tensor | None = None,
) -> bool:
    """One step of SGD in place: buffer <- momentum * buffer + keep * g; the rest as for `adam`.

    buffer: None without momentum.
    """
    moving = np.empty(0, _F) if buffer is None else _row(buffer)
    arrays = [_row(hidden), _row(gradient), moving, _signs(signs)]
    scalars = np.array((decay, momentum, keep, lr), _F)

    def part(start: int, end: int) -> bool:
        return _sgd(*(array[start:end] for array in arrays), scalars, gate.kind, gate.numbers)

    return in_parts(part, hidden.numel(), TILE)


def _row(tensor: Tensor) -> np.ndarray:
    flat = tensor.detach().view(-1)
    return flat.view(torch.int16).numpy() if flat.dtype == torch.bfloat16 else flat.numpy()


def _signs(signs: Tensor | None) -> np.ndarray:
    return np.empty(0, np.int8) if signs is None else signs.view(-1).numpy()


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
    return p * _as_float((k + np.int32(127)) << np.int32(23))


def _widen(gradient: Any, g: Any) -> None:
    """float32, or bfloat16 as int16, into the float32 of a tile."""


@overload(_widen)
def _widen_of_type(gradient, g):  # type: ignore[no-untyped-def]
    if gradient.dtype == types.int16:

        def widen(gradient, g):  # type: ignore[no-untyped-def]
            for i in range(gradient.size):
                g[i] = _as_float(np.int32(gradient[i]) << np.int32(16))
    else:

        def widen(gradient, g):  # type: ignore[no-untyped-def]
            for i in range(gradient.size):
                g[i] = gradient[i]

    return widen


@njit(**_options)
def _gate(h, u, kind, numbers):  # type: ignore[no-untyped-def]
    """u <- u * f(h) where sign(h) * u > 0."""
    p = numbers[0, 0]
    if kind == TANH2:
        for i in range(h.size):
            e = _exp(abs(h[i]) * p)
            r = e / (e + _ONE)
            u[i] *= _F(4) * r * (_ONE - r) if (u[i] > _ZERO) == (h[i] >= _ZERO) else _ONE
    elif kind == EXPONENTIAL:
        for i in range(h.size):
            u[i] *= _exp(abs(h[i]) * p) if (u[i] > _ZERO) == (h[i] >= _ZERO) else _ONE
    elif kind == LINEAR:
        for i in range(h.size):
            f = _ONE - min(abs(h[i]) / p, _ONE)
            u[i] *= f if (u[i] > _ZERO) == (h[i] >= _ZERO) else _ONE
    elif kind == QUADRATIC:
        for i in range(h.size):
            r = min(abs(h[i]) / p, _ONE)
            u[i] *= (_ONE - r) * (_ONE + r) if (u[i] > _ZERO) == (h[i] >= _ZERO) else _ONE
    elif kind == TABLE:
        points, values, slopes = numbers[0], numbers[1], numbers[2]
        for i in range(h.size):
            if (u[i] > _ZERO) == (h[i] >= _ZERO):
                distance = abs(h[i])
                piece = min(np.searchsorted(points, distance, side="right") - 1, points.size - 2)
                line = values[piece] + slopes[piece] * (distance - points[piece])
                u[i] *= max(line, values[piece + 1])


@njit(**_options)
def _take(h, u, signs):  # type: ignore[no-untyped-def]
    """h <- h - u, and its signs; returns whether all are finite."""
    largest = np.int32(0)  # of the bits without the sign: infinity and what is no number have the largest exponent
    for i in range(h.size):
        h[i] -= u[i]
        largest = max(largest, _bits_of(h[i]) & np.int32(0x7FFFFFFF))
    for i in range(signs.size):
        signs[i] = np.int8(1) if h[i] >= _ZERO else np.int8(-1)
    return largest < np.int32(0x7F800000)


@njit(**_options)
def _adam(hidden, gradient, mean, square, signs, scalars, kind, numbers):  # type: ignore[no-untyped-def]
    decay, keep1, beta2, keep2, step_size, root_correction, eps = scalars
    g, u = np.empty(TILE, _F), np.empty(TILE, _F)
    finite = True
    for start in range(0, hidden.size, TILE):
        end = min(start + TILE, hidden.size)
        h, m, s = hidden[start:end], mean[start:end], square[start:end]
        _widen(gradient[start:end], g)
        for i in range(h.size):
            slope = g[i] + decay * h[i]
            m[i] += keep1 * (slope - m[i])
            s[i] = beta2 * s[i] + keep2 * slope * slope
            u[i] = m[i] * step_size / (np.sqrt(s[i]) / root_correction + eps)
        _gate(h, u, kind, numbers)
        finite &= _take(h, u, signs[start:end])
    return finite


@njit(**_options)
def _sgd(hidden, gradient, buffer, signs, scalars, kind, numbers):  # type: ignore[no-untyped-def]
    decay, momentum, keep, lr = scalars
    g, u = np.empty(TILE, _F), np.empty(TILE, _F)
    finite = True
    for start in range(0, hidden.size, TILE):
        end = min(start + TILE, hidden.size)
        h, b = hidden[start:end], buffer[start:end]
        _widen(gradient[start:end], g)
        for i in range(h.size):
            g[i] += decay * h[i]
        for i in range(b.size):
            b[i] = g[i] = momentum * b[i] + keep * g[i]
        for i in range(h.size):
            u[i] = lr * g[i]
        _gate(h, u, kind, numbers)
        finite &= _take(h, u, signs[start:end])
    return finite
