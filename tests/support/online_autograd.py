"""What one image teaches a readout, by torch's autograd."""

from __future__ import annotations

import numpy as np
import torch


def readout_step(hidden: np.ndarray, x: np.ndarray, label: int, lr: float) -> np.ndarray:
    """lr * sqrt(n) * dL/dh, L the cross-entropy of w x / sqrt(n), w = sign(h) with the straight-through estimator.

    The factor sqrt(n) takes back that of the logits, which the on-line rule leaves to the learning rate.
    hidden: float32 (n, classes), x: +1 and -1 (1, n).
    """
    h = torch.tensor(hidden, requires_grad=True)
    weight = h + (torch.where(h >= 0, 1.0, -1.0) - h).detach()
    scale = x.shape[1] ** 0.5
    logits = torch.tensor(x, dtype=torch.float32) @ weight / scale
    torch.nn.functional.cross_entropy(logits, torch.tensor([label])).backward()
    assert h.grad is not None
    return (lr * h.grad.numpy() * scale).astype(np.float32)
