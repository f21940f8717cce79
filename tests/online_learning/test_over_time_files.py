"""Learners over time as files, and as the spiking networks that they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stopping import StopsAt

import lava_meta
from lava_meta import LearnerOverTime, OnlineRule, load_dataset
from lava_meta.data.scenarios import permuted_tasks
from lava_meta.errors import ConversionError, FormatError, RunFolderError
from lava_meta.io.sealed import LEARNER, read_sealed, write_sealed
from lava_meta.online_learning import load_learner
from lava_meta.online_learning.over_time_network import EngineOverTime

DIGITS = load_dataset("digits")
FIXED = OnlineRule.sparse(lr=0.05, divisive=False)  # thresholds that do not follow the image


def new(rule: OnlineRule = FIXED, sizes: tuple[int, ...] = (64, 30, 20, 10), **options: Any) -> LearnerOverTime:
    return LearnerOverTime(sizes, rule, **{"steps": 8, "backend": "kernels", **options})


def spikes_of(learner: LearnerOverTime, trains: np.ndarray) -> dict[str, np.ndarray]:
    """Of hidden layers, (n, steps, units), and the readout's sums, by the layers that learn."""
    found, x = {}, trains
    for name, layer in zip(learner.names, EngineOverTime(learner.net).layers, strict=True):
        x = layer.forward(x if name != "readout" else x.sum(axis=1, dtype=np.int16))
        found[name] = x
    return found


@pytest.mark.parametrize("precision", [8, "float"])
def test_a_file_holds_all_of_it(precision: Any, tmp_path: Path) -> None:
    learner = new(OnlineRule.sparse(), precision=precision, leak=0.75, coding="constant", seed=4)
    learner.fit(DIGITS.train, images=300)
    learner.save(tmp_path / "a")
    again = lava_meta.load(tmp_path / "a")
    assert isinstance(again, LearnerOverTime)
    assert (again.net.steps, again.net.leak, again.encoding) == (8, 0.75, learner.encoding)
    for one in (learner, again):
        one.fit(DIGITS.train, images=200)
        one.save(tmp_path / f"more{one is again}")
    assert (tmp_path / "moreTrue").read_bytes() == (tmp_path / "moreFalse").read_bytes()
    np.testing.assert_array_equal(learner.predict(DIGITS.test.x), again.predict(DIGITS.test.x))


def test_a_stopped_call_goes_on_to_the_identical_result(tmp_path: Path) -> None:
    tasks = permuted_tasks(DIGITS, 2, seed=2)
    whole = new()
    history = whole.fit(tasks, images=200, every=100, checkpoint=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        new().fit(tasks, images=200, every=100, checkpoint=tmp_path / "part", callbacks=[StopsAt(300)])
    assert load_learner(tmp_path / "part").under_way == (tasks.train[1].name, 100)
    resumed = new()
    again = resumed.fit(tasks, images=200, every=100, checkpoint=tmp_path / "part", resume=True)
    np.testing.assert_array_equal(again.accuracy.values, history.accuracy.values)
    for learner, name in ((whole, "whole"), (resumed, "part")):
        learner.save(tmp_path / name)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "part").read_bytes()


def test_files_and_calls_of_another_kind_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        new().fit(DIGITS.train, images=200, checkpoint=tmp_path / "a", callbacks=[StopsAt(200)])
    with pytest.raises(RunFolderError, match=r"over_time\.leak is 0.5 there, 0.25 here"):
        new(leak=0.25).fit(DIGITS.train, images=200, checkpoint=tmp_path / "a", resume=True)
    header, tensors = read_sealed(tmp_path / "a", LEARNER, range(2, 3))
    for change, reason in (
        ({"steps": 3}, "steps is 3"),
        ({"leak": 2}, "leak is 2"),
        ({"coding": "x"}, "coding is 'x'"),
    ):
        write_sealed(tmp_path / "b", header | {"over_time": header["over_time"] | change}, tensors)
        with pytest.raises(FormatError, match=reason):
            load_learner(tmp_path / "b")
    write_sealed(tmp_path / "b", header | {"over_time": {}}, tensors)
    with pytest.raises(FormatError):
        load_learner(tmp_path / "b")


@pytest.mark.parametrize("leak", [0.0, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("precision", [3, 8, 16, "float"])
def test_its_spiking_network_has_its_spikes_and_sums(precision: Any, leak: float, tmp_path: Path) -> None:
    learner = new(precision=precision, leak=leak)
    learner.fit(DIGITS.train, images=150)
    trains = learner.trains(DIGITS.test.x[:150])
    wanted = spikes_of(learner, trains)
    assert 0.005 < wanted["hidden1"].mean() < 0.8
    net = lava_meta.convert(learner)
    net.save(tmp_path / "net")
    graph = lava_meta.load(tmp_path / "net").graph
    for form in ("floating_pt", "fixed_pt") if precision != "float" else ("floating_pt",):
        spikes, potentials = graph.traces(trains.swapaxes(0, 1), None, form, None, ["output"])
        for name in ("hidden1", "hidden2"):
            np.testing.assert_array_equal(spikes[name].swapaxes(0, 1), wanted[name])
        unit = 64 if form == "fixed_pt" else 1
        np.testing.assert_array_equal(potentials["output"][-1] / unit, wanted["readout"])


@pytest.mark.lava
@pytest.mark.parametrize("precision", [8, "float"])
def test_it_runs_in_lava_and_reports(precision: Any) -> None:
    learner = new(precision=precision, sizes=(64, 40, 10))
    learner.fit(DIGITS.train, images=300)
    net = lava_meta.convert(learner)
    images = DIGITS.test.x[:60]
    assert (net.readout, net.graph.sizes) == ("last", "64, hidden1 40, output 10")
    np.testing.assert_array_equal(net.predict(learner.trains(images), time_first=False), learner.predict(images))
    report = learner.report("loihi2", images, labels=DIGITS.test.y[:60].numpy())
    assert [node.synapses for node in report.nodes] == [64 * 40, 0, 400, 0]


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (OnlineRule.sparse(), "thresholds that follow it"),
        (OnlineRule.sparse(layer_norm=True), "layer_norm=False"),
        (OnlineRule.two_sided(divisive=False), r"hidden1 spikes on either side.*sets the other's potential to 0"),
        (OnlineRule.sparse(divisive=False, kappa=0), "hidden1 has units that fire at rest"),
    ],
)
def test_units_that_no_spiking_network_has_are_refused_by_name(rule: OnlineRule, reason: str, tmp_path: Path) -> None:
    learner = new(rule, sizes=(64, 30, 10))
    with pytest.raises(ConversionError, match=reason):
        lava_meta.convert(learner)
    with pytest.raises(ConversionError, match=r"bundle\(convert\(learner\)"):
        lava_meta.bundle(learner, tmp_path / "bundle")


def test_its_neurons_have_no_stock_form_and_no_nir_and_say_so() -> None:
    net = lava_meta.convert(new(sizes=(64, 30, 10)))
    with pytest.raises(ConversionError, match="hidden1 has integer neurons, which are no LIF neurons"):
        lava_meta.SpikingNetwork(net.graph, form="stock")
    with pytest.raises(ConversionError, match=r"hidden1 \(integer neurons\) has no node in NIR"):
        lava_meta.to_nir(net, time_step=1e-4)
