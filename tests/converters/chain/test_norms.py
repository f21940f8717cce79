"""Norms of one image's own statistics: exact in rationals, equal to PyTorch but for exact ties, which are counted."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from given_models import to_graph
from torch import nn

import lava_meta
from lava_meta.converters.chain.folding import fold
from lava_meta.converters.lava import LavaNetwork
from lava_meta.converters.parity.chain import check, domain_images
from lava_meta.errors import ConversionError
from lava_meta.graph import BinaryGraph
from lava_meta.graph.norm import GroupNorm
from lava_meta.graph.packed.network import PackedNetwork
from lava_meta.nn import BinaryConv2d, BinaryLinear, FixedNorm, Pixels, SampleNorm, Sign


def by_hand(norm: GroupNorm, sums: np.ndarray) -> np.ndarray:
    """Sign of `gain * (z - mean) / sqrt(var + eps) + bias` in fractions, by squaring; loops only."""
    out = np.zeros(sums.shape, int)
    units = sums.shape[1]
    size = units // norm.groups
    for image in range(len(sums)):
        for first in range(0, units, size):
            row = norm.row if norm.row.size else np.zeros(units, int)
            z = [Fraction(int(sums[image, k])) - norm.origin * int(row[k]) for k in range(first, first + size)]
            mean = sum(z) / size
            spread = sum((value - mean) ** 2 for value in z) / size + norm.epsilon
            for k, value in enumerate(z):
                channel = (first + k) * norm.gain.size // units
                left = Fraction(float(norm.gain[channel])) * (value - mean)
                bias = Fraction(float(norm.bias[channel]))
                # left / sqrt(spread) + bias has the sign of left * |left| + bias * |bias| * spread.
                both = left * abs(left) + bias * abs(bias) * spread
                out[image, first + k] = (both > 0) - (both < 0)
    return out


@pytest.mark.parametrize("seed", range(12))
def test_the_order_is_that_of_fractions(seed: int) -> None:
    """Small sums and epsilons that are squares, so that ties off the mean are frequent and float64 cannot decide."""
    rng = np.random.default_rng(seed)
    size, groups = int(rng.integers(1, 6)), int(rng.integers(1, 4))
    units = size * groups
    count = int(rng.choice([1, units]))
    origin = Fraction(rng.choice([0.0, 3.0, 2.5, 0.1]))
    norm = GroupNorm(
        groups,
        rng.choice([1.0, -1.0, 0.0, 0.3, 2.0], count),
        rng.choice([0.0, 0.5, -1.0, 1.0, 0.3], count),
        Fraction(rng.choice([1, 2, 0.25, 1e-5])),
        origin,
        rng.integers(-2, 3, units if origin else 0),
    )
    sums = rng.integers(-4, 5, (200, units))
    sums[0] = 3
    expected = by_hand(norm, sums)
    assert np.array_equal(norm.order(sums), expected)
    assert np.array_equal(norm.fires(sums), expected >= 0)


def test_ties_off_the_mean_are_found() -> None:
    """Sums 1 and -1 with epsilon 3: (1 - 0) / sqrt(1 + 3) = 1/2, a bias of -1/2 ties exactly."""
    norm = GroupNorm(1, np.ones(2), np.full(2, -0.5), Fraction(3), Fraction(0), np.zeros(0, np.int64))
    assert norm.order(np.array([[1, -1], [5, 5]])).tolist() == [[0, -1], [-1, -1]]


def test_nearer_than_float64_can_tell_is_decided_and_called_a_tie() -> None:
    """Half of the sums 0, half S: S/2 / sqrt(S**2 / 4 + eps) is 1 - 2 eps / S**2, which float64 rounds to 1."""
    norm = GroupNorm(1, np.ones(2), np.array([-1.0, 1.0]), Fraction(1e-5), Fraction(0), np.zeros(0, np.int64))
    sums = np.array([[393210, 0], [3, 0]])
    assert norm.order(sums).tolist() == by_hand(norm, sums).tolist() == [[-1, 1], [-1, 1]]
    assert norm.ties(sums).tolist() == [[True, True], [False, False]]


def _images_norm(rng: np.random.Generator, shape: tuple[int, ...]) -> nn.Module:
    channels = shape[0]
    groups = [g for g in range(1, channels + 1) if channels % g == 0]
    kinds = [nn.LayerNorm(shape), nn.GroupNorm(int(rng.choice(groups)), channels)]
    if len(shape) == 3:
        kinds += [nn.InstanceNorm2d(channels, affine=True), nn.LayerNorm(shape[2])]
    return kinds[rng.integers(len(kinds))]


def random_net(seed: int) -> tuple[nn.Sequential, tuple[int, ...]]:
    """Dense and convolutional nets with such norms everywhere; gains of both signs and zero, biases mostly not 0."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    pixels = Pixels(float(rng.choice([0, 40, 127.5, 33.3])), float(rng.choice([1, 0.02])))
    if seed % 2:
        shape: tuple[int, ...] = (int(rng.integers(1, 80)),)
        a, b = (int(n) for n in rng.integers(1, 70, 2))
        modules = [BinaryLinear(shape[0], a), _images_norm(rng, (a,)), nn.Hardtanh(), Sign()]
        modules += [BinaryLinear(a, b), FixedNorm(0.3), _images_norm(rng, (b,)), Sign(), BinaryLinear(b, 3)]
    else:
        shape = (2, 7, 6)
        modules = [BinaryConv2d(2, 4, 3, padding=1, groups=2), _images_norm(rng, (4, 7, 6)), nn.MaxPool2d(2), Sign()]
        modules += [BinaryConv2d(4, 6, 2), nn.AvgPool2d((2, 1), 1), _images_norm(rng, (6, 1, 2)), Sign()]
        modules += [nn.Flatten(), BinaryLinear(12, 3), nn.LayerNorm(3)]
    model = nn.Sequential(pixels, *modules)
    with torch.no_grad():
        for norm in list(model)[:-1]:
            if isinstance(norm, (nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d)):
                norm.weight.copy_(torch.randn(norm.weight.shape))
                norm.weight[torch.rand(norm.weight.shape) < 0.1] = 0.0
                norm.bias.copy_(torch.randn(norm.bias.shape))
                norm.bias[torch.rand(norm.bias.shape) < 0.3] = 0.0
    return model.eval(), shape


@pytest.mark.parametrize("seed", range(20))
def test_random_networks_convert_exactly(seed: int, tmp_path: Path) -> None:
    model, shape = random_net(seed)
    folded = fold(model, input_shape=shape)
    graph = folded.graph
    images = domain_images(graph, 64, seed)
    parity = check(model, folded, images=images)
    assert parity.exact, (parity.mismatches, parity.ties)
    expected = graph.activations(images)
    found = PackedNetwork(graph).activations(graph.check_images(images))
    for name, values in expected.items():
        assert np.array_equal(found[name], values), name
    graph.save(tmp_path / "net")
    loaded = BinaryGraph.load(tmp_path / "net")
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "net").read_bytes()
    assert np.array_equal(loaded.sums(images), expected["readout"])


def test_the_ties_of_torchs_own_rounding_are_counted_apart() -> None:
    """Without a bias, sums equal their mean often; PyTorch's mean is rounded, ours is not."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(Pixels(8, max_level=16), BinaryLinear(20, 12), nn.LayerNorm(12), Sign()),
        *(BinaryLinear(12, 9), nn.LayerNorm(9), Sign(), BinaryLinear(9, 3)),
    ).eval()
    folded = fold(model)
    graph = folded.graph
    assert [layer.centred for layer in graph.layers] == [True, True]  # the form that NIR carries too
    parity = check(model, folded, count=2000)
    assert parity.exact
    assert sum(parity.ties.values()) > 0
    assert "exact ties float64 rounds" in str(parity)
    same = nn.Sequential(*(SampleNorm() if isinstance(m, nn.LayerNorm) else m for m in model)).eval()
    assert not any(check(same, fold(same), count=2000).ties.values())


def test_a_wrong_bias_is_no_tie() -> None:
    model, shape = random_net(3)
    before = fold(model, input_shape=shape).graph
    with torch.no_grad():
        model[2].bias += 0.2
    assert not check(model, replace(fold(model, input_shape=shape), graph=before)).exact


def test_running_statistics_of_instance_norm_are_thresholds() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(Pixels(90), BinaryConv2d(1, 4, 3), nn.InstanceNorm2d(4, affine=True, track_running_stats=True), Sign()),
        *(nn.Flatten(), BinaryLinear(64, 3)),
    )
    for _ in range(3):
        model(torch.randint(0, 256, (50, 1, 6, 6)))
    folded = fold(model.eval(), input_shape=(1, 6, 6))
    graph = folded.graph
    assert graph.layers[0].norm is None
    assert check(model, folded, count=200).exact


@pytest.mark.lava
@pytest.mark.parametrize(("seed", "form"), [(10, "packed"), (10, "floating_pt"), (11, "fixed_pt")])
def test_lava_gives_the_oracles_signs(seed: int, form: str) -> None:
    model, shape = random_net(seed)
    graph = lava_meta.convert(model, input_shape=shape).graph
    assert any(layer.norm is not None for layer in graph.layers)
    images = domain_images(graph, 37, 3)
    with LavaNetwork(graph, form=form) as net:
        found = net.activations(images, lanes=8)
    for name, values in graph.activations(images).items():
        assert np.array_equal(found[name], values), name


def _conv(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(Pixels(), BinaryConv2d(1, 2, 3), *modules, Sign(), nn.Flatten(), BinaryLinear(72, 2)).eval()


def _dense(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(Pixels(), BinaryLinear(64, 4), Sign(), BinaryLinear(4, 4), *modules).eval()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (_conv(nn.MaxPool2d(3, 1, 1), nn.InstanceNorm2d(2)), r"3 \(InstanceNorm2d\) norms what 2 \(MaxPool2d\) has"),
        (_conv(nn.Hardtanh(), nn.InstanceNorm2d(2)), r"3 \(InstanceNorm2d\) norms what 2 \(Hardtanh\) gives"),
        (_conv(nn.InstanceNorm2d(2), nn.GroupNorm(1, 2)), r"3 \(GroupNorm\) and 2 \(InstanceNorm2d\) stand in one"),
        (_conv(nn.InstanceNorm2d(2), nn.Hardtanh(0.5, 1)), r"3 \(Hardtanh\) and 2 \(InstanceNorm2d\)"),
        (_conv(nn.GroupNorm(1, 3)), r"2 \(GroupNorm\) takes 3 channels, but the layer before it gives \(2, 6, 6\)"),
        (_conv(nn.LayerNorm([6, 7])), r"2 \(LayerNorm\) norms \(6, 7\), but the layer before it gives \(2, 6, 6\)"),
        (_conv(nn.AdaptiveAvgPool2d(1), nn.InstanceNorm2d(2)), r"3 \(InstanceNorm2d\) norms each .* \(1x1\)"),
        (_dense(nn.LayerNorm(4, eps=0)), r"4 \(LayerNorm\) has eps=0, with which equal sums give NaN"),
        (_conv(nn.LayerNorm(6, eps=0)), r"2 \(LayerNorm\) has eps=0, with which equal sums give NaN"),
        (_conv(nn.GroupNorm(1, 2, eps=-1.0)), r"2 \(GroupNorm\) has eps=-1"),
        (_dense(nn.GroupNorm(2, 4)), r"4 \(GroupNorm\) stands behind the readout"),
    ],
)
def test_what_cannot_be_converted_is_refused_by_name(model: nn.Module, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        to_graph(model, input_shape=(1, 8, 8))


def _trained(norm: nn.Module) -> nn.Module:
    shape = (9, norm.num_features, 3, 3)
    norm(100 * torch.randn(shape if "2d" in type(norm).__name__ else shape[:2]))
    return norm


@pytest.mark.parametrize("readout", [False, True])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("BatchNorm1d", name) for name in ("weight", "bias", "running_mean", "running_var")),
        *(("LayerNorm", name) for name in ("weight", "bias")),
        ("GroupNorm", "weight"),
    ],
)
def test_nan_is_refused_by_the_norms_name(kind: str, name: str, readout: bool) -> None:
    norm = {"BatchNorm1d": nn.BatchNorm1d(4), "LayerNorm": nn.LayerNorm(4), "GroupNorm": nn.GroupNorm(1, 4)}[kind]
    norm(100 * torch.randn(9, 4))
    with torch.no_grad():
        getattr(norm, name)[1] = float("nan")
    modules = [Sign(), BinaryLinear(4, 4), norm] if readout else [norm, Sign(), BinaryLinear(4, 4)]
    model = nn.Sequential(Pixels(99), BinaryLinear(64, 4), *modules).eval()
    with pytest.raises(ConversionError, match=rf"\({kind}\) has NaN or infinity in its {name}"):
        to_graph(model)


@pytest.mark.parametrize("value", [float("inf"), -float("inf")])
def test_an_infinite_bias_is_a_unit_that_always_fires_or_never(value: float) -> None:
    norm = nn.BatchNorm1d(4)
    norm(100 * torch.randn(9, 4))
    nn.init.constant_(norm.bias, value)
    model = nn.Sequential(Pixels(99), BinaryLinear(64, 4), norm, Sign(), BinaryLinear(4, 3)).eval()
    folded = fold(model)
    graph = folded.graph
    assert check(model, folded).exact
    assert (graph.activations(np.zeros((1, 64), np.uint8))["hidden1"] == np.sign(value)).all()


def test_a_variance_that_eps_does_not_make_positive_is_refused_by_name() -> None:
    for eps, variance in ((0.0, 0.0), (1e-5, -1.0)):
        norm = nn.BatchNorm1d(4)
        norm(100 * torch.randn(9, 4))
        norm.eps, norm.running_var[2] = eps, variance
        norm.running_mean[2] = 0.0
        for modules in ([norm, Sign(), BinaryLinear(4, 4)], [Sign(), BinaryLinear(4, 4), norm]):
            model = nn.Sequential(Pixels(), BinaryLinear(64, 4), *modules).eval()
            with pytest.raises(ConversionError, match=r"\(BatchNorm1d\) gives .*: its variance plus eps"):
                to_graph(model)


@pytest.mark.parametrize("change", [{"groups": 0}, {"epsilon": Fraction(0)}, {"gain": np.ones(2, np.float32)}])
def test_fields_that_do_not_fit_are_refused(change: dict) -> None:
    fields = {
        "groups": 1,
        "gain": np.ones(2),
        "bias": np.ones(2),
        "epsilon": Fraction(1),
        "origin": Fraction(0),
        "row": np.zeros(0, np.int64),
    }
    with pytest.raises(ValueError, match="norm"):
        GroupNorm(**fields | change)  # type: ignore[arg-type]
