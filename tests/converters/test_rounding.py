"""Weights rounded on request: what they become beside plain arithmetic, what changes, and what then fits a chip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from published_forms import fed, images, made
from torch import nn

import lava_meta
from lava_meta.errors import ConversionError
from lava_meta.graph import BinaryGraph
from lava_meta.loihi.stock import plan


@pytest.mark.parametrize(("form", "bits"), [("real ends", 8), ("paper VGG", 8), ("PACT", 4), ("two heads", 8)])
def test_rounded_weights_fit_a_chip_and_the_agreement_is_what_is_measured(form: str, bits: int) -> None:
    model, options = made(form)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    levels = images(form, 300, 5)
    net = lava_meta.convert(model, bits=bits, images=levels, **options)
    assert net.parity.exact
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    widths = {layer.node.weight.bits_each for layer in net.graph.placed.values() if hasattr(layer.node, "weight")}
    assert widths <= {1, 8}
    largest = max(
        int(np.abs(x.node.weight.values).max()) for x in net.graph.placed.values() if hasattr(x.node, "weight")
    )
    assert 1 < largest <= 2 ** (bits - 1) - 1
    assert plan(net.graph)
    with torch.no_grad():
        given = model(fed(form, levels).float())
    theirs = (given[options["output"]] if isinstance(given, dict) else given).argmax(1).numpy()
    assert net.agreement.images == 300
    assert net.agreement.equal == int((net.graph.predict(levels) == theirs).sum())
    assert net.agreement.share > 0.8


def test_scales_are_those_of_each_output(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 3, bias=False)).eval()
    with torch.no_grad():
        model[0].weight[1] *= 100
    levels = np.random.default_rng(0).integers(0, 256, (50, 12))
    net = lava_meta.convert(model, raw=True, bits=8, images=levels)
    weight = model[0].weight.detach().double().numpy()
    scale = np.abs(weight).max(axis=1, keepdims=True) / 127
    assert np.array_equal(net.graph.nodes["0.linear"].weight.values, np.rint(weight / scale))
    assert np.allclose(net.graph.readout.scale, scale[:, 0], rtol=1e-12)
    net.save(tmp_path / "net.safetensors")
    assert lava_meta.load(tmp_path / "net.safetensors").agreement == net.agreement


def test_a_chain_of_binary_layers_has_nothing_to_round() -> None:
    model, options = lava_meta.BinaryMLP((8, 6, 3), seed=0).eval(), {}
    levels = np.random.default_rng(0).integers(0, 256, (20, 8))
    net = lava_meta.convert(model, bits=4, images=levels, **options)
    assert isinstance(net.graph, BinaryGraph)
    assert net.agreement.equal == 20


def test_bad_arguments() -> None:
    model, options = made("real ends")
    levels = images("real ends", 2, 0)
    with pytest.raises(ValueError, match="bits and images belong together"):
        lava_meta.convert(model, bits=8, **options)
    for bits in (1, 9, True, 8.0):
        with pytest.raises(ValueError, match="2 to 8 bits"):
            lava_meta.convert(model, bits=bits, images=levels, **options)  # type: ignore[arg-type]
    with pytest.raises((ConversionError, ValueError), match="images"):
        lava_meta.convert(model, bits=8, images=levels[:, :, :4], **options)
