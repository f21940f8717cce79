"""Layers from elsewhere: registered ones convert by their parts, checked against the layer itself."""

from __future__ import annotations

import pytest
import torch
from given_models import to_graph
from torch import Tensor, nn

from lava_meta.converters import register
from lava_meta.converters import registry as module_under_test
from lava_meta.converters.chain.folding import fold
from lava_meta.converters.parity.chain import check
from lava_meta.converters.registry import Affine
from lava_meta.errors import ConversionError
from lava_meta.nn import BinaryLinear, FixedNorm, Pixels, Sign


@pytest.fixture(autouse=True)
def _registry_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_under_test, "_PARTS", dict(module_under_test._PARTS))


def _binarize(layer: nn.Linear | nn.Conv2d, each: bool) -> None:
    """Weights of +c and -c, one c for each unit or one for all."""
    with torch.no_grad():
        sizes = layer.weight.abs().flatten(1).mean(dim=1 if each else (0, 1), keepdim=True)
        layer.weight.copy_((torch.where(layer.weight >= 0, 1.0, -1.0).flatten(1) * sizes).view_as(layer.weight))


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_layers_of_torch_with_weights_of_one_size_convert(seed: int, bias: bool, each: bool) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(Pixels(100), nn.Conv2d(2, 5, (2, 3), stride=2, padding=1, bias=bias), nn.MaxPool2d(2), nn.Hardtanh(), Sign()),
        *(nn.Flatten(), nn.Linear(20, 9, bias=bias), Sign(), nn.Linear(9, 4, bias=bias)),
    ).eval()
    for layer in model:
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            _binarize(layer, each)
    parity = check(model, fold(model, input_shape=(2, 7, 9)), count=200, seed=seed)
    assert parity.exact, parity.mismatches


class Clipped(nn.Linear):
    """Signs of the weights times a learned scale."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.3 * nn.functional.linear(x, torch.where(self.weight >= 0, 1.0, -1.0).to(x)) - 2.0


def _parts(layer: Clipped) -> list[nn.Module]:
    binary = BinaryLinear(layer.in_features, layer.out_features)
    binary.weight.data = layer.weight.data
    return [binary, Affine(torch.full((layer.out_features,), 0.3), torch.full((layer.out_features,), -2.0))]


def _model() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(Pixels(90), Clipped(20, 16), Sign(), Clipped(16, 16), Sign(), BinaryLinear(16, 4)).eval()


def test_a_registered_layer_converts() -> None:
    with pytest.raises(ConversionError, match=r"1\.\w+ \(.*in the forward of 1 \(Clipped\)"):
        to_graph(_model())
    register(Clipped, _parts)
    parity = check(_model(), fold(_model()), count=200)
    assert parity.exact, parity.mismatches


def test_parts_that_compute_something_else_are_found_out() -> None:
    register(Clipped, lambda layer: [_parts(layer)[0], FixedNorm(0.3)])
    parity = check(_model(), fold(_model()), count=200)
    assert parity.mismatches["hidden2"] > 0


def test_what_a_layer_refuses_is_refused_with_its_place() -> None:
    def refuse(layer: Clipped) -> list[nn.Module]:
        raise ConversionError("has seen better days")

    register(Clipped, refuse)
    with pytest.raises(ConversionError, match=r"1 \(Clipped\) has seen better days"):
        to_graph(_model())


@pytest.mark.parametrize("kind", [Clipped(2, 2), int, "Linear"])
def test_only_classes_of_modules_can_be_registered(kind: object) -> None:
    with pytest.raises(TypeError, match="is not a class of modules"):
        register(kind, _parts)  # type: ignore[arg-type]


@pytest.mark.parametrize("padding_mode", ["reflect", "circular"])
def test_other_padding_than_zeros_is_refused(padding_mode: str) -> None:
    layer = nn.Conv2d(1, 2, 3, padding=1, padding_mode=padding_mode)
    _binarize(layer, each=True)
    model = nn.Sequential(Pixels(), layer, Sign(), nn.Flatten(), BinaryLinear(128, 2)).eval()
    with pytest.raises(ConversionError, match=rf"1 \(Conv2d\) pads with {padding_mode}"):
        to_graph(model, input_shape=(1, 8, 8))
