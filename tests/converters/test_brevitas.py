"""Brevitas' binary layers, where Brevitas is installed."""

from __future__ import annotations

import pytest
import torch
from given_models import to_graph
from torch import nn

from lava_meta.converters.chain.folding import fold
from lava_meta.converters.parity.chain import check
from lava_meta.errors import ConversionError
from lava_meta.nn import BinaryLinear, Pixels

qnn = pytest.importorskip("brevitas.nn")
quant = pytest.importorskip("brevitas.quant")

WEIGHTS = {"weight_quant": quant.SignedBinaryWeightPerTensorConst}
SIGNS = {"act_quant": quant.SignedBinaryActPerTensorConst}


def dense(seed: int, **options: object) -> nn.Sequential:
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(Pixels(90), qnn.QuantLinear(30, 17, bias=True, **WEIGHTS), qnn.QuantIdentity(**SIGNS, **options)),
        *(qnn.QuantLinear(17, 12, bias=False, **WEIGHTS), nn.BatchNorm1d(12), qnn.QuantHardTanh(**SIGNS, **HARD)),
        qnn.QuantLinear(12, 4, bias=True, **WEIGHTS),
    )
    model(torch.randint(0, 256, (50, 30)).float())
    return model.eval()


HARD = {"min_val": -1.0, "max_val": 1.0}


@pytest.mark.parametrize("seed", range(5))
def test_dense_networks_convert_exactly(seed: int) -> None:
    model = dense(seed)
    parity = check(model, fold(model), count=300, seed=seed)
    assert parity.exact, parity.mismatches


@pytest.mark.parametrize("seed", range(5))
def test_convolutional_networks_convert_exactly(seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(Pixels(90), qnn.QuantConv2d(2, 6, (3, 2), padding=1, groups=2, bias=True, **WEIGHTS), nn.BatchNorm2d(6)),
        *(nn.MaxPool2d(2), qnn.QuantIdentity(**SIGNS), qnn.QuantConv2d(6, 4, 3, bias=False, **WEIGHTS)),
        *(nn.BatchNorm2d(4), qnn.QuantIdentity(**SIGNS), nn.Flatten(), qnn.QuantLinear(16, 3, bias=True, **WEIGHTS)),
    )
    for _ in range(2):
        model(torch.randint(0, 256, (30, 2, 8, 7)).float())
    with torch.no_grad():
        model[2].weight.copy_(torch.randn(6))
    model.eval()
    parity = check(model, fold(model, input_shape=(2, 8, 7)), count=100, seed=seed)
    assert parity.exact, parity.mismatches


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (lambda: qnn.QuantLinear(8, 4, bias=False), r"1 \(QuantLinear\) has weights other than \+c and -c"),
        (lambda: qnn.QuantLinear(8, 4, bias=False, **WEIGHTS, input_quant=SIGNS["act_quant"]), "has an input_quant"),
        (lambda: qnn.QuantLinear(8, 4, bias=False, **WEIGHTS, return_quant_tensor=True), "return_quant_tensor=True"),
    ],
)
def test_other_layers_are_refused_by_name(module, message: str) -> None:  # type: ignore[no-untyped-def]
    model = nn.Sequential(Pixels(), module(), qnn.QuantIdentity(**SIGNS), BinaryLinear(4, 2)).eval()
    with pytest.raises(ConversionError, match=message):
        to_graph(model)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (lambda: qnn.QuantIdentity(), r"2 \(QuantIdentity\) is no binary activation"),
        (lambda: qnn.QuantIdentity(**SIGNS, scaling_init=0.1), r"2 \(QuantIdentity\) gives \+-0.1; only \+-1"),
    ],
)
def test_other_activations_are_refused_by_name(module, message: str) -> None:  # type: ignore[no-untyped-def]
    model = nn.Sequential(Pixels(), BinaryLinear(8, 4), module(), BinaryLinear(4, 2)).eval()
    with pytest.raises(ConversionError, match=message):
        to_graph(model)
