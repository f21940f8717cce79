"""The optimizers' steps on a GPU as one Triton kernel per parameter: decay, moments, gate and update of each weight.

A sequence of torch calls moves every temporary through the GPU's memory: some 100 bytes per weight. Here weight,
gradient and moments are read once and written once, 28 bytes with Adam. The equations and the order of operations are
those of `lava_meta.optim.clear`, the reference implementation; roundings differ (fused multiply-adds, the GPU's own
exp, sqrt and division), so steps agree within some units in the last place.

The consolidation functions of closed form are part of the kernel, one compilation each; for a table, or a function of
the user's own, the shares f(h) are computed by torch before the kernel, which reads them: 12 more bytes at least.
Which functions the expressions below are for is said once, in `lava_meta/rule/gates.py`.

Importing this file needs Triton, which torch brings along where it is built for CUDA; see `lava_meta.optim.gpu`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from lava_meta.optim import clear
from lava_meta.optim.form import AdamNumbers, SgdNumbers, Weight
from lava_meta.rule import Consolidation, sign
from lava_meta.rule.gates import closed_form

BLOCK = 1024
"""Weights that one program works on."""


@triton.jit
def _share(size, shares, place, inside, number, floor, GATE: tl.constexpr):  # type: ignore[no-untyped-def]
    """F at |h| = size. number, floor: the parameters of the gate, as `_gate_of` gives them."""
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
    elif GATE == "towards":
        share = 1.0 - (1.0 - floor) * tl.minimum(size / number, 1.0)
    elif GATE == "towards2":
        left = 1.0 - tl.minimum(size / number, 1.0)
        share = 1.0 - (1.0 - floor) * (1.0 - left * left)
    elif GATE == "given":
        share = tl.load(shares + place, mask=inside)
    else:
        share = tl.full(size.shape, 1.0, tl.float32)
    return share


@triton.jit
def _after(  # type: ignore[no-untyped-def]
    h,
    u,
    shares,
    growing,
    place,
    inside,
    number,
    floor,
    number2,
    floor2,
    GATE: tl.constexpr,
    GROW: tl.constexpr,
):
    """Hidden weight h after the step u, whose gates are GATE and, of growing steps, GROW."""
    size = tl.abs(h)
    share = _share(size, shares, place, inside, number, floor, GATE)
    shrinks = (u > 0.0) == (h >= 0.0)
    return h - u * tl.where(shrinks, share, _share(size, growing, place, inside, number2, floor2, GROW))


@triton.jit
def _adam(  # type: ignore[no-untyped-def]
    hidden,
    gradient,
    mean,
    square,
    correction1,
    correction2,
    shares,
    growing,
    n,
    decay,
    keep1,
    beta2,
    keep2,
    lr,
    eps,
    number,
    floor,
    number2,
    floor2,
    GATE: tl.constexpr,
    GROW: tl.constexpr,
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
    h = _after(h, u, shares, growing, place, inside, number, floor, number2, floor2, GATE, GROW)
    tl.store(hidden + place, h, mask=inside)


@triton.jit
def _sgd(  # type: ignore[no-untyped-def]
    hidden,
    gradient,
    buffer,
    rate,
    shares,
    growing,
    n,
    decay,
    momentum,
    keep,
    lr,
    number,
    floor,
    number2,
    floor2,
    MOVING: tl.constexpr,
    RATE_THERE: tl.constexpr,
    GATE: tl.constexpr,
    GROW: tl.constexpr,
    BLOCK: tl.constexpr,
):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < n
    h = tl.load(hidden + place, mask=inside)
    g = tl.load(gradient + place, mask=inside) + decay * h
    if MOVING:
        g = momentum * tl.load(buffer + place, mask=inside) + keep * g
        tl.store(buffer + place, g, mask=inside)
    if RATE_THERE:
        lr = tl.load(rate).to(tl.float32)
    h = _after(h, lr * g, shares, growing, place, inside, number, floor, number2, floor2, GATE, GROW)
    tl.store(hidden + place, h, mask=inside)


def takes(weight: Weight, *kept: Tensor) -> bool:
    """Whether the kernels do this step: contiguous float32, fewer than 2**31 elements. They take any gate."""
    tensors = (weight.hidden, weight.gradient, *kept)
    return all(t.dtype == torch.float32 and t.is_contiguous() and t.numel() < 2**31 for t in tensors)


def adam(
    weight: Weight, moments: tuple[Tensor, Tensor], corrections: tuple[Tensor, Tensor], numbers: AdamNumbers
) -> bool:
    """One step of Adam in place. See `lava_meta.optim.form.Form`; signs may be of any type.

    corrections: float64 () on the device.
    """
    decay, (beta1, beta2), lr, eps = numbers
    tensors = (weight.gradient, *moments, *corrections)
    return _launch(_adam, weight, tensors, (decay, 1 - beta1, beta2, 1 - beta2, lr, eps))


def sgd(weight: Weight, buffer: Tensor | None, numbers: SgdNumbers) -> bool:
    """One step of SGD in place; the rest as for `adam`."""
    moving = weight.hidden if buffer is None else buffer  # something must stand in its place
    rate, lr = (numbers.lr, 0.0) if isinstance(numbers.lr, Tensor) else (weight.hidden, numbers.lr)
    options = {"MOVING": buffer is not None, "RATE_THERE": rate is numbers.lr}
    return _launch(_sgd, weight, (weight.gradient, moving, rate), (*numbers[:-1], lr), **options)


def mean_square(gradient: Tensor) -> Tensor:
    """The mean of the gradient's squares, by torch's own kernels."""
    return clear.mean_square(gradient)


def _gate_of(f: Consolidation, hidden: Tensor) -> tuple[str, float, float, Tensor]:
    """The gate's name in the kernel, its numbers, and its shares if it has no name there (else anything)."""
    form = closed_form(f)
    return (*form, hidden) if form else ("given", 0.0, 0.0, f(hidden))


def _launch(kernel: Any, weight: Weight, tensors: Sequence[Tensor], numbers: Sequence[float], **options: Any) -> bool:
    """Run a kernel on all elements, then write the signs. True: nothing here looks whether weights are finite."""
    hidden, n = weight.hidden, weight.hidden.numel()
    gate, *parameters, shares = _gate_of(weight.f, hidden)
    grow, *parameters2, growing = _gate_of(weight.grow, hidden)
    options |= {"GATE": gate, "GROW": grow, "BLOCK": BLOCK}
    # Whole numbers would be another type, and compile another kernel.
    scalars = map(float, (*numbers, *parameters, *parameters2))
    with torch.cuda.device_of(hidden):
        kernel[(triton.cdiv(n, BLOCK),)](hidden, *tensors, shares, growing, n, *scalars, **options)
    if weight.signs is not None:
        weight.signs.copy_(sign(hidden))
    return True
