"""Leaky integrate-and-fire units for training, all time steps of a layer at once.

    m_t = beta m_(t-1) + current_t - threshold s_(t-1),   s_t = 1 if m_t > threshold, else 0     from rest

Backwards through time the reset is a constant, and a spike has the derivative of an arc tangent:

    dm_t = ds_t / (1 + (pi (m_t - threshold))**2) + beta dm_(t+1),   dcurrent_t = dm_t

which is snnTorch's `Leaky` with its defaults, spike for spike: compiled, for tensors of the CPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lava_meta.jit import njit


def leaky_spikes(current: Tensor, steps: int, beta: float, threshold: float) -> Tensor:
    """Spikes (steps, ...) of currents (steps, ...), or of one current (1, ...) that is held.

    Source: snnTorch, `Leaky` (Eshraghian et al. 2023); the derivative is that of Fang et al. 2021.
    """
    if current.device.type != "cpu" or current.dtype != torch.float32 or len(current) not in (1, steps):
        raise ValueError(
            f"current is {current.dtype} {tuple(current.shape)} on {current.device}; give float32 ({steps}, ...) or "
            "(1, ...) on the CPU"
        )
    spikes: Tensor = _LeakySpikes.apply(current, steps, beta, threshold)
    return spikes


class _LeakySpikes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, current: Tensor, steps: int, beta: float, threshold: float) -> Tensor:
        potentials, spikes = (current.new_empty(steps, *current.shape[1:]) for _ in range(2))
        ctx.constants, ctx.given = (np.float32(beta), np.float32(threshold)), current.shape
        _integrate(*(_rows(part) for part in (current, potentials, spikes)), *ctx.constants)
        ctx.save_for_backward(potentials)
        return spikes

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None, None]:
        (potentials,) = ctx.saved_tensors
        found = torch.zeros(ctx.given)
        _integrate_back(*(_rows(part) for part in (grads[0], potentials, found)), *ctx.constants)
        return found, None, None, None


def _rows(tensor: Tensor) -> Any:
    """(steps, units)."""
    return tensor.detach().contiguous().reshape(len(tensor), -1).numpy()


@njit(cache=True, nogil=True)
def _integrate(current: Any, potentials: Any, spikes: Any, beta: Any, threshold: Any) -> None:
    zero, one = np.float32(0), np.float32(1)
    for t in range(len(potentials)):
        now, before = current[min(t, len(current) - 1)], potentials[max(t - 1, 0)]
        for j in range(potentials.shape[1]):
            m = before[j] if t else zero
            reset = threshold if m - threshold > zero else zero
            m = beta * m + now[j] - reset
            potentials[t, j] = m
            spikes[t, j] = one if m - threshold > zero else zero


@njit(cache=True, nogil=True)
def _integrate_back(gradient: Any, potentials: Any, found: Any, beta: Any, threshold: Any) -> None:
    """Adds to `found`, whose one row is that of a held current."""
    one, pi = np.float32(1), np.float32(np.pi)
    later = np.zeros(potentials.shape[1], np.float32)
    for t in range(len(potentials) - 1, -1, -1):
        into = found[min(t, len(found) - 1)]
        for j in range(len(later)):
            distance = pi * (potentials[t, j] - threshold)
            later[j] = gradient[t, j] / (one + distance * distance) + beta * later[j]
            into[j] += later[j]
