"""Models that PyTorch's own toolkit trained to be quantized (torch.ao): read as they are, or refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.ao import quantization

import lava_meta
from lava_meta.errors import ConversionError

OPTIONS: dict[str, Any] = {"mean": 0.0, "std": 1.0, "input_shape": (1, 8, 8)}


def trained(settings: quantization.QConfig) -> nn.Module:
    """A network whose observers have seen random images; they are still on."""
    torch.manual_seed(0)
    parts = [nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU()]
    ends = quantization.QuantStub(), quantization.DeQuantStub()
    model = nn.Sequential(ends[0], *parts, nn.Flatten(), nn.Linear(96, 5), ends[1]).train()
    model.qconfig = settings
    fused = quantization.fuse_modules_qat(model, [["1", "2", "3"], ["4", "5"]])
    quantization.prepare_qat(fused, inplace=True)
    for _ in range(3):
        fused(torch.rand(32, 1, 8, 8))
    return fused.eval()


def few_bits() -> quantization.QConfig:
    values, weights = quantization.MovingAverageMinMaxObserver, quantization.MovingAveragePerChannelMinMaxObserver
    made = quantization.FakeQuantize.with_args(observer=values, quant_min=0, quant_max=15, dtype=torch.quint8)
    given = quantization.FakeQuantize.with_args(
        observer=weights, quant_min=-8, quant_max=7, dtype=torch.qint8, qscheme=torch.per_channel_symmetric, ch_axis=0
    )
    return quantization.QConfig(activation=made, weight=given)


@pytest.mark.parametrize("settings", [few_bits(), quantization.get_default_qat_qconfig("fbgemm")])
def test_fake_quantizers_compute_what_pytorchs_do(settings: quantization.QConfig) -> None:
    model = trained(settings)
    model.apply(quantization.disable_observer)
    net = lava_meta.convert(model, **OPTIONS)
    levels = np.random.default_rng(0).integers(0, 256, (100, 1, 8, 8)).astype(np.uint8)
    with torch.no_grad():
        theirs = model(torch.from_numpy(levels) / 255).numpy()
    close = np.abs(net.graph.readout.values(net.graph.sums(levels)) - theirs).max(axis=1) < 1e-6
    assert close.mean() > 0.8  # of the others float32 rounds a value to the next level
    assert len(np.unique(theirs.argmax(axis=1))) > 2


def test_observers_that_are_on_are_refused() -> None:
    with pytest.raises(ConversionError, match=r"0.activation_post_process .* call model.apply\(.*disable_observer\)"):
        lava_meta.convert(trained(few_bits()), **OPTIONS)


def test_integer_modules_are_refused() -> None:
    model = quantization.quantize_dynamic(nn.Sequential(nn.Flatten(), nn.Linear(64, 5)).eval(), {nn.Linear})
    with pytest.raises(ConversionError, match=r"1 \(Linear\) computes with integers .* before torch.ao.quantization"):
        lava_meta.convert(model, **OPTIONS)
