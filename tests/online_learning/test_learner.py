"""The on-line rule: reference implementation against torch and the declared rule, compiled form against it, learner."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from online_autograd import readout_step
from own_function import Soft

import lava_meta
from lava_meta.converters.online import online
from lava_meta.data import Dataset, Images, load_dataset
from lava_meta.data.scenarios import permuted_tasks, split_classes
from lava_meta.errors import DataError, DivergenceError, FormatError
from lava_meta.online_learning import (
    LayerSettings,
    Learner,
    OnlineRule,
    accuracy_on,
    flip_rate,
    hidden_histogram,
    is_learner,
    load_learner,
    saturation,
    threshold_drift,
)
from lava_meta.online_learning import draws as random_draws
from lava_meta.online_learning.class_errors import ClassError
from lava_meta.online_learning.compiled import signs
from lava_meta.online_learning.compiled.fixed import CompiledLayer
from lava_meta.online_learning.forms import make_layer
from lava_meta.online_learning.reference import STATE, FixedLayer, FloatLayer, initial_state
from lava_meta.rule import (
    Constant,
    Exponential,
    Linear,
    Quadratic,
    Table,
    Tanh2,
    metaplastic_update,
    register_consolidation,
)
from lava_meta.training import BestCheckpoint, Callback
from lava_meta.training.loggers import Lines

CONSOLIDATIONS = [
    Constant(),
    Linear(1.0),
    Quadratic(1.0),
    Exponential(2.0),
    Tanh2(1.5),
    Table((0.0, 0.5, 1.0), (1.0, 0.9, 0.0)),
]


def copies(settings: LayerSettings, number: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    state = initial_state(settings, np.random.default_rng(seed))
    return [{name: state[name].copy() for name in STATE} for _ in range(number)]


def assert_same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    for name in STATE:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


# The rule.


@pytest.mark.parametrize("consolidation", CONSOLIDATIONS, ids=lambda c: c.kind)
def test_one_image_of_plain_float_learning_is_torch_autograd_with_the_straight_through_estimator(consolidation) -> None:
    """A readout alone: h - lr * dL/dw, gated as `metaplastic_update` declares, L the cross-entropy of w x / sqrt(n)."""
    generator = np.random.default_rng(4)
    rule = OnlineRule(lr=0.3, consolidation=consolidation, readout_limit=1.0, dead_zone=0.0, init_width=0.5)
    settings = LayerSettings(20, 5, readout=True, precision="float", rule=rule)
    (state,) = copies(settings, 1)
    layer = FloatLayer(settings, state)
    x = generator.choice(np.array([-1, 1], np.int8), (1, 20))
    before = layer.hidden.copy()

    step = readout_step(before, x, 3, 0.3)
    expected = np.clip(metaplastic_update(before, step, consolidation), -1, 1)

    layer.backward(ClassError("softmax", 5, 20, "float", 0.0)(layer.forward(x), np.array([3])))
    np.testing.assert_allclose(layer.hidden, expected, atol=1e-6)


def test_errors_pass_down_as_autograd_passes_them_through_binary_weights_and_the_window() -> None:
    generator = np.random.default_rng(1)
    rule = OnlineRule(centring=False)
    settings = LayerSettings(30, 16, precision="float", rule=rule, input_mean=0.1)
    (state,) = copies(settings, 1)
    layer = FloatLayer(settings, state)
    x = (generator.random((1, 30)) < 0.4).astype(np.int8)
    error = generator.normal(size=(1, 16)).astype(np.float32)
    weight = np.where(layer.hidden >= 0, 1.0, -1.0)

    inputs = torch.tensor(x, dtype=torch.float32, requires_grad=True)
    w = torch.tensor(weight, dtype=torch.float32)
    distance = inputs @ w - 0.1 * w.sum(0)
    window = (distance.abs() <= 5 / 8 * torch.tensor(layer.state["deviation"])).float()
    assert 0 < window.sum() < 16
    (distance * window * torch.tensor(error)).sum().backward()

    layer.forward(x)
    down = layer.backward(error, learn=False)
    np.testing.assert_allclose(down, inputs.grad.numpy() / 2**settings.backward_shift, rtol=1e-5, atol=1e-6)


def test_fixed_point_steps_are_the_declared_rule_on_average() -> None:
    """Over many draws, the mean integer step of a synapse is the float step in levels: rounding adds no bias."""
    rule = OnlineRule(lr=0.004, consolidation=Quadratic(1.0), centring=False)
    settings = LayerSettings(1, 4000, readout=True, precision=8, rule=rule)
    for level in (-50, -1, 0, 30, 60):
        (state,) = copies(settings, 1)
        state["hidden"][:] = level
        layer = FixedLayer(settings, state)
        layer.forward(np.ones((1, 1), np.int8))
        layer.backward(np.full((1, 4000), 100, np.int32))
        h = np.array([level / settings.limit_levels])
        step = np.array([127 * 0.004 * 100 / 128])
        expected = metaplastic_update(h * settings.limit_levels, step, Quadratic(63.0))[0] - level
        observed = layer.hidden.mean() - level
        assert abs(observed - expected) < 5 * 0.5 / 4000**0.5, level


def test_draws_are_uniform_independent_between_images_and_a_function_of_their_place() -> None:
    key = random_draws.key(7, 3)
    all_rows = random_draws.draws(key, np.arange(200), 300, 24)
    some_rows = random_draws.draws(key, np.array([5, 190]), 300, 24)
    np.testing.assert_array_equal(some_rows, all_rows[[5, 190]])
    other = random_draws.draws(random_draws.key(7, 4), np.arange(200), 300, 24)
    counts = np.bincount(all_rows.ravel() >> 20, minlength=16)
    assert counts.sum() == 60000
    assert ((counts - 3750) ** 2 / 3750).sum() < 37.7  # chi-square, 15 degrees, p = 0.001
    assert abs(np.corrcoef(all_rows.ravel(), other.ravel())[0, 1]) < 0.015
    assert abs(np.corrcoef(all_rows[:, :-1].ravel(), all_rows[:, 1:].ravel())[0, 1]) < 0.015
    assert abs(np.corrcoef(all_rows[:-1].ravel(), all_rows[1:].ravel())[0, 1]) < 0.015


# The compiled form.


@pytest.mark.parametrize("bits", [3, 5, 8, 12, 16])
@pytest.mark.parametrize("readout", [False, True])
@pytest.mark.parametrize("thresholds", ["balanced", "homeostatic"])
@pytest.mark.parametrize("centring", [False, True])
def test_the_compiled_layer_equals_its_twin_to_the_bit(bits, readout, thresholds, centring) -> None:
    generator = np.random.default_rng(bits)
    consolidation = CONSOLIDATIONS[bits % len(CONSOLIDATIONS)]
    rule = OnlineRule(lr=0.05, consolidation=consolidation, thresholds=thresholds, centring=centring)
    settings = LayerSettings(37, 23, readout, bits, rule, seed=2**32 - bits, input_mean=0.0 if readout else 0.3)
    reference, compiled = (
        form(settings, state) for form, state in zip((FixedLayer, CompiledLayer), copies(settings, 2), strict=True)
    )
    for _ in range(100):
        x = generator.integers(-1, 2, (2, 37)).astype(np.int8)
        np.testing.assert_array_equal(reference.forward(x), compiled.forward(x))
        error = generator.integers(-40000, 40000, (2, 23)).astype(np.int32)
        np.testing.assert_array_equal(reference.backward(error), compiled.backward(error))
    assert_same(reference.state, compiled.state)
    weight = np.where(reference.hidden >= 0, 1, -1)
    np.testing.assert_array_equal(reference.balance, weight.sum(axis=0))
    assert np.abs(reference.hidden).max() == settings.limit_levels  # the clamp was reached, and held


@pytest.mark.parametrize(
    ("bits", "changes", "rule"),
    [
        (8, {"max_level": 255}, {}),
        (3, {"max_level": 16}, {"memory": 64}),
        (16, {"max_level": 1}, {"memory": 64}),
        (8, {"max_level": 200, "frozen": True}, {"memory": 100}),
        # Small steps, of which few move a synapse.
        (8, {"max_level": 255}, {"lr": 4e-6}),
        (8, {"max_level": 255}, {"lr": 4e-6, "memory": 3000, "grow": Quadratic(1.0)}),
        (5, {"max_level": 1}, {"lr": 2e-5, "memory": 1000}),
    ],
)
def test_levels_forgetting_and_frozen_synapses_equal_the_twin_to_the_bit(bits, changes, rule) -> None:
    generator = np.random.default_rng(bits)
    rule = OnlineRule(**{"lr": 0.05, **rule})
    settings = LayerSettings(37, 23, precision=bits, rule=rule, seed=bits, input_mean=0.3, **changes)
    reference, compiled = (
        form(settings, state) for form, state in zip((FixedLayer, CompiledLayer), copies(settings, 2), strict=True)
    )
    for layer in (reference, compiled):
        layer.neurons.set_thresholds(np.arange(23) - 11)
        np.testing.assert_array_equal(layer.neurons.integer_thresholds(), np.arange(23) - 11)
    before = reference.hidden.copy()
    for _ in range(100):
        x = generator.integers(0, settings.max_level + 1, (2, 37)) * (generator.random((2, 37)) < 0.5)
        np.testing.assert_array_equal(reference.forward(x), compiled.forward(x))
        error = generator.integers(-40000, 40000, (2, 23)).astype(np.int32)
        np.testing.assert_array_equal(reference.backward(error), compiled.backward(error))
    assert_same(reference.state, compiled.state)
    assert (reference.hidden == before).all() == settings.frozen


@pytest.mark.parametrize("units", [1, 31, 130, 300])
@pytest.mark.parametrize("largest", [1, 255, 2**15])
def test_sums_of_signs_are_products_of_matrices(units, largest) -> None:
    """Rows that end in the middle of a vector, and sums and errors that are too large for the narrow form."""
    generator = np.random.default_rng(units)
    hidden = generator.integers(-127, 128, (200, units)).astype(np.int16)
    weight = np.where(hidden >= 0, 1, -1)
    x = generator.integers(-largest, largest, (2, 200), endpoint=largest < 2**15).astype(np.int16)
    x[0] = -largest
    np.testing.assert_array_equal(signs.sums(hidden, x), x.astype(np.int64) @ weight)
    for d in (generator.integers(-largest, largest, units), np.full(units, 2**31 // units)):
        down = np.empty(200, np.int32)
        signs.pass_down(hidden, d, 3, down)
        np.testing.assert_array_equal(down, np.clip(weight @ d >> 3, 1 - 2**15, 2**15 - 1))


@pytest.mark.parametrize("precision", ["float", 8, 16])
def test_what_is_not_used_is_forgotten_at_the_rate_of_the_memory(precision) -> None:
    """Without errors, the mean hidden weight after n images is h exp(-n / memory), at the limit too."""
    rule = OnlineRule(memory=500, consolidation=Quadratic(1.0), readout_limit=1.0)
    settings = LayerSettings(2, 4000, readout=True, precision=precision, rule=rule)
    (state,) = copies(settings, 1)
    full = 1.0 if precision == "float" else settings.levels
    state["hidden"][:] = [[full], [-full]]
    layer = (FloatLayer if precision == "float" else CompiledLayer)(settings, state)
    for _ in range(300):
        layer.forward(np.array([[1, 0]], np.int8))
        layer.backward(np.zeros((1, 4000), np.int32))
    assert abs(layer.hidden[0].mean() / full - np.exp(-300 / 500)) < 0.004
    assert (layer.hidden[1] == -full).all()  # its input was never active


@pytest.mark.parametrize("consolidation", CONSOLIDATIONS, ids=lambda c: c.kind)
@pytest.mark.parametrize("readout", [False, True])
def test_the_compiled_float_layer_equals_its_twin_within_rounding(consolidation, readout) -> None:
    generator = np.random.default_rng(2)
    rule = OnlineRule(lr=0.05, consolidation=consolidation, memory=300 if readout else None)
    settings = LayerSettings(37, 23, readout, "float", rule, input_mean=0.0 if readout else 0.3, max_level=16)
    reference, compiled = (
        make_layer(settings, state, compiled=fast)
        for fast, state in zip((False, True), copies(settings, 2), strict=True)
    )
    assert (type(reference) is type(compiled)) == (consolidation.kind == "table")  # which the kernels do not know
    for _ in range(100):
        x = generator.integers(0, 17, (2, 37)) * (generator.random((2, 37)) < 0.5)
        np.testing.assert_array_equal(reference.forward(x), compiled.forward(x))
        error = generator.normal(size=(2, 23)).astype(np.float32)
        np.testing.assert_allclose(reference.backward(error), compiled.backward(error), rtol=1e-5, atol=1e-5)
    for name in STATE:
        np.testing.assert_allclose(reference.state[name], compiled.state[name], rtol=1e-5, atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(reference.hidden >= 0, compiled.hidden >= 0)
    if consolidation.kind in ("constant", "linear", "quadratic"):
        assert_same(reference.state, compiled.state)


def test_integers_stay_inside_the_widths_that_are_stated() -> None:
    """The largest errors, learning rate and precision: no 32-bit number of the compiled form overflows."""
    for bits in (3, 8, 9, 16):
        settings = LayerSettings(3, 7, True, bits, OnlineRule(lr=1.0, consolidation=Constant(), memory=64))
        reference, compiled = (
            form(settings, state) for form, state in zip((FixedLayer, CompiledLayer), copies(settings, 2), strict=True)
        )
        for sign in (1, -1, 1):
            for layer in (reference, compiled):
                layer.forward(np.array([[1, -1, 1]], np.int8))
                layer.backward(np.full((1, 7), sign * (2**15 - 1), np.int32))
        assert_same(reference.state, compiled.state)
        assert np.abs(reference.hidden).max() <= settings.limit_levels


# Errors of the readout.


def test_the_integer_softmax_is_the_float_one_to_its_last_bit() -> None:
    generator = np.random.default_rng(0)
    sums = generator.integers(-100, 100, (500, 10)).astype(np.int32)
    labels = generator.integers(0, 10, 500)
    fixed = ClassError("softmax", 10, 512, 8, 0.0)(sums, labels)
    real = ClassError("softmax", 10, 512, "float", 0.0)(sums, labels)
    logits = torch.tensor(sums / 512**0.5, requires_grad=True)
    torch.nn.functional.cross_entropy(logits, torch.tensor(labels), reduction="sum").backward()
    np.testing.assert_allclose(real, logits.grad.numpy(), atol=1e-6)
    assert np.abs(fixed - 128 * real).max() <= 1.0
    assert np.abs(fixed).max() <= 127
    dead = ClassError("softmax", 10, 512, 8, 0.1)(sums, labels)
    assert set(np.abs(dead[dead != 0]).tolist()) == set(np.abs(fixed[np.abs(fixed) >= 13]).tolist())


def test_a_margin_error_pushes_the_strongest_rival_within_the_margin() -> None:
    sums = np.array([[40, 38, 30, -9], [40, 10, 10, 10]], np.int32)
    for precision, one in ((8, 127), ("float", 1)):
        error = ClassError("margin", 4, 144, precision)(sums, np.array([0, 0]))
        np.testing.assert_array_equal(error, [[-one, one, 0, 0], [0, 0, 0, 0]])


def test_a_ternary_error_is_the_sign_of_a_large_softmax_error() -> None:
    generator = np.random.default_rng(0)
    sums, labels = generator.integers(-100, 100, (500, 10)).astype(np.int32), generator.integers(0, 10, 500)
    real = ClassError("softmax", 10, 512, "float", 0.0)(sums, labels)
    np.testing.assert_array_equal(
        ClassError("ternary", 10, 512, "float")(sums, labels), np.where(np.abs(real) >= 0.25, np.sign(real), 0)
    )
    fixed = ClassError("ternary", 10, 512)(sums, labels)
    clear = np.abs(np.abs(real) - 0.25) > 1 / 128
    np.testing.assert_array_equal(fixed[clear], 127 * np.where(np.abs(real) >= 0.25, np.sign(real), 0)[clear])
    assert set(np.unique(fixed)) == {-127, 0, 127}


# The learner.


@pytest.mark.parametrize(
    ("feedback", "lanes", "error", "changes"),
    [
        ("symmetric", 1, "softmax", {"inputs": "pixels"}),
        ("direct", 3, "margin", {"plastic": ("hidden2", "readout")}),
    ],
)
def test_kernels_and_reference_end_in_the_same_state(digits, feedback, lanes, error, changes) -> None:
    scenario = permuted_tasks(digits, 2, seed=0)
    rule = OnlineRule(lr=0.02, error=error, memory=1000)
    learners = [
        Learner([64, 20, 15, 10], rule=rule, feedback=feedback, lanes=lanes, backend=backend, **changes)
        for backend in ("reference", "kernels")
    ]
    first, second = (learner.fit(scenario, images=100) for learner in learners)
    for a, b in zip(learners[0].states, learners[1].states, strict=True):
        assert_same(a, b)
    np.testing.assert_array_equal(first.accuracy.values, second.accuracy.values)
    assert first.online == second.online


@pytest.mark.parametrize("precision", ["float", 8])
def test_it_learns_and_metaplasticity_keeps_what_it_learned(digits, precision) -> None:
    scenario = permuted_tasks(digits, 2, seed=1)
    accuracies = {}
    for consolidation in (Linear(1.0), Constant()):
        learner = online(
            [64, 200, 10],
            rule=OnlineRule(lr=0.04, consolidation=consolidation),
            precision=precision,
            backend="kernels",
        )
        accuracies[consolidation.kind] = learner.fit(scenario).accuracy.values[-1]
    assert accuracies["linear"].mean() > 0.70
    assert accuracies["linear"][0] > accuracies["constant"][0] + 0.05


@pytest.mark.parametrize("precision", ["float", 8])
def test_a_saved_learner_resumes_to_the_identical_state(digits, precision, tmp_path) -> None:
    parts = list(permuted_tasks(digits, 2, seed=2).train)
    settings = {"precision": precision, "backend": "kernels", "seed": 5, "feedback": "direct"}
    whole = Learner([64, 30, 10], **settings)
    whole.fit(parts, images=300)
    half = Learner([64, 30, 10], **settings)
    half.fit(parts[:1], images=300)
    half.save(tmp_path / "learner.safetensors")
    resumed = load_learner(tmp_path / "learner.safetensors")
    resumed.fit(parts[1:], images=300)
    for a, b in zip(whole.states, resumed.states, strict=True):
        assert_same(a, b)
    resumed.save(tmp_path / "a.safetensors")
    whole.save(tmp_path / "b.safetensors")
    a, b = (load_learner(tmp_path / name) for name in ("a.safetensors", "b.safetensors"))
    np.testing.assert_array_equal(a.predict(digits.test.x), b.predict(digits.test.x))


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("inputs", ["spikes", "pixels"])
def test_partial_fit_is_fit_without_its_shuffling(digits, lanes, inputs) -> None:
    """`fit` shuffles by (seed, 1, parts learned before): the same images by hand, in one call and in several."""
    settings = {"backend": "kernels", "seed": 5, "lanes": lanes, "inputs": inputs, "max_level": 16}
    mean = {"spikes": 0.4, "pixels": 0.3}[inputs]
    whole, one_call, several = (Learner([64, 30, 10], input_mean=mean, **settings) for _ in range(3))
    whole.fit(digits.train, images=60)
    order = np.random.default_rng([5, 1, 0]).permutation(len(digits.train))[:60]
    x, y = digits.train.x[order], digits.train.y[order]
    assert one_call.partial_fit(x, y) is one_call
    with several:
        for start in range(0, 60, lanes):
            several.partial_fit(x[start : start + lanes].numpy(), y[start : start + lanes].tolist())
    for learner in (one_call, several):
        for a, b in zip(whole.states, learner.states, strict=True):
            assert_same(a, b)


def test_partial_fit_takes_one_image_and_the_first_sets_the_mean(digits, tmp_path) -> None:
    learner = Learner([64, 30, 10], backend="reference", max_level=16)
    learner.partial_fit(digits.train.x[0], digits.train.y[0]).partial_fit(digits.train.x[1].numpy(), 3)
    assert learner.input_mean == float((digits.train.x[0] > 8).numpy().mean())
    assert [state["images"][0] for state in learner.states] == [2, 2]
    assert [one.scenario for one in learner.learned] == ["images of the user's own"]
    learner.save(tmp_path / "learner.safetensors")
    again = load_learner(tmp_path / "learner.safetensors")
    for one in (learner, again):
        one.partial_fit(digits.train.x[2:9], digits.train.y[2:9])
    for a, b in zip(learner.states, again.states, strict=True):
        assert_same(a, b)


@pytest.mark.lava
def test_partial_fit_in_lava(digits) -> None:
    reference, lava = (Learner([64, 12, 10], backend=backend, max_level=16) for backend in ("reference", "lava"))
    with lava:
        for learner in (reference, lava):
            for i in range(3):
                learner.partial_fit(digits.train.x[10 * i : 10 * i + 10], digits.train.y[10 * i : 10 * i + 10])
    for a, b in zip(reference.states, lava.states, strict=True):
        assert_same(a, b)


def test_what_partial_fit_refuses_is_named(digits) -> None:
    learner = Learner([64, 10], backend="reference", max_level=16, lanes=2)
    x, y = digits.train.x[:4], digits.train.y[:4]
    for images, classes, error, message in (
        (x[:3], y[:3], ValueError, "a multiple of the 2 lanes"),
        (x, y + 0.5, DataError, "y has fractions"),
        (x[:0], y[:0], DataError, "no images in x of shape"),
        (x, y[:2], DataError, "4 images but 2 labels"),
        (x.float(), y, TypeError, "x is float32"),
        (x + 7, y, DataError, "above max_level = 16"),
        (x, y + 9, DataError, "labels run from"),
        (x.flatten(1)[:, :60], y, ValueError, "takes 64 pixels"),
    ):
        with pytest.raises(error, match=message):
            learner.partial_fit(images, classes)


def test_convert_gives_the_network_that_a_learner_is_now(digits) -> None:
    learner = Learner([64, 30, 10], backend="kernels", timeout=7.0)
    learner.fit(digits.train, images=100)
    network = lava_meta.convert(learner)
    assert network.learned == learner.learned
    np.testing.assert_array_equal(network.predict(learner.encode(digits.test.x)), learner.predict(digits.test.x))


@pytest.mark.parametrize("precision", ["float", 8])
def test_a_learner_with_a_function_of_ones_own(digits, precision, tmp_path, registry) -> None:
    images = permuted_tasks(digits, 1, seed=2).train[0]
    settings = {"precision": precision, "backend": "kernels", "seed": 5}
    plain = Learner([64, 30, 10], rule=lambda size: 1 / (1 + size / 0.2), **settings)
    own = Learner([64, 30, 10], rule=Soft(0.2), **settings)
    for learner in (plain, own):
        learner.fit(images, images=300)
    for a, b in zip(plain.states, own.states, strict=True):
        assert_same(a, b)
    path = tmp_path / "learner.safetensors"
    with pytest.raises(TypeError, match="plain Python function, and no file can hold it"):
        plain.save(path)
    with pytest.raises(ValueError, match="Soft cannot be saved: it is not registered"):
        own.save(path)
    assert not path.exists()
    register_consolidation(Soft)
    own.save(path)
    assert load_learner(path).rule.consolidation == Soft(0.2)
    del registry["soft"]
    with pytest.raises(FormatError, match=r"unknown consolidation 'soft'.*registered before it is read"):
        load_learner(path)


def test_an_altered_file_is_refused(digits, tmp_path) -> None:
    path = tmp_path / "learner.safetensors"
    Learner([64, 10], backend="reference").save(path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(FormatError, match="altered"):
        load_learner(path)
    assert is_learner(path)
    path.write_bytes(content[:50])
    assert not is_learner(path)
    assert not is_learner(tmp_path / "none")
    with pytest.raises(FormatError):
        load_learner(path)


@pytest.mark.parametrize("thresholds", ["balanced", "homeostatic"])
@pytest.mark.parametrize("precision", ["float", 8])
def test_the_network_it_becomes_fires_as_the_layers_do(digits, thresholds, precision) -> None:
    learner = Learner(
        [64, 30, 20, 10], rule=OnlineRule(lr=0.02, thresholds=thresholds), precision=precision, backend="kernels"
    )
    learner.fit(digits.train, images=200)
    spikes = learner.encode(digits.test.x)
    x = spikes.view(np.int8)
    for layer in learner._started().layers:  # type: ignore[attr-defined]
        x = layer.forward(x)
    np.testing.assert_array_equal(learner.graph().sums(spikes), x)
    np.testing.assert_array_equal(learner.predict(digits.test.x), x.argmax(axis=1))


def test_probes_see_the_learner_on_the_way(digits) -> None:
    learner = Learner([64, 30, 10], backend="kernels")
    probes = [hidden_histogram(8), flip_rate(), threshold_drift(), saturation, accuracy_on(digits.test, "test")]
    history = learner.fit(digits.train, probes=probes, images=300, every=100)
    assert [record["images"] for record in history.probes] == [100, 200, 300]
    last = history.probes[-1]
    assert [sum(counts) for counts in last["hidden_histogram"]] == [64 * 30, 30 * 10]
    assert 0 < last["flip_rate"][0] < 0.5
    assert last["threshold_drift"][0] > 0
    assert last["test"] == learner.accuracy(digits.test)


# Bad input.


def test_arguments_that_do_not_fit_are_named(digits) -> None:
    for arguments, message in (
        ({"sizes": [64]}, "sizes"),
        ({"sizes": [64, 0, 10]}, "sizes"),
        ({"sizes": [64, 10], "precision": 2}, "3 to 16"),
        ({"sizes": [64, 10], "precision": 17}, "3 to 16"),
        ({"sizes": [64, 10], "precision": "double"}, "precision"),
        ({"sizes": [64, 10], "backend": "loihi"}, "backend"),
        ({"sizes": [64, 10], "feedback": "none"}, "feedback"),
        ({"sizes": [64, 10], "lanes": 0}, "lanes"),
        ({"sizes": [64, 10], "inputs": "floats"}, "inputs"),
        ({"sizes": [64, 10], "form": "packed"}, "form"),
        ({"sizes": [64, 10], "plastic": ("hidden1",)}, "name one or more of readout"),
        ({"sizes": [64, 10], "plastic": ()}, "name one or more of readout"),
        ({"sizes": [64, 10], "inputs": "pixels", "max_level": 1000}, "1 to 8 bits"),
    ):
        with pytest.raises(ValueError, match=message):
            Learner(**arguments)
    with pytest.raises(ValueError, match="lr"):
        OnlineRule(lr=float("nan"))
    with pytest.raises(ValueError, match="memory"):
        OnlineRule(memory=10)
    with pytest.raises(TypeError, match="consolidation"):
        OnlineRule(consolidation="tanh2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="64 pixels"):
        Learner([63, 10], backend="reference").fit(digits.train)
    with pytest.raises(DataError, match="no images"):
        Learner([64, 10], backend="reference").fit([])
    with pytest.raises(ValueError, match="labels run from"):
        ClassError("softmax", 10, 512)(np.zeros((1, 10), np.int32), np.array([10]))
    with pytest.raises(TypeError, match="unsigned levels"):
        Learner([64, 10], backend="reference").predict(np.zeros((1, 64)))
    graded = Learner([64, 10], backend="reference", inputs="pixels", max_level=16, input_mean=0.3)
    for level, message in ((17, "from 17 to 17"), (-1, "from -1 to -1")):
        with pytest.raises(ValueError, match=message):
            graded.predict(np.full((1, 64), level))
    with pytest.raises(DataError, match="1 images to learn, fewer than the 2 lanes"):
        Learner([64, 10], backend="reference", lanes=2).fit(digits.train, images=1)
    for name in ("images", "every"):
        with pytest.raises(ValueError, match=f"{name} is 0"):
            Learner([64, 10], backend="reference").fit(digits.train, **{name: 0})
    with pytest.raises(ValueError, match="levels up to 255"):
        graded.fit(Images(digits.train.x, digits.train.y, "other levels", 10))


def test_an_error_that_is_not_a_number_stops_learning_with_step_and_layer() -> None:
    learner = Learner([4, 3, 2], precision="float", backend="reference", input_mean=0.1)
    engine = learner._started()
    engine.learn(np.ones((5, 4), np.int8), np.zeros(5, np.int64))
    engine.error = lambda sums, labels: np.array([[0.0, np.inf]], np.float32)
    with pytest.raises(DivergenceError, match=r"layer 2 of 2: .*readout.* after 5 images"):
        engine.learn(np.ones((1, 4), np.int8), np.zeros(1, np.int64))


def test_an_error_that_is_not_a_number_stops_a_layer() -> None:
    settings = LayerSettings(4, 3, precision="float", input_mean=0.1)
    (state,) = copies(settings, 1)
    layer = FloatLayer(settings, state)
    layer.forward(np.ones((1, 4), np.int8))
    with pytest.raises(DivergenceError, match="hidden layer of 3 units"):
        layer.backward(np.array([[0.0, np.nan, 0.0]], np.float32))


def test_a_stream_of_images_with_too_many_classes_is_refused() -> None:
    images = Images(torch.zeros((4, 64), dtype=torch.uint8), torch.arange(4), "four", 12)
    with pytest.raises(ValueError, match="12 classes"):
        Learner([64, 10], backend="reference").fit(images)


# Data and callbacks of one's own.


def learner_of_digits(**options) -> Learner:
    return Learner([64, 10], backend="kernels", max_level=16, **options)


def state(learner: Learner) -> bytes:
    return b"".join(hidden.tobytes() for hidden in learner.hidden)


def test_fit_takes_what_people_have(digits) -> None:
    x, y = digits.train.x[:300], digits.train.y[:300]
    expected = learner_of_digits()
    expected.fit(Images(x.reshape(300, -1), y, "images of the user's own", 10, 16))
    tensors = torch.utils.data.TensorDataset(x, y.to(torch.int32))
    for arguments in (
        (x, y),
        (x.numpy(), y.numpy().astype(np.uint8)),
        (x.numpy()[:, 0].astype(np.int64), y.tolist()),
        (tensors,),
        (torch.utils.data.DataLoader(tensors, batch_size=7, shuffle=True),),
    ):
        learner = learner_of_digits()
        learner.fit(*arguments)
        assert state(learner) == state(expected)
    data = Dataset("own", digits.train, digits.test)
    assert learner_of_digits().fit(data).accuracy.values.shape == (2, 1)
    assert learner_of_digits().fit([data, data]).accuracy.values.shape == (3, 2)


@pytest.mark.parametrize("lanes", [1, 4])
def test_partial_fit_learns_iterables_in_their_own_order(digits, lanes) -> None:
    x, y = digits.train.x[:1204], digits.train.y[:1204]
    expected = learner_of_digits(lanes=lanes)
    expected.partial_fit(x, y)

    def pairs():
        yield from zip(x, y, strict=True)

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=301)
    for given in (pairs(), loader, [(x[:700], y[:700]), (x[700:], y[700:])], Images(x, y, "some", 10, 16)):
        learner = learner_of_digits(lanes=lanes)
        assert learner.partial_fit(given) is learner
        assert state(learner) == state(expected)
    assert state(learner_of_digits(lanes=lanes).partial_fit(x.flip(0), y.flip(0))) != state(expected)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda one, x, y: one.fit(x), TypeError, r"fit\(x, y\) takes arrays"),
        (lambda one, x, y: one.fit(3), TypeError, "this is a int alone"),
        (lambda one, x, y: one.fit([(x, y)]), TypeError, r"partial_fit\(iterable\) learns pairs"),
        (lambda one, x, y: one.fit(x / 16, y), TypeError, r"Dataset.from_arrays\(x, y, scale="),
        (lambda one, x, y: one.fit(x, None), TypeError, r"fit\(x, y\)"),
        (
            lambda one, x, y: one.fit(split_classes(load_dataset("digits"), [(0, 1), (2, 3)], head="task")),
            ValueError,
            "a learner compares all: leave the head out",
        ),
        (lambda one, x, y: one.fit(x, y[1:]), DataError, "360 images but 359 labels"),
        (lambda one, x, y: one.fit(x, y + 1), DataError, "labels run from 1 to 10; with 10 classes"),
        (lambda one, x, y: one.fit(x[:0], y[:0]), DataError, "no images"),
        (lambda one, x, y: one.partial_fit(x), TypeError, r"partial_fit\(x, y\) takes"),
        (lambda one, x, y: one.partial_fit([]), DataError, "the iterable is empty"),
        (lambda one, x, y: one.partial_fit(iter([x])), TypeError, r"gives a Tensor; it must give \(x, y\)"),
        (lambda one, x, y: one.partial_fit(x / 16, y), TypeError, "float32, from 0 to 1"),
        (lambda one, x, y: one.partial_fit(x, [None] * 360), DataError, "360 of 360 images have no label"),
    ],
)
def test_fit_and_partial_fit_name_the_right_call(digits, call, error, says) -> None:
    with pytest.raises(error, match=says):
        call(learner_of_digits(), digits.test.x, digits.test.y)


def test_probes_by_position_are_taken_with_a_warning(digits) -> None:
    with pytest.warns(DeprecationWarning, match="probes=probes"):
        history = learner_of_digits().fit(digits.test, [saturation])
    assert len(history.probes) == 1


class Watching(Callback):
    def __init__(self):
        self.seen = []

    def on_step(self, run):
        self.seen.append(("step", run.task, run.step, run.loss))

    def on_test(self, run):
        self.seen.append(("test", run.task, run.step, run.accuracies, run.matrix.values.copy()))


def test_callbacks_see_steps_tests_and_the_matrix(digits) -> None:
    scenario = permuted_tasks(digits, 2, seed=0)
    watching, lines = Watching(), []
    learner = learner_of_digits()
    history = learner.fit(scenario, images=1200, callbacks=[watching, Lines(lines.append)])
    assert [event[:3] for event in watching.seen] == [
        ("test", 0, 0), ("step", 1, 1000), ("step", 1, 1200), ("test", 1, 1200),
        ("step", 2, 2200), ("step", 2, 2400), ("test", 2, 2400),
    ]  # fmt: skip
    tests = [event for event in watching.seen if event[0] == "test"]
    assert [list(event[3]) for event in tests] == history.accuracy.values.tolist()
    assert np.isnan(tests[1][4][2]).all()
    assert tests[-1][4].tolist() == history.accuracy.values.tolist()
    (_, _, _, first), (_, _, _, second) = watching.seen[1:3]
    assert history.online[0] == pytest.approx((1000 * (1 - first) + 200 * (1 - second)) / 1200)
    assert lines[1].startswith("step 1000: error ")
    assert f"acc {history.accuracy.acc():.3g}" in lines[-1]
    plain = learner_of_digits()
    plain.fit(scenario, images=1200)
    assert state(plain) == state(learner)


def test_a_logger_that_raises_does_not_stop_a_learner(digits) -> None:
    class Broken(Callback):
        def on_step(self, run):
            raise ConnectionError("no network")

    learner, plain = learner_of_digits(), learner_of_digits()
    with pytest.warns(UserWarning, match="Broken.on_step raised ConnectionError") as caught:
        learner.fit(digits.train, callbacks=[Broken()])
    assert len(caught) == 1
    plain.fit(digits.train)
    assert state(plain) == state(learner)
    with pytest.raises(TypeError, match=r"learner.save\(path\)"):
        learner.fit(digits.train, callbacks=[BestCheckpoint(digits.test, "unused")])


def test_a_learner_of_which_no_input_is_active_warns():
    learner = Learner([64, 10], backend="reference")
    levels = np.full((20, 64), 16, np.uint8)
    with pytest.warns(UserWarning, match="no input is active .* max_level = 255, and theirs go up to 16"):
        learner.partial_fit(levels, np.arange(20) % 10)
