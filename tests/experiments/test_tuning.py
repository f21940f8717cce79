"""Tuning an experiment: its trials, and the file of settings that the experiment takes."""

from pathlib import Path

import pytest
from command_line import lava_meta

from lava_meta.experiments.common.experiment import find
from lava_meta.experiments.common.settings import changed
from lava_meta.experiments.common.training import load
from lava_meta.experiments.common.tuning import tune_experiment
from lava_meta.io.config import override, read_config
from lava_meta.training.proposal import propose_m
from lava_meta.tuning import Budget

pytest.importorskip("optuna")
TINY = ["epochs=1", "hidden=8", "train_images=100", "test_images=60", "tasks=2"]


def test_trials_are_runs_on_held_out_images(tmp_path):
    experiment = find("permuted_mnist")
    settings = override(experiment.scales["small"], TINY)
    options = {"budget": Budget(4), "search": ("m", "lr", "grow"), "seeds": 2}
    trials = tune_experiment(experiment, settings, tmp_path, scale="small", **options)
    m = propose_m(1 * 2, settings.training.lr, 2)  # 80 of 100 images in batches of 50
    assert [trial.values for trial in trials] == [
        {"m": m, "lr": 0.005, "grow": "whole"},
        {"m": 2 * m, "lr": 0.005, "grow": "whole"},
        {"m": m / 2, "lr": 0.005, "grow": "whole"},
        {"m": m, "lr": 0.005, "grow": "gated"},
    ]
    assert all(trial.accuracy == pytest.approx(sum(trial.tasks) / 2, abs=0.01) for trial in trials)
    # An accuracy is a share of the images of two seeds, which are not 60 as the test images are.
    (count,) = {len(load(changed(settings, held_out=0.2), "digits", seed).test) for seed in (0, 1)}
    shares = [2 * count * accuracy / 100 for trial in trials for accuracy in trial.tasks]
    assert shares == pytest.approx([round(share) for share in shares], abs=0.01)
    assert count < 25


def test_on_the_command_line_from_search_to_experiment(tmp_path: Path):
    sets = [word for text in TINY for word in ("--set", text)]
    ended = lava_meta("tune", "permuted_mnist", *sets, "--trials", "2", "--out", "tuned", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "[2/2] m = " in ended.stdout
    more = lava_meta("tune", "permuted_mnist", *sets, "--trials", "3", "--out", "tuned", "--resume", cwd=tmp_path)
    assert "[3/3] m = " in more.stdout
    assert "[2/3]" not in more.stdout
    file = read_config(tmp_path / "tuned" / "config.yaml")
    words = ("experiment", "permuted_mnist", "--config", "tuned/config.yaml", "--rule", "metaplastic", "--seeds", "1")
    ended = lava_meta(*words, "--out", "run", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert f"m = [0.0, {file['settings']['m'][1]}]" in ended.stdout
    assert "held_out = 0.0" in ended.stdout


@pytest.mark.parametrize("name", ["quadratic_binary_task", "baselines"])
def test_experiments_without_an_m_of_their_own_are_refused(tmp_path, name):
    experiment = find(name)
    with pytest.raises(ValueError, match=f"{name} has no m that could be tuned"):
        tune_experiment(experiment, experiment.scales["small"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
