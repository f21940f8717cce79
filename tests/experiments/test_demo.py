"""The demonstration, short: what it prints, what it saves, and that Lava agrees with PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lava_meta.converters import LavaNetwork
from lava_meta.data import load_dataset
from lava_meta.data.scenarios import permuted_tasks
from lava_meta.errors import OutputError
from lava_meta.experiments import demo, online_demo
from lava_meta.io.config import changed


@pytest.mark.lava
def test_demo_short(tmp_path: Path) -> None:
    settings = changed(demo.PRESETS["digits"], {"hidden": (256,), "tasks": 3, "epochs": 6, "m": 30.0, "seeds": 2})
    result = demo.run(settings, tmp_path, progress=False)
    assert result.mismatches == 0
    assert result.images == 3 * 360
    text = demo.describe(result, tmp_path)
    assert "mismatches: 0" in text
    assert f"metaplastic {100 * result.metaplastic.matrix.acc():5.1f}" in text
    # The effect itself, with the same budget: more remembered after the last task.
    assert result.metaplastic.matrix.acc() > result.plain.matrix.acc() + 0.1

    for name in ("accuracy_over_time", "hidden_weights", "accuracy_matrices"):
        for kind in ("png", "pdf"):
            assert (tmp_path / "figures" / f"{name}.{kind}").stat().st_size > 5_000
    kept = json.loads((tmp_path / "summary.json").read_text())
    assert kept["lava"]["mismatches"] == 0
    assert kept["plain"]["acc"] == result.plain.matrix.acc()
    ours = kept["acc_by_seed"]["metaplastic"]
    assert ours == [found.matrix.acc() for found in result.results["metaplastic"]]
    assert ours[0] != ours[1]
    assert [found.settings.seed for found in result.results["plain"]] == [0, 1]
    assert f"metaplastic {50 * sum(ours):.1f} ± " in text

    # The file alone computes what was reported for the last row of the matrix.
    scenario = permuted_tasks(load_dataset("digits"), 3, settings.training.seed)
    graph = LavaNetwork.load(tmp_path / "network.safetensors").graph
    for task, test in enumerate(scenario.tests):
        accuracy = (graph.predict(test.x) == test.y.numpy()).mean()
        assert accuracy == pytest.approx(result.metaplastic.matrix.values[-1, task])


@pytest.mark.lava
def test_online_demo_short(tmp_path: Path) -> None:
    """Both arms inside Lava; the network that was learned, in Lava, agrees with its reference implementation."""
    result = online_demo.run(tmp_path, tasks=3, images=1000, hidden=(200,), lr=0.08)
    assert (result.images, result.mismatches) == (3 * 360, 0)
    text = online_demo.describe(result, tmp_path)
    ours, plain = result.matrices["metaplastic"], result.matrices["plain"]
    assert f"gate off {100 * plain.acc():5.1f}   metaplastic {100 * ours.acc():5.1f}" in text
    assert ours.values[-1, 0] > plain.values[-1, 0] + 0.1
    assert (tmp_path / "figures" / "accuracy_after_each_task.png").stat().st_size > 5_000
    assert {*json.loads((tmp_path / "metrics.json").read_text())} == {"metaplastic", "plain"}


@pytest.mark.lava
@pytest.mark.slow
def test_a_demo_is_made_anew_in_its_folder_and_another_is_refused(tmp_path: Path) -> None:
    """Run twice, it replaces its own files and no others; with other settings it needs `overwrite`."""
    settings = changed(demo.PRESETS["digits"], {"hidden": (16,), "tasks": 1, "epochs": 1, "seeds": 1})
    first = demo.run(settings, tmp_path, progress=False)
    (tmp_path / "notes.txt").write_text("mine")
    before = (tmp_path / "plain" / "metrics.csv").stat().st_mtime_ns
    again = demo.run(settings, tmp_path, progress=False)
    assert (again.metaplastic.matrix.values == first.metaplastic.matrix.values).all()
    assert (tmp_path / "plain" / "metrics.csv").stat().st_mtime_ns > before
    other = changed(settings, {"m": 3.0})
    with pytest.raises(OutputError, match=r"training\.m is 23\.0 there, 3\.0 here"):
        demo.run(other, tmp_path, progress=False)
    demo.run(other, tmp_path, progress=False, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
