"""Memories that are not ideal: compiled form and reference agree to the bit, each fault is what its equation says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lava_meta.data import load_dataset
from lava_meta.data.scenarios import Scenario, permuted_tasks
from lava_meta.online_learning import Device, LayerSettings, Learner, OnlineRule, load_learner
from lava_meta.online_learning.device_layer import DeviceLayer
from lava_meta.online_learning.draws import bell, key
from lava_meta.online_learning.reference import initial_state
from lava_meta.rule import Constant

EVERYTHING = {"relative_noise": 0.7, "absolute_noise": 0.02, "asymmetry": -0.2, "soft_bounds": 0.6, "drift": 0.2}


@pytest.fixture(scope="module")
def digits() -> Scenario:
    return permuted_tasks(load_dataset("digits"), 2, seed=0)


def learned(scenario: Scenario, backend: str, bits: int, device: Device | None, form: str = "fused") -> Learner:
    learner = Learner([64, 24, 10], precision=bits, device=device, seed=3, backend=backend, form=form)
    learner.fit(scenario, images=60, evaluate=False)
    return learner


def same_states(one: Learner, other: Learner) -> bool:
    return all((a[name] == b[name]).all() for a, b in zip(one.states, other.states, strict=True) for name in a)


@pytest.mark.parametrize(
    ("bits", "device"),
    [
        (8, Device()),
        (5, Device("step", asymmetry=0.3)),
        (6, Device("nearest", soft_bounds=1.0)),
        (8, Device(**EVERYTHING)),
        (16, Device("step", **EVERYTHING)),
        (3, Device("nearest", drift=0.5, absolute_noise=0.3)),
    ],
)
def test_the_compiled_form_equals_the_twin(digits: Scenario, bits: int, device: Device) -> None:
    reference, kernels = (learned(digits, backend, bits, device) for backend in ("reference", "kernels"))
    assert same_states(reference, kernels)
    for state, limit in zip(kernels.states, kernels.limits, strict=True):
        assert np.abs(state["hidden"]).max() <= limit
        assert (state["balance"] == np.where(state["hidden"] >= 0, 1, -1).sum(axis=0)).all()


@pytest.mark.parametrize("bits", [3, 8, 16])
def test_an_ideal_device_is_the_memory_of_whole_levels(digits: Scenario, bits: int) -> None:
    plain, device = learned(digits, "kernels", bits, None), learned(digits, "kernels", bits, Device())
    for a, b in zip(plain.states, device.states, strict=True):
        assert (a["hidden"].astype(int) * 2 ** (16 - bits) == b["hidden"]).all()
        assert all((a[name] == b[name]).all() for name in ("trace", "deviation", "balance"))


@pytest.mark.lava
@pytest.mark.parametrize("form", ["fused", "layers"])
def test_a_device_learns_in_lava_as_its_twin_does(digits: Scenario, form: str) -> None:
    device = Device(**EVERYTHING)
    assert same_states(learned(digits, "lava", 8, device, form), learned(digits, "kernels", 8, device))


def test_a_learner_on_a_device_is_saved_and_resumed(digits: Scenario, tmp_path: Path) -> None:
    learner = learned(digits, "kernels", 6, Device(**EVERYTHING))
    learner.save(tmp_path / "learner.safetensors")
    resumed = load_learner(tmp_path / "learner.safetensors")
    assert resumed.device == learner.device
    for one in (learner, resumed):
        one.fit(digits.train[0], images=50)
    assert same_states(learner, resumed)


# What each fault does, on one layer without gate or window whose units all take one known step.


def stepped(
    device: Device, levels: float, *, inputs: int = 200, units: int = 300, start: int = 0, bits: int = 8
) -> np.ndarray:
    """The change of each hidden weight (inputs, units) by one step of `levels` from level `start`, in levels."""
    settings = LayerSettings(
        inputs,
        units,
        readout=True,
        precision=bits,
        device=device,
        rule=OnlineRule(consolidation=Constant(), readout_limit=1.0),
    )
    layer = DeviceLayer(settings, initial_state(settings, np.random.default_rng(0)))
    layer.hidden[:] = start * settings.unit
    layer.refresh()
    amount = np.full(units, round(levels * 2 ** (settings.step_bits - 8)), np.int64)
    layer._step_synapses(np.ones(inputs, np.int8), amount)
    return layer.hidden / settings.unit - start


def test_stochastic_rounding_has_no_bias_and_a_draw_a_synapse() -> None:
    moved = stepped(Device(), 0.3)
    assert set(np.unique(moved)) == {0, 1}
    assert moved.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / moved.size))


def test_one_draw_a_step_moves_all_synapses_or_none() -> None:
    assert len(np.unique(stepped(Device("step"), 0.3))) == 1


@pytest.mark.parametrize(("levels", "whole"), [(0.49, 0), (0.5, 1), (-0.5, -1), (-0.49, 0), (2.6, 3)])
def test_rounding_to_nearest(levels: float, whole: int) -> None:
    assert (stepped(Device("nearest"), levels) == whole).all()


@pytest.mark.parametrize("levels", [1, -20])
def test_relative_noise_is_a_share_of_the_write(levels: int) -> None:
    moved = stepped(Device(relative_noise=0.3), levels)
    assert moved.mean() == pytest.approx(levels, abs=4 * 0.3 * abs(levels) / np.sqrt(moved.size) + 1 / 512)
    assert moved.std() == pytest.approx(0.3 * abs(levels), rel=0.02)


def test_absolute_noise_is_a_share_of_the_range_and_comes_with_writes_only() -> None:
    moved = stepped(Device(absolute_noise=0.05), 1)
    assert moved.mean() == pytest.approx(1, abs=4 * 0.05 * 127 / np.sqrt(moved.size))
    assert moved.std() == pytest.approx(0.05 * 127, rel=0.02)
    assert (stepped(Device("nearest", absolute_noise=0.05), 0.4) == 0).all()


def test_asymmetry_makes_up_steps_larger_and_down_steps_smaller() -> None:
    assert (stepped(Device("nearest", asymmetry=0.5), 10) == 15).all()
    assert (stepped(Device("nearest", asymmetry=0.5), -10) == -5).all()


def test_soft_bounds_scale_growing_steps_only() -> None:
    device = Device("nearest", soft_bounds=0.5)
    assert (stepped(device, 20, start=0) == 20).all()
    assert (stepped(device, 20, start=64) == 15).all()  # 20 * (1 - 0.5 * 64/127)
    assert (stepped(device, -20, start=64) == -20).all()
    assert (stepped(device, -20, start=-64) == -15).all()


def test_drift_takes_its_share_in_a_thousand_images() -> None:
    settings = LayerSettings(20, 30, precision=8, device=Device(drift=0.2))
    layer = DeviceLayer(settings, initial_state(settings, np.random.default_rng(0)))
    start = np.random.default_rng(1).integers(-127, 128, (20, 30)) * settings.unit
    layer.hidden[:] = start
    layer.refresh()
    for _ in range(1000):
        layer._learn(np.zeros(20, np.int8), np.zeros(30, np.int64), np.zeros(30, np.int64))
    assert (
        np.abs(layer.hidden - 0.8 * start).max() <= 10
    )  # units of 1/32512 of the range: a rounding at each of ten moments
    assert (layer.balance == np.where(layer.hidden >= 0, 1, -1).sum(axis=0)).all()


def test_noise_is_near_to_normal_and_independent() -> None:
    n = bell(key(7, 1), np.arange(400), 500)
    other = bell(key(7, 2), np.arange(400), 500)
    deviation = np.sqrt(4 * (256**2 - 1) / 12)
    assert abs(n.mean()) < 4 * deviation / np.sqrt(n.size)
    assert n.std() == pytest.approx(deviation, rel=0.01)
    # Quantiles of a sum of four uniforms (Irwin-Hall): P(|n| < 1 deviation) is 0.6693.
    assert (np.abs(n) < deviation).mean() == pytest.approx(0.6693, abs=0.01)
    for pair in ((n[:, :-1], n[:, 1:]), (n[:-1], n[1:]), (n, other)):
        assert abs(np.corrcoef(pair[0].ravel(), pair[1].ravel())[0, 1]) < 0.01


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rounding", "floor"),
        ("relative_noise", -0.1),
        ("relative_noise", 11.0),
        ("absolute_noise", 1.5),
        ("asymmetry", 1.1),
        ("soft_bounds", -0.1),
        ("drift", 1.0),
        ("drift", float("nan")),
        ("drift", "much"),
        ("asymmetry", True),
    ],
)
def test_values_out_of_range_are_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        Device(**{field: value})  # type: ignore[arg-type]


def test_a_device_needs_bits() -> None:
    with pytest.raises(ValueError, match="bits of a hidden weight"):
        Learner([64, 10], precision="float", device=Device(), backend="reference")
