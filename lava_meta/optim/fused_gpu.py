"""The optimizers' steps on a GPU as one Triton kernel a parameter: decay, moments, gate and update of each weight.

A sequence of torch calls moves every temporary through the GPU's memory: some 100 bytes a weight. Here weight, gradient
and moments are read once and written once, 28 bytes with Adam. The equations and the order of operations are those of
`lava_meta.optim`, which is the oracle; roundings differ (fused multiply-adds, the GPU's own exp, sqrt and division), so
steps agree within some units in the last place.

The consolidation functions of closed form are part of the kernel, one compilation each; for a table, or a function of
the user's own, the shares f(h) are computed by torch before the kernel, which reads them: 12 more bytes at least.

Importing this file needs Triton, which torch brings along where it is built for CUDA; see `lava_meta.optim.gpu`.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from lava_meta.rule import Consolidation, sign
from lava_meta.rule.gates import closed_form

BLOCK = 1024
"""Weights that one program works on."""


@triton.jit
def _after(h, u, shares, place, inside, number, GATE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Hidden weight h after the step u. number: the parameter of the gate, as `_gate_of` gives it."""
    size = tl.abs(h)
    if GATE == "tanh2":
        e = tl.exp(size * number)
        share = 4.0 * e / ((e + 1.0) * (e + 1.0))
    elif GATE == "exponential":
        share = tl.exp(size * number)
    elif GATE == "linear":
        share = 1.0 - tl.minimum(size / number, 1.0)
    elif GATE == "quadratic":
        r = tl.minimum(size / number, 1.0)
        share = (1.0 - r) * (1.0 + r)
    elif GATE == "given":
        share = tl.load(shares + place, mask=inside)
    else:
        share = 1.0
    shrinks = (u > 0.0) == (h >= 0.0)
    return h - tl.where(shrinks, u * share, u)


@triton.jit
def _adam(  # type: ignore[no-untyped-def]
    hidden,
    gradient,
    mean,
    square,
    correction1,
    correction2,
    shares,
    n,
    decay,
    keep1,
    beta2,
    keep2,
    lr,
    eps,
    number,
    GATE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < n
    step_size = lr / tl.load(correction1).to(tl.float32)
    root = tl.sqrt(tl.load(correction2).to(tl.float32))
    h = tl.load(hidden + place, mask=inside)
    m = tl.load(mean + place, mask=inside)
    s = tl.load(square + place, mask=inside)
    g = tl.load(gradient + place, mask=inside) + decay * h
    m = m + keep1 * (g - m)
    s = beta2 * s + keep2 * g * g
    u = m * step_size / (tl.sqrt(s) / root + eps)
    tl.store(mean + place, m, mask=inside)
    tl.store(square + place, s, mask=inside)
    tl.store(hidden + place, _after(h, u, shares, place, inside, number, GATE), mask=inside)


@triton.jit
def _sgd(  # type: ignore[no-untyped-def]
    hidden,
    gradient,
    buffer,
    shares,
    n,
    decay,
    momentum,
    keep,
    lr,
    number,
    MOVING: tl.constexpr,
    GATE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < n
    h = tl.load(hidden + place, mask=inside)
    g = tl.load(gradient + place, mask=inside) + decay * h
    if MOVING:
        g = momentum * tl.load(buffer + place, mask=inside) + keep * g
        tl.store(buffer + place, g, mask=inside)
    tl.store(hidden + place, _after(h, lr * g, shares, place, inside, number, GATE), mask=inside)


def can_pass(*tensors: Tensor) -> bool:
    """Whether the kernels take these: float32, in one row each, fewer than 2**31 elements."""
    return all(t.dtype == torch.float32 and t.is_contiguous() and t.numel() < 2**31 for t in tensors)


def adam(
    hidden: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    f: Consolidation,
    corrections: tuple[Tensor, Tensor],
    *,
    decay: float,
    betas: tuple[float, float],
    lr: float,
    eps: float,
    signs: Tensor | None = None,
) -> None:
    """One step of Adam in place. corrections: 1 - beta**t of both moments, float64 () on the device.

    signs: any type, the same shape, gets +1 and -1. Tensors as `can_pass` says.
    """
    gate, number, shares = _gate_of(f, hidden)
    # Whole numbers would be another type, and compile another kernel.
    numbers = map(float, (decay, 1 - betas[0], betas[1], 1 - betas[1], lr, eps, number))
    _launch(_adam, hidden, gradient, mean, square, *corrections, shares, hidden.numel(), *numbers, GATE=gate)
    if signs is not None:
        signs.copy_(sign(hidden))


def sgd(
    hidden: Tensor,
    gradient: Tensor,
    buffer: Tensor | None,
    f: Consolidation,
    *,
    decay: float,
    momentum: float,
    keep: float,
    lr: float,
    signs: Tensor | None = None,
) -> None:
    """One step of SGD in place: buffer <- momentum * buffer + keep * g; the rest as for `adam`.

    buffer: None without momentum.
    """
    gate, number, shares = _gate_of(f, hidden)
    moving = hidden if buffer is None else buffer  # something must stand in its place
    numbers = map(float, (decay, momentum, keep, lr, number))
    _launch(_sgd, hidden, gradient, moving, shares, hidden.numel(), *numbers, MOVING=buffer is not None, GATE=gate)
    if signs is not None:
        signs.copy_(sign(hidden))


def _gate_of(f: Consolidation, hidden: Tensor) -> tuple[str, float, Tensor]:
    """The gate's name in the kernel, its number, and its shares if it has no name there (else anything)."""
    form = closed_form(f)
    return (*form, hidden) if form else ("given", 0.0, f(hidden))


def _launch(kernel: Any, hidden: Tensor, *arguments: Any, **options: Any) -> None:
    with torch.cuda.device_of(hidden):
        kernel[(triton.cdiv(hidden.numel(), BLOCK),)](hidden, *arguments, **options, BLOCK=BLOCK)
