"""`leaky_spikes` beside snnTorch's `Leaky`, unrolled."""

from __future__ import annotations

import pytest
import torch

from lava_meta.nn import leaky_spikes

snn = pytest.importorskip("snntorch")


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize(("beta", "threshold"), [(0.9, 1.0), (0.5, 0.3), (1.0, 2.5), (0.0, 0.4), (0.8, -0.2)])
def test_spikes_are_snntorchs_and_gradients_too(beta: float, threshold: float, *, held: bool) -> None:
    torch.manual_seed(0)
    steps = 12
    current = (torch.randn(1 if held else steps, 40, 30) + 0.3).requires_grad_()
    weight = torch.randn(steps, 40, 30)
    unit, mem, spikes = snn.Leaky(beta=beta, threshold=threshold), torch.zeros(40, 30), []
    for step in range(steps):
        spike, mem = unit(current[0 if held else step], mem)
        spikes.append(spike)
    wanted = torch.stack(spikes)
    (gradient,) = torch.autograd.grad((wanted * weight).sum(), current)
    found = leaky_spikes(current, steps, beta, threshold)
    assert torch.equal(found, wanted)
    assert 0.02 < wanted.mean() < 0.98
    torch.testing.assert_close(torch.autograd.grad((found * weight).sum(), current)[0], gradient, rtol=1e-5, atol=1e-6)


def test_what_does_not_fit_is_refused() -> None:
    for current in (torch.zeros(3, 5), torch.zeros(4, 5, dtype=torch.float64), torch.zeros(4, 5, device="meta")):
        with pytest.raises(ValueError, match=r"give float32 \(4, ...\)"):
            leaky_spikes(current, 4, 0.9, 1.0)
