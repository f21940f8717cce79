"""Conversion of dense networks is exact to the model in float64, ties, inverted and zero gains included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from edges import assert_two_signs_a_unit
from given_models import network, to_graph
from torch import nn
from values import Call

from lava_meta import LavaNetwork, convert
from lava_meta.converters.chain.folding import fold
from lava_meta.converters.parity.chain import check, domain_images
from lava_meta.errors import ConversionError
from lava_meta.graph import AcyclicGraph, BinaryGraph
from lava_meta.nn import (
    AbsStep,
    BinaryLinear,
    BinaryMLP,
    FixedNorm,
    Pixels,
    SampleNorm,
    Sign,
    TaskBatchNorm,
    recalibrate,
    use_statistics,
)
from lava_meta.nn.networks import Norm


def _randomize_norms(model: nn.Module, generator: torch.Generator) -> None:
    """Gains of both signs and zero, offsets, and statistics that put thresholds amid the sums."""
    for norm in model.modules():
        if isinstance(norm, (TaskBatchNorm, nn.BatchNorm1d)):
            gain, offset = (norm.gain, norm.offset) if isinstance(norm, TaskBatchNorm) else (norm.weight, norm.bias)
            with torch.no_grad():
                gain.copy_(torch.randn(gain.shape, generator=generator))
                gain[torch.rand(gain.shape, generator=generator) < 0.2] = 0.0
                offset.copy_(torch.randint(-1, 2, offset.shape, generator=generator).float())


@pytest.mark.parametrize("norm", ["fixed", "batch", "layer"])
@pytest.mark.parametrize("seed", range(5))
def test_units_of_0_and_1_become_two_units_of_signs(norm: Norm, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = [int(n) for n in rng.integers(2, 70, 4)]
    model = BinaryMLP(sizes, norm, activation="abs_step", pixel_mean=100.0, seed=seed)
    if norm == "batch":
        recalibrate(model, torch.from_numpy(rng.integers(0, 256, (50, sizes[0]))))
        _randomize_norms(model, torch.Generator().manual_seed(seed))
    model = model.eval().double().requires_grad_(False)
    net = convert(model)
    assert isinstance(net.graph, BinaryGraph)
    assert net.parity.exact, net.parity
    assert net.parity.compared == 64 * (2 * sum(sizes[1:-1]) + 1)
    assert (net.parity.probes > 0) == (norm != "layer")  # whose thresholds are statistics of the image
    assert_two_signs_a_unit(model, net.graph, rng.integers(0, 256, (200, sizes[0])), layers=2)


def test_units_of_0_and_1_elsewhere_are_any_function_of_the_sums() -> None:
    norm = nn.LayerNorm(20)
    nn.init.normal_(norm.bias)
    for between in (
        [norm, AbsStep()],
        [FixedNorm(0.3), AbsStep(), Sign()],
        [nn.LayerNorm(20), AbsStep(), AbsStep(0.5)],
    ):
        model = nn.Sequential(Pixels(), BinaryLinear(30, 20), *between, BinaryLinear(20, 5)).eval()
        net = convert(model)
        assert isinstance(net.graph, AcyclicGraph)
        assert net.parity.exact
    gained = nn.LayerNorm(20, bias=False)
    nn.init.normal_(gained.weight)
    net = convert(nn.Sequential(Pixels(offset=90), BinaryLinear(30, 20), gained, AbsStep(), BinaryLinear(20, 5)).eval())
    assert isinstance(net.graph, BinaryGraph)
    assert net.parity.exact


def test_units_of_0_and_1_as_stock_processes() -> None:
    images = np.random.default_rng(0).integers(0, 256, (64, 30))
    model = BinaryMLP([30, 20, 20, 5], activation="abs_step", pixel_mean=100.0, seed=0).eval()
    graph = convert(model).graph
    assert (LavaNetwork(graph, form="stock").predict(images) == graph.predict(images)).all()
    with pytest.raises(ConversionError, match="hidden1"):
        LavaNetwork(convert(BinaryMLP([30, 20, 5], "layer", activation="abs_step", seed=0).eval()).graph, form="stock")


@pytest.mark.parametrize("norm", ["fixed", "batch", "layer"])
@pytest.mark.parametrize("seed", range(20))
def test_random_networks_convert_exactly(norm: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = [int(n) for n in rng.integers(1, 70, int(rng.integers(2, 5)))]
    model = BinaryMLP(sizes, norm=norm, pixel_mean=float(rng.integers(0, 200)), seed=seed)
    if norm == "batch":
        recalibrate(model, torch.from_numpy(rng.integers(0, 256, (50, sizes[0]))))
        _randomize_norms(model, torch.Generator().manual_seed(seed))
    model.eval()
    parity = check(model, fold(model), count=128, seed=seed)
    assert parity.exact, parity
    assert parity.compared == 128 * (sum(sizes[1:-1]) + 1)


@pytest.mark.parametrize("seed", range(10))
def test_ties_are_real_and_fire(seed: int) -> None:
    """With even fan-in and the fixed norm, sums of exactly 0 occur, and the model and the graph both fire on them."""
    model = BinaryMLP([64, 32, 32, 4], pixel_mean=10, seed=seed).eval()
    folded = fold(model)
    graph = folded.graph
    images = domain_images(graph, 400, seed)
    signs = graph.activations(images)["hidden1"].astype(np.int64)
    sums = signs @ np.where(graph.layers[1].weight, 1, -1).T
    assert (sums == 0).sum() > 100
    assert (graph.activations(images)["hidden2"][sums == 0] == 1).all()
    assert check(model, folded, images=images).exact


def test_sums_of_normalised_floats_that_tie_are_counted_apart() -> None:
    """Pixels whose sum by integers is exactly 0 fire; the model's float64 comes out on either side of 0."""
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Flatten(), BinaryLinear(6, 8), FixedNorm(0.5), Sign(), BinaryLinear(8, 3)).eval()
    with torch.no_grad():
        model[1].weight[:] = torch.tensor([0.1, 0.1, 0.1, -0.1, -0.1, -0.1])
    options = {"mean": 0.1307, "std": 0.3081}
    left = rng.integers(0, 256, (500, 3))
    images = np.concatenate([left, rng.permuted(left, axis=1)], axis=1).astype(np.uint8)
    images[:100, 0] ^= 1  # and some that are one level off
    parity = check(model, fold(model, **options), images=images)
    assert parity.exact
    assert parity.mismatches["hidden1"] == 0 < parity.ties["hidden1"] <= 400 * 8


@pytest.mark.parametrize("seed", range(5))
def test_plain_sequential_with_torch_norms_and_normalised_floats(seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Flatten(),
        nn.Sequential(BinaryLinear(49, 33), nn.BatchNorm1d(33), nn.Hardtanh(), nn.Dropout(0.3), Sign()),
        nn.Sequential(BinaryLinear(33, 21), SampleNorm(), nn.Identity(), Sign()),
        *(BinaryLinear(21, 10), nn.BatchNorm1d(10)),
    )
    for _ in range(5):
        model(torch.randn(64, 7, 7))
    _randomize_norms(model, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        model[4].weight[:] += 0.1
    model.eval()
    folded = fold(model, mean=0.1307, std=0.3081, input_shape=(1, 7, 7))
    parity = check(model, folded, count=256, seed=seed)
    assert parity.exact, parity


def test_constant_units_of_a_zero_gain() -> None:
    model = nn.Sequential(Pixels(3), BinaryLinear(6, 3), nn.BatchNorm1d(3), Sign(), BinaryLinear(3, 2)).eval()
    model[2].num_batches_tracked += 1
    with torch.no_grad():
        model[2].weight.zero_()
        model[2].bias.copy_(torch.tensor([-1.0, 0.0, 1.0]))
    graph = to_graph(model)
    signs = graph.activations(domain_images(graph, 64, 0))["hidden1"]
    assert (signs == np.array([-1, 1, 1])).all()


def test_threshold_of_the_fixed_norm_is_the_one_derived_by_hand() -> None:
    """Layer 1: fire iff W x >= c R; hidden: iff the sum is at least 0."""
    model = BinaryMLP([784, 64, 64, 10], pixel_mean=33.3, pixel_std=78.6, seed=1).eval()
    graph = to_graph(model)
    row = np.where(model[2].weight.detach().numpy() >= 0, 1, -1).sum(axis=1)
    assert (graph.layers[0].threshold == 33 * row).all()
    # Sums of 64 signs are even, so a threshold of -1 and one of 0 are the same comparison.
    assert np.isin(graph.layers[1].threshold, (-1, 0)).all()
    assert (graph.readout.scale == 1).all()
    assert not graph.readout.offset.any()


def test_a_batch_norm_network_converts_one_named_task() -> None:
    rng = np.random.default_rng(0)
    model = BinaryMLP([30, 20, 5], norm="batch", tasks=2, seed=0)
    images = [torch.from_numpy(rng.integers(low, low + 90, (80, 30))) for low in (0, 150)]
    for task in (0, 1):
        recalibrate(model, images[task], task)
    model.eval()
    folded = [fold(model, task=task) for task in (0, 1)]
    assert (folded[0].graph.layers[0].threshold != folded[1].graph.layers[0].threshold).any()
    for task in (0, 1):
        assert check(model, folded[task], images=images[task].numpy()).exact
    with pytest.raises(ValueError, match="tasks 0 to 1"):
        to_graph(model, task=2)


def test_the_model_is_left_as_it_was() -> None:
    model = BinaryMLP([30, 20, 5], norm="batch", statistics="stored", tasks=2, seed=0)
    model.train()(torch.randint(0, 256, (50, 30)))
    model.select_task(1)
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    to_graph(model, task=0)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)
    assert not model.training


def test_float32_rounding_is_counted_not_hidden() -> None:
    """A threshold within float32 rounding of a sum: float64 and float32 differ, and the self-check says so."""
    model = nn.Sequential(Pixels(0), BinaryLinear(1, 1), FixedNorm(1.0), nn.BatchNorm1d(1), Sign(), BinaryLinear(1, 2))
    with torch.no_grad():
        model[1].weight.fill_(1.0)
        model[3].running_mean.fill_(100.0)
        model[3].running_var.fill_(1.0)
        model[3].num_batches_tracked += 1
        model[3].bias.fill_(-1e-7)
    model.eval()
    parity = check(model, fold(model), images=np.full((4, 1), 100, np.uint8))
    assert parity.exact
    assert parity.own["hidden1"] in (0, 4)
    assert "0 mismatches" in str(parity)


def _mlp() -> BinaryMLP:
    return BinaryMLP([12, 8, 4], seed=0).eval()


class _OwnForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = BinaryLinear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(x)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (BinaryMLP([12, 8, 4], seed=0), r"training mode: call model.eval\(\)"),
        (
            nn.Sequential(Pixels(), BinaryLinear(4, 4), nn.GELU()).eval(),
            "GELU.*not supported; supported are .*BinaryLinear",
        ),
        (nn.Sequential(Pixels(), nn.Linear(4, 4)).eval(), r"1 \(Linear\) has weights other than \+c and -c"),
        (nn.Sequential(BinaryLinear(4, 4)).eval(), "pass mean= and std="),
        (nn.Sequential(Pixels()).eval(), "no BinaryLinear"),
        (nn.Sequential(Pixels(), _OwnForward()).eval(), r"1.add \(add\) in the forward of 1 \(_OwnForward\)"),
        (nn.Sequential(Pixels(), BinaryLinear(4, 4), BinaryLinear(4, 2)).eval(), "without a sign"),
        (nn.Sequential(Pixels(), BinaryLinear(4, 4), Sign()).eval(), "readout, but a sign"),
        (BinaryMLP([12, 8, 4], norm="batch").eval(), "statistics of each batch.*use_statistics"),
        (
            BinaryMLP([12, 8, 4], norm="batch", statistics="stored").eval(),
            "no statistics for task index 0.*recalibrate",
        ),
        (
            nn.Sequential(Pixels(), BinaryLinear(4, 4), nn.BatchNorm1d(4), Sign(), BinaryLinear(4, 2)).eval(),
            "no running statistics",
        ),
        (
            nn.Sequential(
                Pixels(), BinaryLinear(4, 4), SampleNorm(), nn.BatchNorm1d(4), Sign(), BinaryLinear(4, 2)
            ).eval(),
            "one norm a layer",
        ),
    ],
)
def test_what_cannot_be_converted_is_refused_by_name(model: nn.Module, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        to_graph(model)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    model = _mlp()
    with torch.no_grad():
        model[2].weight[0, 0] = value
    with pytest.raises(ConversionError, match=r"2 \(BinaryLinear\) has hidden weights that are not finite"):
        to_graph(model)


def test_scaling_given_twice_is_refused() -> None:
    with pytest.raises(ConversionError, match="normalises its own pixels"):
        to_graph(_mlp(), mean=0.1, std=0.3)


def test_stored_statistics_after_training_convert() -> None:
    model = BinaryMLP([30, 20, 5], norm="batch", seed=3)
    for _ in range(10):
        model(torch.randint(0, 256, (40, 30)))
    use_statistics(model, "stored")
    model.eval()
    assert check(model, fold(model), count=200).exact


class _LogSoftmax(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.log_softmax(x, dim=1)


class _SoftmaxMethod(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.softmax(-1).float()


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.LogSoftmax(-1), _LogSoftmax(), _SoftmaxMethod()], ids=repr)
def test_a_softmax_at_the_end_leaves_the_network_as_it_is(last: nn.Module) -> None:
    model = network(behind=(nn.BatchNorm1d(10),))
    expected = to_graph(model, mean=0, std=1)
    ended = nn.Sequential(*model, last, nn.Identity()).eval()
    folded = fold(ended, mean=0, std=1)
    graph = folded.graph
    images = domain_images(graph, 200, 1)
    assert np.array_equal(graph.activations(images)["readout"], expected.activations(images)["readout"])
    with torch.no_grad():
        own = ended(torch.from_numpy(images).float() / 255).argmax(dim=1).numpy()
    assert np.array_equal(graph.predict(images), own)
    assert check(ended, folded).exact


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (network(behind=(nn.Softmax(0),)), r"4 \(Softmax\) has dim=0, which mixes images"),
        (network(behind=(nn.Softmax(1), nn.Hardtanh())), r"5 \(Hardtanh\) stands behind 4 \(Softmax\), which only the"),
        (network(nn.Softmax(1), Sign()), r"3 \(Sign\) stands behind 2 \(Softmax\)"),
        (network(Sign(), nn.LogSoftmax(1)), r"3 \(LogSoftmax\) stands behind a sign activation"),
    ],
)
def test_a_softmax_elsewhere_is_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        to_graph(model, mean=0, std=1)


@pytest.mark.parametrize(
    "signs",
    [
        (Sign(), Sign()),
        (nn.Dropout(), nn.Flatten(), nn.Identity(), nn.AlphaDropout(), Sign(), nn.Dropout1d()),
        (Call(torch.sign), Sign()),
        (Sign(), Call(torch.sign)),
        (Sign(), Call(lambda x: torch.where(x > 0, 1.0, -1.0))),
    ],
)
def test_signs_of_signs_and_modules_that_do_nothing_change_nothing(signs: tuple[nn.Module, ...]) -> None:
    model, usual = network(*signs), network()
    folded, expected = fold(model, mean=0, std=1), to_graph(usual, mean=0, std=1)
    assert np.array_equal(folded.graph.layers[0].threshold, expected.layers[0].threshold)
    assert check(model, folded, count=200).exact


def test_a_second_sign_decides_the_zero_of_torch_sign() -> None:
    """Sums of 4 signs are 0 often: torch.sign passes 0 on, and what follows makes +1 or -1 of it."""
    for second, sign in ((Sign(), 1), (Call(lambda x: torch.where(x > 0, 1.0, -1.0)), -1)):
        model = nn.Sequential(
            *(Pixels(9), Call(torch.sign), second, BinaryLinear(4, 6), Call(torch.sign), second),
            BinaryLinear(6, 3),
        ).eval()
        folded = fold(model)
        graph = folded.graph
        images = np.full((1, 4), 9, np.uint8)  # whose inputs are all 0
        assert (graph.binarize.fires(images) == (sign == 1)).all()
        assert check(model, folded, count=300).exact


def test_a_zero_that_torch_sign_hands_on_is_a_third_level_behind() -> None:
    """Sums of 16 values of -1, 0 and +1 may be odd, those of 16 signs may not: a limit at 1 is another than at 2."""
    rng = np.random.default_rng(0)
    weights = [rng.choice([-1, 1], shape) for shape in ((16, 24), (8, 16), (3, 8))]
    layers = [BinaryLinear(weight.shape[1], len(weight)) for weight in weights]
    for layer, weight in zip(layers, weights, strict=True):
        layer.weight.data = torch.from_numpy(weight).float()
    model = nn.Sequential(layers[0], Call(torch.sign), layers[1], Call(torch.sign), layers[2]).eval()
    images = rng.integers(0, 2, (200, 24))
    middle = np.sign(np.sign((2 * images - 1) @ weights[0].T) @ weights[1].T)
    assert (middle == 0).any()
    found = convert(model, mean=0.5, std=0.5, max_level=1, input_shape=(24,)).predict(images.astype(np.uint8))
    np.testing.assert_array_equal(found, (middle @ weights[2].T).argmax(axis=1))


def test_statistics_that_were_copied_in_are_statistics() -> None:
    trained = network()
    copied = nn.Sequential(BinaryLinear(784, 64), nn.BatchNorm1d(64), Sign(), BinaryLinear(64, 10))
    with pytest.raises(ConversionError, match=r"1 \(BatchNorm1d\) has no running statistics yet, only the means of 0"):
        to_graph(copied.eval(), mean=0, std=1)
    copied.load_state_dict(trained.state_dict())
    for count in (torch.zeros((), dtype=torch.int64), None):
        copied[1].num_batches_tracked = count
        threshold = to_graph(copied, mean=0, std=1).layers[0].threshold
        assert np.array_equal(threshold, to_graph(trained, mean=0, std=1).layers[0].threshold)
