"""First layers on other inputs than pixels: signed features, signs, and inputs that the model binarizes itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from given_models import to_graph
from torch import nn

import lava_meta
from lava_meta.converters.chain.folding import fold, prepare
from lava_meta.converters.lava import LavaNetwork
from lava_meta.converters.parity.chain import check, domain_images, model_activations
from lava_meta.errors import ConversionError
from lava_meta.graph import BinaryGraph
from lava_meta.graph.packed.network import PackedNetwork
from lava_meta.nn import BinaryConv2d, BinaryLinear, FixedNorm, Pixels, SampleNorm, Sign

INT8, INT16 = (-128, 127), (-32768, 32767)


def dense(*front: nn.Module, seed: int = 0, norm: str = "batch") -> nn.Sequential:
    """70-33-9-4 behind `front`, with thresholds amid the sums."""
    torch.manual_seed(seed)
    middle = nn.BatchNorm1d(33) if norm == "batch" else SampleNorm()
    model = nn.Sequential(
        *(*front, BinaryLinear(70, 33), middle, nn.Hardtanh(), Sign()),
        *(BinaryLinear(33, 9), FixedNorm(0.1), Sign(), BinaryLinear(9, 4)),
    )
    return _trained(model, (70,), seed)


def convolutional(*front: nn.Module, seed: int = 0) -> nn.Sequential:
    """Two convolutions with padding, groups, means and pooling behind `front`."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(*front, BinaryConv2d(2, 6, (3, 2), padding=1, groups=2), nn.AvgPool2d(2, stride=1), nn.BatchNorm2d(6)),
        *(nn.MaxPool2d(2), Sign(), BinaryConv2d(6, 3, 3, padding=1), Sign(), nn.Flatten(), BinaryLinear(36, 4)),
    )
    return _trained(model, (2, 8, 9), seed)


def _trained(model: nn.Sequential, shape: tuple[int, ...], seed: int) -> nn.Sequential:
    """Statistics of random inputs, gains of both signs and zero."""
    pixels = [module for module in model if isinstance(module, Pixels)]
    low, high = (pixels[0].min_level, pixels[0].max_level) if pixels else (0, 1)
    images = torch.from_numpy(np.random.default_rng(seed).integers(low, high + 1, (60, *shape)))
    for _ in range(3):
        model(images if pixels else 2.0 * images - 1)
    with torch.no_grad():
        for norm in model.modules():
            if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
                norm.weight.copy_(torch.randn(norm.weight.shape))
                norm.weight[::5] = 0.0
                norm.bias.copy_(torch.randint(-1, 2, norm.bias.shape).float() / 2)
    return model.eval()


def models() -> dict[str, tuple[nn.Sequential, dict]]:
    """By name: a model and the options that its conversion takes."""
    shape = {"input_shape": (2, 8, 9)}
    return {
        "int8": (dense(Pixels(-3, 1, *INT8[::-1])), {}),
        "int8 scaled": (dense(Pixels.standardize(0.1, 0.4, *INT8[::-1]), norm="batch"), {}),
        "int8 layer norm": (dense(Pixels(5, 1, *INT8[::-1]), norm="layer"), {}),
        "uneven": (dense(Pixels(-40, 1, 100, -90)), {}),
        "int16": (dense(Pixels(1000, 1, *INT16[::-1])), {}),
        "int16 conv": (convolutional(Pixels(1000, 1, *INT16[::-1])), shape),
        "int8 conv": (convolutional(Pixels(-17, 1, *INT8[::-1])), shape),
        "ternary conv": (convolutional(Pixels(0, 1, 1, -1)), shape),
        "signs": (dense(), {"signs": True}),
        "signs conv": (convolutional(), {"signs": True, **shape}),
        "binarized": (dense(Pixels(128), Sign()), {}),
        "binarized conv": (convolutional(Pixels(90), Sign()), shape),
        "binarized by a norm": (dense(Pixels(100), nn.BatchNorm1d(70), nn.Hardtanh(), Sign()), {}),
        "binarized by a norm, conv": (convolutional(Pixels(100), nn.BatchNorm2d(2), Sign()), shape),
        "binarized int8": (dense(Pixels(-20, 1, *INT8[::-1]), Sign()), {}),
        "features straight into classes": (nn.Sequential(Pixels(3, 1, *INT8[::-1]), BinaryLinear(70, 5)).eval(), {}),
        "signs straight into classes": (nn.Sequential(BinaryLinear(70, 5)).eval(), {"signs": True}),
    }


MODELS = models()


@pytest.mark.parametrize("name", MODELS)
def test_model_oracle_and_packed_form_agree(name: str, tmp_path: Path) -> None:
    model, options = MODELS[name]
    folded = fold(model, **options)
    graph = folded.graph
    images = domain_images(graph, 200, 7)
    parity = check(model, folded, images=images)
    assert parity.exact, parity.mismatches
    assert ("inputs" in parity.mismatches) == name.startswith("binarized")
    expected = graph.activations(images)
    for lanes in (1, 7, 64):  # bit planes and products of bytes
        found = PackedNetwork(graph).activations(graph.check_images(images[:lanes]))
        for layer, values in expected.items():
            assert np.array_equal(found[layer], values[:lanes]), layer
    varied = expected["hidden1" if graph.layers else "readout"]
    assert (varied.min(axis=0) != varied.max(axis=0)).mean() > 0.3
    graph.save(tmp_path / "net")
    loaded = BinaryGraph.load(tmp_path / "net")
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "net").read_bytes()
    assert np.array_equal(loaded.sums(images), expected["readout"])


@pytest.mark.lava
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("int8", "fixed_pt"),
        ("int16 conv", "packed"),
        ("int16 conv", "floating_pt"),
        ("binarized by a norm, conv", "packed"),
        ("binarized by a norm", "floating_pt"),
        ("signs", "packed"),
    ],
)
def test_lava_gives_every_sign_and_class_of_the_float64_model(name: str, form: str) -> None:
    model, options = MODELS[name]
    graph = lava_meta.convert(model, **options).graph
    images = domain_images(graph, 37, 3)
    inputs = torch.from_numpy(images.reshape(-1, *graph.input_shape).astype(np.float64))
    expected = model_activations(prepare(model), inputs)
    with LavaNetwork(graph, form=form) as net:
        found = net.activations(images, lanes=8)
        classes = net.predict(images, lanes=8)
    for layer in found:
        if layer != "readout":
            assert np.array_equal(found[layer], expected[layer]), layer
    assert np.array_equal(classes, expected["readout"].argmax(axis=1))


@pytest.mark.parametrize("seed", range(4))
def test_normalised_features_without_pixels(seed: int) -> None:
    torch.manual_seed(seed)
    model = _trained(nn.Sequential(BinaryLinear(20, 9), nn.BatchNorm1d(9), Sign(), BinaryLinear(9, 3)), (20,), seed)
    options = {"mean": 0.02, "std": 0.43, "max_level": 127, "min_level": -128}
    assert check(model, fold(model, **options), count=200).exact  # type: ignore[arg-type]


def test_files_of_pixels_have_the_version_they_always_had(tmp_path: Path) -> None:
    """Readers of earlier versions read them still, and refuse the others by their version."""
    versions = {}
    for name in ("int8", "signs", "binarized"):
        to_graph(MODELS[name][0], **MODELS[name][1]).save(tmp_path / name)
        versions[name] = b'\\"version\\": 3' in (tmp_path / name).read_bytes()
    to_graph(dense(Pixels(128))).save(tmp_path / "pixels")
    versions["pixels"] = b'\\"version\\": 1' in (tmp_path / "pixels").read_bytes()
    assert all(versions.values()), versions


@pytest.mark.parametrize(
    ("name", "images", "error", "message"),
    [
        (
            "int8",
            np.full((2, 70), 0.5),
            TypeError,
            "float64 and hold 0.5; this network takes signed integers -128 to 127",
        ),
        ("uneven", np.full((2, 70), -91), ValueError, "features run from -91 to -91; this network takes -90 to 100"),
        ("uneven", np.full((2, 70), 101), ValueError, "features run from 101 to 101"),
        ("signs", np.zeros((2, 70), np.int8), ValueError, r"network of \+1 and -1 received another value"),
        ("signs", np.full((2, 70), 0.5), TypeError, r"this network takes the integers \+1 and -1"),
        ("binarized", np.full((2, 70), 256), ValueError, "this network takes 0 to 255"),
    ],
)
def test_inputs_of_another_range_or_type_are_refused(
    name: str, images: np.ndarray, error: type[Exception], message: str
) -> None:
    graph = to_graph(MODELS[name][0], **MODELS[name][1])
    with pytest.raises(error, match=message):
        graph.predict(images)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("uneven", -91, "features run from -91"), ("uneven", 101, "to 101"), ("signs", 0, "another value")],
)
def test_the_kernels_refuse_what_the_ports_may_bring(name: str, value: int, message: str) -> None:
    graph = to_graph(MODELS[name][0], **MODELS[name][1])
    inputs = np.full((3, 70), value).astype(graph.dtype)
    with pytest.raises(ValueError, match=message):
        PackedNetwork(graph).predict(inputs)


def _net(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(*modules, BinaryLinear(8, 2)).eval()


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (_net(Pixels(), nn.BatchNorm1d(8)), {}, r"1 \(BatchNorm1d\) stands before the first binary layer; without a"),
        (_net(Pixels(), nn.GELU(), Sign()), {}, r"1 \(GELU\) stands before the first binary layer; only"),
        (_net(Pixels(), Sign(), nn.Hardtanh()), {}, r"2 \(Hardtanh\) stands before the first"),
        (_net(Sign(), Pixels()), {}, r"1 \(Pixels\) must be the first module"),
        (_net(Pixels()), {"signs": True}, r"signs=True is for a model whose first layer takes"),
        (_net(), {"signs": True, "mean": 0.0, "std": 1.0}, r"signs=True is for"),
        (_net(), {}, r"signs=True if it takes \+1 and -1"),
        (_net(Pixels(0, 1, 2**16)), {}, "max_level is 65536; pixels have 1 to 16 bits"),
        (_net(Pixels(0, 1, 2**15, -5)), {}, "levels run from -5 to 32768; signed features"),
    ],
)
def test_what_no_network_takes_is_refused(model: nn.Module, options: dict, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        to_graph(model, **options)


def test_levels_that_are_none() -> None:
    with pytest.raises(ValueError, match="min_level is 3"):
        Pixels(min_level=3)


@pytest.mark.parametrize(("gain", "offset"), [(0.0, 0.0), (float("nan"), 0.0), (1.0, float("inf")), (-1.0, 0.0)])
def test_a_scale_of_no_numbers_is_refused_by_value(gain, offset):
    model = nn.Sequential(Pixels(), BinaryLinear(8, 4)).eval()
    model[0].gain.fill_(gain)
    model[0].offset.fill_(offset)
    with pytest.raises(ConversionError, match="Pixels has a gain of"):
        to_graph(model)
