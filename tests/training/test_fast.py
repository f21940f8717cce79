"""The fast path of training against the clear one: each compiled pass, the whole step, and runs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from fused_steps import FUNCTIONS, both
from hypothesis import given, settings
from hypothesis import strategies as st
from stopping import stopped_after
from torch import nn
from torch.nn import functional

from lava_meta.data import Images
from lava_meta.data.scenarios import Scenario
from lava_meta.errors import DivergenceError
from lava_meta.nn import BinaryConvNet, BinaryLinear, BinaryMLP, FixedNorm, SampleNorm, Sign, mark_binary
from lava_meta.optim import MetaplasticAdam, MetaplasticSGD, threads
from lava_meta.rule import Consolidation, Tanh2, sign
from lava_meta.training import TrainSettings, backward, products, train
from lava_meta.training.fast import FastNetwork
from lava_meta.training.methods import EWC
from lava_meta.training.steps import FastStep

OPTIMIZERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "adam": (MetaplasticAdam, {"lr": 0.005}),
    "sgd": (MetaplasticSGD, {"lr": 0.01}),
    "momentum": (MetaplasticSGD, {"lr": 0.01, "momentum": 0.9, "dampening": 0.1}),
}
FORMS = [products.Floats, products.Bytes, products.Bits, products.Tables]


def hidden_weights(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) - 0.5


# --- the optimizer's pass -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
@settings(max_examples=25, deadline=None)
@given(
    shape=st.one_of(st.tuples(st.integers(1, 5000)), st.tuples(st.integers(1, 70), st.integers(1, 70))),
    f=st.sampled_from(FUNCTIONS),
    weight_decay=st.sampled_from([0.0, 1e-3]),
    seed=st.integers(0, 2**16),
)
def test_the_fused_pass_takes_the_clear_steps(
    name: str, shape: tuple[int, ...], f: Consolidation, weight_decay: float, seed: int
) -> None:
    make, options = OPTIMIZERS[name]
    h = hidden_weights(shape, seed)
    h.view(-1)[0] = 0.0
    clear, fused = both(make, {**options, "consolidation": f, "weight_decay": weight_decay}, h, 5, seed)
    # Weights of up to 1, whose steps of about 0.005 to 0.05 are equal within some units in their last place.
    torch.testing.assert_close(fused, clear, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1.0, 30.0, 1e20])
@pytest.mark.parametrize("f", FUNCTIONS[1:], ids=lambda f: f.kind)
def test_gates_of_any_size_of_weight(f: Consolidation, size: float) -> None:
    h = hidden_weights((40, 50), 0) * size
    clear, fused = both(MetaplasticSGD, {"lr": size, "consolidation": f}, h, 1, 1)
    torch.testing.assert_close(fused, clear, rtol=2e-6, atol=size * 1e-7)
    # What the gate lets through where it is small: the step itself, not only the weight.
    shrinks = (h - clear) * h > 0
    torch.testing.assert_close((h - fused)[shrinks], (h - clear)[shrinks], rtol=1e-5, atol=size * 1e-7)


def test_weights_that_are_not_finite_stay_so_and_no_others() -> None:
    h = hidden_weights((3, 8), 0)
    h[0, 0], h[1, 1], h[2, 2] = math.nan, math.inf, -math.inf
    for f in FUNCTIONS:
        clear, fused = both(MetaplasticAdam, {"consolidation": f}, h, 2, 1)
        assert torch.equal(torch.isfinite(fused), torch.isfinite(h))
        torch.testing.assert_close(fused[torch.isfinite(h)], clear[torch.isfinite(h)], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_threads_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(threads, "LEAST", 1000)
    make, options = OPTIMIZERS[name]
    h = hidden_weights((97, 131), 0)
    results = []
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        results.append(both(make, {**options, "consolidation": Tanh2(4.0)}, h, 4, 1)[1])
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradients_apart_and_signs_in_passing(name: str, fused: bool, dtype: torch.dtype) -> None:
    make, options = OPTIMIZERS[name]
    h = hidden_weights((13, 17), 0) * 0.01
    gradient = torch.randn(h.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    apart, inside = (mark_binary(nn.Parameter(h.clone())) for _ in range(2))
    signs = torch.zeros(h.shape, dtype=torch.int8)
    make([apart], m=4.0, fused=fused, **options).step_with({apart: gradient}, {apart: signs})
    inside.grad = gradient.float()
    make([inside], m=4.0, fused=fused, **options).step()
    assert torch.equal(apart, inside)
    assert torch.equal(signs.float(), sign(apart.detach()))
    assert not torch.equal(signs.float(), sign(h))


def test_what_has_no_compiled_pass_takes_the_clear_one() -> None:
    class Own(Consolidation):
        kind = "own"

        def _of(self, distance: Any, xp: Any) -> Any:
            return 1 / (1 + distance)

    h = hidden_weights((20, 30), 0)
    clear, fused = both(MetaplasticAdam, {"consolidation": Own()}, h, 3, 1)
    assert torch.equal(clear, fused)
    for other in (h.double(), hidden_weights((30, 20), 0).T):
        results = []
        for switch in (False, True):
            parameter = mark_binary(nn.Parameter(other.clone(memory_format=torch.preserve_format)))
            parameter.grad = torch.ones_like(other)
            MetaplasticAdam([parameter], m=4.0, fused=switch).step()
            results.append(parameter.detach())
        assert torch.equal(*results)


def test_parameters_of_one_dimension_are_not_gated() -> None:
    clear, fused = both(MetaplasticSGD, {"lr": 0.1, "m": 50.0}, hidden_weights((100,), 0), 1, 1)
    torch.testing.assert_close(fused, clear, rtol=1e-6, atol=1e-8)


def test_fused_is_a_switch() -> None:
    with pytest.raises(TypeError, match="fused is 1"):
        MetaplasticAdam([nn.Parameter(torch.zeros(2, 2))], fused=1)  # type: ignore[arg-type]


# --- gradients as bytes ---------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(1, 9), units=st.integers(1, 40), exponent=st.integers(-30, 30), seed=st.integers(0, 2**16))
def test_two_bytes_hold_a_gradient(rows: int, units: int, exponent: int, seed: int) -> None:
    d = np.random.default_rng(seed).standard_normal((rows, units)).astype(np.float32) * np.float32(10.0**exponent)
    digits, scales = np.empty((2 * rows, units), np.int8), np.empty(rows, np.float32)
    backward.split_rows(d, digits, scales)
    assert np.abs(digits[:rows].astype(int)).max() <= 127
    back = (128 * digits[:rows].astype(float) + digits[rows:]) * scales[:, None]
    largest = np.abs(d).max(axis=1, keepdims=True)
    assert np.all(np.abs(back - d) <= largest * (0.5 / backward.LARGEST + 1e-6))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_no_number_spoils_its_row_alone(bad: float) -> None:
    layer = products.Bytes(5, 7)
    layer.signs.fill_(1)
    d = torch.ones(2, 5)
    d[0, 3] = bad
    back = layer.back(d, torch.zeros(2, 7), 1.0, 1.0)
    assert not torch.isfinite(back[0]).any()
    torch.testing.assert_close(back[1], torch.full((7,), 5.0))


# --- sums of layers -------------------------------------------------------------------------------------------------


SEEDS = st.integers(0, 2**16)


def layer_of_signs(form: Any, units: int, inputs: int, seed: int) -> tuple[Any, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    layer = form(units, inputs)
    layer.signs.copy_(torch.randint(0, 2, (units, inputs), generator=generator) * 2 - 1)
    return layer, generator


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 9), units=st.integers(1, 200), inputs=st.integers(1, 200), seed=SEEDS)
def test_sums_of_signs_are_exact(form: Any, number: int, n: int, units: int, inputs: int, seed: int) -> None:
    layer, generator = layer_of_signs(form, units, inputs, seed)
    x = (torch.randint(0, 2, (n, inputs), generator=generator) * 2 - 1).to(layer.signs_type)
    torch.set_num_threads(number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "LEAST", 1000)
        sums = layer.sums(x)
        steps = layer.sums((x > 0).to(x.dtype), signs=False)
    assert torch.equal(sums.long(), x.long() @ layer.signs.long().T)
    assert torch.equal(steps.long(), (x > 0).long() @ layer.signs.long().T)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 9), units=st.integers(1, 99), inputs=st.integers(1, 99), offset=st.integers(0, 255), seed=SEEDS)
def test_sums_of_pixels_are_exact(form: Any, n: int, units: int, inputs: int, offset: int, seed: int) -> None:
    layer, generator = layer_of_signs(form, units, inputs, seed)
    pixels = torch.randint(0, 256, (n, inputs), generator=generator, dtype=torch.uint8)
    sums = layer.sums_of_pixels(pixels, offset)
    assert torch.equal(sums.long(), (pixels.long() - offset) @ layer.signs.long().T)


# --- the whole step -------------------------------------------------------------------------------------------------


def batch(shape: tuple[int, ...], n: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (n, *shape), generator=generator, dtype=torch.uint8)
    x[torch.rand(x.shape, generator=generator) < 0.6] = 0
    return x, torch.randint(0, classes, (n,), generator=generator)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("activation", ["sign", "abs_step"])
@pytest.mark.parametrize("norm", ["fixed", "batch", "layer"])
@pytest.mark.parametrize(("n", "sizes"), [(20, (64, 33, 17, 5)), (3, (7, 5, 3)), (1, (4, 3)), (50, (100, 64, 64, 10))])
def test_the_step_is_that_of_autograd(form: Any, activation: Any, norm: Any, n: int, sizes: tuple[int, ...]) -> None:
    if norm == "batch" and n == 1:
        pytest.skip("a batch of one has no statistics")
    model = BinaryMLP(sizes, norm, activation=activation, pixel_mean=60.0, seed=0)
    if isinstance(model[-1], SampleNorm):
        # An image without active units has equal sums; with 1e-5 its rounding would be 316 times as large.
        model[-1].eps = 1.0
    network = FastNetwork.of(model, form)
    assert network is not None
    x, y = batch((sizes[0],), n, sizes[-1], 1)
    statistics = {name: value.clone() for name, value in model.named_buffers()}
    loss = functional.cross_entropy(model(x.float()), y)
    loss.backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    after = {name: value.clone() for name, value in model.named_buffers()}
    model.load_state_dict(statistics, strict=False)
    for module in model:
        if hasattr(module, "trained"):
            module.trained = [False]
    model.zero_grad(set_to_none=True)

    assert network.loss(x, y) == loss.detach()  # to the bit: all sums are exact
    network.backward()
    for name, value in model.named_buffers():
        assert torch.equal(value, after[name]), name
    rounding = 2**-8 if issubclass(form, products.Bytes) else 1e-5
    for name, parameter in model.named_parameters():
        gradient = network.gradients.get(parameter, parameter.grad)
        wanted = expected[name]
        assert gradient is not None
        assert wanted is not None
        # Behind a norm the gains' gradients can cancel to nothing but rounding.
        floor = 1e-6 if parameter.dim() == 1 else 0.0
        assert (gradient.float() - wanted).norm() <= rounding * wanted.norm() + floor, name

    model.eval()
    with torch.no_grad():
        if n > 1:
            assert torch.equal(network.logits(x), model(x.float()))


@pytest.mark.parametrize("form", FORMS)
def test_inputs_that_never_change_stay_without_gradient_under_batch_norm(form: Any) -> None:
    """Their gradients cancel over the batch; Adam would make full steps of whatever rounding leaves above its eps."""
    model = BinaryMLP((64, 128, 10), "batch", pixel_mean=60.0, pixel_std=80.0, seed=0)
    x, y = batch((64,), 50, 10, 1)
    x[:, :5], x[:, 5:10] = 0, 255
    network = FastNetwork.of(model, form)
    assert network is not None
    network.loss(x, y)
    network.backward()
    gradient = network.gradients[model[2].weight].float().abs()
    assert gradient[:, 10:].mean() > 1e-3
    assert gradient[:, :10].max() < 1e-8


@pytest.mark.parametrize("norm", ["fixed", "layer"])
def test_threads_do_not_change_a_bit_of_the_gradients(monkeypatch: pytest.MonkeyPatch, norm: Any) -> None:
    monkeypatch.setattr(threads, "LEAST", 1000)
    model = BinaryMLP((300, 260, 270, 10), norm, pixel_mean=60.0, pixel_std=80.0, seed=0)
    network = FastNetwork.of(model)
    assert network is not None
    x, y = batch((300,), 100, 10, 1)
    found = []
    for number in (1, 2):
        torch.set_num_threads(number)
        network.loss(x, y)
        network.backward()
        found.append([gradient.clone() for gradient in network.gradients.values()])
    own = issubclass(products.form(), products.Bytes)
    for place, (one, two) in enumerate(zip(*found, strict=True)):
        # Otherwise the first layer's gradient is torch's, whose order of sums may follow its threads.
        rtol, atol = (0.0, 0.0) if own or place else (1e-4, 1e-6)
        torch.testing.assert_close(one, two, rtol=rtol, atol=atol)


def test_the_window_of_a_sign_and_its_edges() -> None:
    """Sums on both edges of the window: 16 inputs, scale 1/4, sums of -16 .. 16, of which -4 .. 4 let gradients by."""
    model = nn.Sequential(BinaryLinear(16, 64), FixedNorm(0.25), Sign(), BinaryLinear(64, 4), SampleNorm())
    x = torch.randint(0, 2, (200, 16), dtype=torch.uint8)
    y = torch.randint(0, 4, (200,))
    network = FastNetwork.of(model)
    assert network is not None
    functional.cross_entropy(model(x.float()), y).backward()
    network.loss(x, y)
    network.backward()
    first = model[0].weight
    assert (network.gradients[first].float() - first.grad).norm() <= 2**-8 * first.grad.norm()


def test_models_of_another_form_have_no_fast_network() -> None:
    assert FastNetwork.of(BinaryConvNet((1, 8, 8), [4], 3)) is None
    assert FastNetwork.of(nn.Linear(3, 3)) is None
    assert FastNetwork.of(BinaryMLP((4, 3, 2)).double()) is None
    shared = BinaryLinear(4, 4)
    assert FastNetwork.of(nn.Sequential(shared, FixedNorm(1.0), Sign(), shared, SampleNorm())) is None
    watched = BinaryMLP((4, 3, 2))
    assert FastNetwork.of(watched) is not None
    watched[2].register_forward_hook(lambda *_: None)
    assert FastNetwork.of(watched) is None


# --- runs -----------------------------------------------------------------------------------------------------------


def two_parts() -> Scenario:
    def images(seed: int, name: str) -> Images:
        generator = torch.Generator().manual_seed(seed)
        y = torch.arange(120) % 3
        x = (torch.rand(120, 1, 4, 4, generator=generator) * 100).to(torch.uint8)
        x.view(120, 16)[torch.arange(120), y * 4 + seed] += 120
        return Images(x, y, name, 3)

    parts = (images(0, "a"), images(1, "b"))
    return Scenario("two", parts, parts, (0, 1))


def fresh(norm: Any = "fixed") -> BinaryMLP:
    options = {"tasks": 2} if norm == "batch" else {}
    return BinaryMLP((16, 32, 3), norm, pixel_mean=60.0, pixel_std=50.0, seed=0, **options)


@pytest.mark.parametrize(
    ("norm", "method", "kind"),
    [("fixed", None, "adam"), ("batch", EWC(100.0, images=20), "adam"), ("layer", None, "sgd")],
    ids=["fixed", "batch with EWC", "layer with SGD"],
)
def test_a_fast_run_learns_and_resumes_to_the_bit(tmp_path: Any, norm: Any, method: Any, kind: Any) -> None:
    options = {"optimizer": kind, "momentum": 0.9 if kind == "sgd" else 0.0, "lr": 0.005 if kind == "adam" else 0.05}
    setting = TrainSettings(epochs=4, batch_size=32, m=2.0, fast=True, **options)
    whole = fresh(norm)
    result = train(whole, two_parts(), setting, method=method, progress=False)
    learned = next(record for record in result.history if record.part == 1 and record.epoch == 4)
    assert learned.accuracies[0] is not None
    assert learned.accuracies[0] > 0.5  # of three classes

    with stopped_after(4):
        train(fresh(norm), two_parts(), setting, tmp_path, method=method, progress=False)
    again = fresh(norm)
    second = train(again, two_parts(), setting, tmp_path, method=method, resume=True, progress=False)
    assert second.history == result.history
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_a_diverging_run_stops_at_its_step_and_names_the_layer(tmp_path: Any) -> None:
    setting = TrainSettings(epochs=2, batch_size=32, fast=True)

    class Poisoned(FastStep):
        steps = 0

        def backward(self) -> None:
            super().backward()
            self.steps += 1
            if self.steps == 4 + 2:  # four steps per epoch
                next(iter(self.network.gradients.values()))[3, 5] = math.inf

    def poisoned(model: nn.Module, *, shown: bool) -> FastStep:
        network = FastNetwork.of(model)
        assert network is not None
        return Poisoned(model, network, shown=shown)

    with pytest.raises(
        DivergenceError, match=r"experience 1, epoch 2, step 2: 1 of 512 values of 2\.weight \(layer 2\)"
    ):
        train(fresh(), two_parts(), setting, tmp_path, progress=False, steps=poisoned)
    # The checkpoint of the first epoch stays, and goes on to what the run would have given.
    resumed = train(fresh(), two_parts(), setting, tmp_path, resume=True, progress=False)
    assert resumed.history == train(fresh(), two_parts(), setting, progress=False).history


def test_a_loss_that_is_not_finite_names_its_layer() -> None:
    model = fresh("batch")
    with torch.no_grad():
        model[3].gain[0] = math.nan
        model[-1].offset[0] = math.inf
    with pytest.raises(DivergenceError, match=r"step 1: the loss is nan; 1 of 32 values of 3\.gain"):
        train(model, two_parts(), TrainSettings(epochs=1, fast=True), progress=False)


def test_closed_layers_are_told_of() -> None:
    model = BinaryMLP((16, 32, 3), "fixed", pixel_mean=0.0, pixel_std=0.01, seed=0)
    with pytest.warns(UserWarning, match="hardly learns"):
        train(model, two_parts(), TrainSettings(epochs=1, fast=True), progress=False)


def test_fast_is_a_switch() -> None:
    with pytest.raises(TypeError, match="fast is 'yes'"):
        TrainSettings(fast="yes")  # type: ignore[arg-type]
