"""Rules lowered to the learning engine: expressed, substituted or refused; and what its integers make of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import lava_meta
from lava_meta.cli.app import app
from lava_meta.errors import ConversionError
from lava_meta.online_learning.learning_engine.distance import distances, engine_gate
from lava_meta.online_learning.learning_engine.synapses import TRACE_DECAY, EngineSynapses
from lava_meta.rule import Consolidation, Constant, Exponential, Linear, Quadratic, Table, Tanh2, metaplastic_update
from lava_meta.rule.lowering import PRECISIONS, Product, lower, nearest_gate

TABLE = Table((0.0, 0.3, 1.0), (1.0, 0.3, 0.05))


@pytest.mark.parametrize("rule", [Linear(1.0), Quadratic(0.5), Constant()], ids=str)
@pytest.mark.parametrize("inputs", ["spikes", "signs"])
def test_floating_point_is_the_declared_rule_but_for_the_decay_of_traces(rule, inputs) -> None:
    generator = np.random.default_rng(3)
    engine = lower(rule, precision="float", inputs=inputs)
    reach = 0.9 * min(engine.T, 60.0)
    tags, e = generator.uniform(-reach, reach, (4, 30)), generator.normal(size=4)
    x = generator.integers(0, 2, 30).astype(bool)
    synapses = EngineSynapses(engine, tags)
    synapses.step(x, np.zeros(4, bool), {"y1": e, "y2": np.abs(e)})
    value = np.where(x, 1, 0 if inputs == "spikes" else -1)
    step = TRACE_DECAY * e[:, None] * value[None, :]
    wanted = metaplastic_update(tags / engine.scale, step / engine.scale, rule) * engine.scale
    np.testing.assert_allclose(synapses.tags, wanted, rtol=1e-12, atol=1e-12)
    assert engine.exact
    assert engine.mean_distance == 0


@pytest.mark.parametrize("rule", [Linear(1.0), Quadratic(1.0)], ids=str)
@pytest.mark.parametrize("inputs", ["spikes", "signs"])
def test_integers_step_as_declared_in_every_sign_and_nearly_without_bias(rule, inputs) -> None:
    """Every tag and trace. Without the trace y3 all of them drift down."""
    engine = lower(rule, inputs=inputs)
    for row in distances(engine):
        assert row["signs"] == 1.0, row
        assert abs(row["bias"]) < 0.006, row
        assert row["error"] < 0.06, row
    without = distances(engine, given_back=False)
    assert all(row["bias"] < -0.015 for row in without)
    assert without[0]["signs"] < 0.99


@pytest.mark.parametrize("rule", [Linear(1.0), Quadratic(1.0)], ids=str)
@pytest.mark.parametrize("inputs", ["spikes", "signs"])
@pytest.mark.parametrize("precision", ["fixed", "float"])
def test_one_gate_for_both_directions(rule, inputs, precision) -> None:
    """Before rounding, in every sign of tag, error and input: integers within the last bits that products lose.

    Near the limit sums of integers saturate on the way: with spikes, shrinking steps from within a step of it are
    larger, and none goes the other way; with signs, whose products are twice as large, those from within three.
    """
    engine = lower(rule, precision=precision, inputs=inputs, both=True)
    tags = np.linspace(-0.99, 0.99, 199)[None, :] * engine.T
    tags = np.rint(tags).astype(int) if precision == "fixed" else tags
    synapses = EngineSynapses(engine, tags)
    unit = 2**7 if precision == "fixed" else 1
    for e in (100, -100):
        for spiked in (True, False):
            traces = {"y1": np.array([e]), "y2": np.array([100]), "y3": np.array([round(engine.rounding)])}
            wide = synapses.wide_tags(np.full(199, spiked), np.zeros(1, bool), traces)
            value = 1 if spiked else 0 if inputs == "spikes" else -1
            step = np.full(tags.shape, value * e * engine.step / engine.scale)
            wanted = metaplastic_update(tags / engine.scale, step, rule, rule) * engine.scale
            reached = np.abs(tags) + np.abs(step * engine.scale) * (1 if inputs == "spikes" else 3)
            inside = reached < (np.inf if precision == "float" else 255)
            least = 1e-9 if precision == "float" else 0.03 * np.abs(wanted - tags).max() + 1e-9
            np.testing.assert_allclose((wide / unit)[inside], wanted[inside], atol=least)
            assert inside.mean() > 0.8
            if inputs == "spikes":
                assert ((wide / unit - tags) * (wanted - tags) >= -least).all()
    assert not any("y2" in product.factors for product in engine.tags)


def test_the_integers_gate_is_the_lowered_one() -> None:
    engine = lower(Tanh2(1.35))
    h, share = engine_gate(engine, 127)
    np.testing.assert_allclose(share, engine.consolidation(h), atol=0.01)


def test_weights_follow_their_tags_in_two_steps_and_0_counts_as_positive() -> None:
    tags = np.arange(-4, 5)[None, :]
    synapses = EngineSynapses(lower(Linear(1.0)), -tags - 1)
    synapses.tags = tags.astype(np.int64)
    none = {name: np.zeros(1, int) for name in ("y1", "y2", "y3")}
    silent = np.zeros(9, bool)
    synapses.step(silent, np.ones(1, bool), none)
    assert (synapses.weights != 0).all()
    synapses.step(silent, np.zeros(1, bool), none)
    np.testing.assert_array_equal(synapses.weights, np.where(tags >= 0, 128, -128))
    np.testing.assert_array_equal(synapses.tags, tags)


def test_tags_saturate_where_the_gate_ends() -> None:
    engine = lower(Linear(1.0))
    synapses = EngineSynapses(engine, np.array([[250, -250, 100, -100]]))
    for _ in range(50):
        synapses.step(
            np.ones(4, bool), np.zeros(1, bool), {"y1": np.array([-127]), "y2": np.array([127]), "y3": np.array([2])}
        )
    assert (synapses.tags[0, [0, 2]] == 255).all()
    assert (synapses.tags >= -257).all()
    assert engine.T == 256


@pytest.mark.parametrize("rule", [Tanh2(1.35), Exponential(2.0), TABLE], ids=lambda rule: rule.kind)
def test_what_is_no_polynomial_gets_the_nearest_gate_by_the_stated_measure(rule) -> None:
    engine = lower(rule)
    assert not engine.exact
    h = np.linspace(0, engine.reach, 2001)
    apart = np.abs(rule(h) - engine.consolidation(h))
    assert engine.mean_distance == pytest.approx(apart.mean())
    assert engine.max_distance == pytest.approx(apart.max())
    for other in (Linear, Quadratic):
        for T in np.geomspace(engine.reach / 20, 3 * engine.reach, 50):
            assert np.abs(rule(h) - other(float(T))(h)).mean() > engine.mean_distance - 1e-4


def test_a_given_unit_leaves_powers_of_two() -> None:
    engine = lower(Tanh2(1.0), scale=64.0, surrogate="quadratic")
    assert engine.T in (64.0, 128.0, 256.0)
    assert engine.consolidation.T * 64 == engine.T
    assert nearest_gate(Tanh2(1.0), "fixed", 64.0, "quadratic") == engine.consolidation
    assert lower(Linear(1.0), scale=32.0).T == 32


def test_products_are_counted_and_overflow_is_found_from_their_widths() -> None:
    for precision in PRECISIONS:
        for inputs in ("spikes", "signs"):
            engine = lower(Quadratic(1.0), precision=precision, inputs=inputs)
            assert engine.products == engine.dt.count(" + ") + engine.dt.count(" - ") + 1 + len(engine.weights)
            assert not engine.overflows
    assert not Product("x0", 1, -4, ("y1", "t", "t", "w")).overflows  # 127 * 257**2 * 128 < 2**31
    assert Product("x0", 3, -4, ("y1", "t", "t", "w")).overflows
    assert Product("x0", 1, -7, ("y1", "t", "t", "t")).overflows
    assert Product("x0", 1, 8, ("y1", "y2", "y3", "t", "w")).overflows
    good = lower(Linear(1.0))
    with pytest.raises(ConversionError, match=r"2\^-5\*x0\*y1\*t\*t\*t reaches .* may leave the engine's 32 bits"):
        replace(good, tags=(*good.tags, Product("x0", 1, -5, ("y1", "t", "t", "t"))))


def test_what_cannot_be_lowered_is_named_with_the_nearest() -> None:
    for rule, options, message in (
        (Tanh2(1.0), {"surrogate": "refuse"}, r"cannot express Tanh2\(m=1.0\).*nearest that it can is Linear"),
        (TABLE, {"surrogate": "refuse"}, "cannot express Table:"),
        (Linear(1.0), {"scale": 48.0}, "T of Linear.* is 48 units of the tag.* one of 16, 32, 64, 128, 256"),
        (Linear(1.0), {"scale": 128.0, "precision": "float"}, "128 units.* 1, 2, 4, 8, 16, 32, 64 of them"),
        (Quadratic(1.0), {"scale": 16.0, "precision": "float"}, "one of 1, 2, 4, 8 of them"),
    ):
        with pytest.raises(ConversionError, match=message):
            lower(rule, **options)
    with pytest.raises(ConversionError, match=r"needs the scale 2\^-8; the learning engine's go from 2\^-7"):
        Product("x0", 1, -8, ("y1",))
    for options, message in (
        ({"target": "gpu"}, "target is 'gpu'; choose one of learning-engine"),
        ({"precision": "8"}, "choose one of fixed, float"),
        ({"inputs": "pixels"}, "spikes, signs"),
        ({"surrogate": "best"}, "nearest, linear"),
        ({"scale": 0.0}, "positive number of tag units"),
    ):
        with pytest.raises(ValueError, match=message):
            lower(Linear(1.0), **options)
    with pytest.raises(TypeError, match=r"must be a Consolidation such as .*, not 'linear'"):
        lower("linear")  # type: ignore[arg-type]


def test_functions_of_ones_own_are_lowered_to_the_nearest_by_what_they_compute() -> None:
    """Not by the class that they derive from; over the range in which they fall, whatever its unit."""

    class Squared(Linear):
        def _of(self, distance, xp):
            return super()._of(distance, xp) ** 2

    engine = lower(Squared(1.0))
    assert not engine.exact
    assert engine.reach == pytest.approx(0.9, abs=0.01)  # (1 - 0.9)**2 = 0.01
    assert 0 < engine.mean_distance < 0.1
    assert lower(Linear(1.0)).consolidation == Linear(1.0)
    for s in (1e-3, 1.0, 1e3):
        engine = lower(lambda size, s=s: (1 + size / s) ** -4.0)
        assert engine.reach == pytest.approx(s * (10**0.5 - 1), rel=0.01)
        assert engine.mean_distance == pytest.approx(lower(lambda size: (1 + size) ** -4.0).mean_distance, abs=0.005)
    with pytest.raises(ConversionError, match=r"cannot express <lambda>"):
        lower(lambda size: 1 / (1 + size), surrogate="refuse")
    with pytest.raises(ConversionError, match=r"Never never falls to 0.01"):
        lower(Never())


class Never(Consolidation):
    kind = "never"

    def _of(self, distance, xp):
        return 0.5 + 0.5 / (1 + distance)

    def __str__(self) -> str:
        return "Never"


def test_the_command_prints_strings_widths_and_distances_and_draws_the_gates(tmp_path) -> None:
    picture = tmp_path / "gate.png"
    result = CliRunner().invoke(app, ["lower", "--rule", "tanh2", "--m", "1.35", "--picture", str(picture)])
    assert result.exit_code == 0, result.output
    engine = lava_meta.lower(Tanh2(1.35))
    assert engine.dt in result.output
    assert engine.dw in result.output
    assert "Linear(T=1.36): 0.039 apart in the mean" in result.output
    assert result.output.count("yes") == engine.products
    assert picture.stat().st_size > 5000
    assert picture.with_suffix(".pdf").exists()
    result = CliRunner().invoke(app, ["lower", "--rule", "linear", "--T", "1", "--precision", "float"])
    assert "Linear(T=1.0) as it is" in result.output
