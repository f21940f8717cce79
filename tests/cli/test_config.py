"""`--config` of `train` and `experiment`: what a run leaves is what makes the same run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import lava_meta

from lava_meta.cli.train_config import TrainConfig
from lava_meta.io.config import changed, read_config

TRAIN = ("--tasks", "2", "--hidden", "16", "--epochs", "1", "--m", "2,3", "--keep-moments", "--clear", "--threads", "1")
EXPERIMENT = ("--m", "0", "--seeds", "1", "--rule", "metaplastic", "--set", "tasks=2", "--set", "training.epochs=1")


def test_a_training_is_repeated_from_its_folder(tmp_path: Path) -> None:
    assert lava_meta("train", *TRAIN, "--lr", "1e-3", "--out", tmp_path / "a").returncode == 0
    kept = changed(TrainConfig(), read_config(tmp_path / "a" / "config.yaml"))
    assert (kept.hidden, kept.threads, kept.training.m, kept.training.lr) == ((16,), 1, (2.0, 3.0), 0.001)
    assert (kept.training.reset_moments, kept.training.fast) == (False, False)
    words = ("train", "--config", tmp_path / "a" / "config.yaml", "--out")
    assert lava_meta(*words, tmp_path / "b").returncode == 0
    for name in ("metrics.csv", "settings.json", "config.yaml", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert lava_meta(*words, tmp_path / "c", "--seed", "1").returncode == 0
    assert read_config(tmp_path / "c" / "config.yaml")["training"]["seed"] == 1  # flags override the file
    assert lava_meta(*words, tmp_path / "a", "--resume").returncode == 0
    settings = tmp_path / "a" / "settings.json"  # for which config.yaml stands
    assert lava_meta("train", "--config", settings, "--out", tmp_path / "d").returncode == 0
    assert (tmp_path / "d" / "metrics.csv").read_bytes() == (tmp_path / "a" / "metrics.csv").read_bytes()
    (tmp_path / "a" / "config.yaml").unlink()
    done = lava_meta("train", "--config", settings, "--tasks", "1", "--hidden", "8", "--out", tmp_path / "e")
    assert done.returncode == 0, done.stderr
    assert read_config(tmp_path / "e" / "config.yaml")["training"]["lr"] == 0.001


def test_an_experiment_is_repeated_from_its_folder(tmp_path: Path) -> None:
    words = ("experiment", "permuted_mnist", "--out")
    assert lava_meta(*words, tmp_path / "a", *EXPERIMENT, "--set", "hidden=16").returncode == 0
    assert lava_meta(*words, tmp_path / "b", "--config", tmp_path / "a" / "settings.json").returncode == 0
    tables = [(tmp_path / name / "summary.csv").read_text() for name in "ab"]
    assert tables[0] == tables[1]
    described = [json.loads((tmp_path / name / "settings.json").read_text()) for name in "ab"]
    assert described[0] == described[1]

    run = tmp_path / "a" / "runs" / "m_0" / "seed0"
    for settings in (run / "config.yaml", run / "settings.json"):
        done = lava_meta(*words, tmp_path / "a", "--config", settings, "--resume")
        assert done.returncode == 0, done.stderr
        assert "read back" in done.stdout

    (tmp_path / "run.yaml").write_text("tasks: 2\nm: [0]\nseeds: 1\nrules: [metaplastic]\nhidden: [16]\nepochs: 1\n")
    done = lava_meta(*words, tmp_path / "a", "--config", tmp_path / "run.yaml", "--resume")
    assert done.returncode == 0, done.stderr
    assert "read back" in done.stdout


@pytest.mark.parametrize(
    ("words", "text", "code", "message"),
    [
        (("train", "--out", "x"), "epochs: many", 1, "run.yaml: epochs is 'many'; it must be a valid integer"),
        (
            ("train", "--out", "x"),
            "settings: {}",
            1,
            "run.yaml: there is no setting 'settings'; there are data, scenario",
        ),
        (("train", "--out", "x"), "[1", 1, "run.yaml"),
        (("train", "--out", "x", "--scenario", "split", "--tasks", "3"), "tasks: 2", 1, "tasks is 3; 10 classes"),
        (("experiment", "spiking"), "experiment: sign_switch\nsettings: {}", 1, "is of the experiment sign_switch"),
        (("experiment", "spiking"), "scale: huge\nsettings: {}", 2, "'huge'; choose small, medium, paper"),
        (("experiment", "--all"), "seeds: 1", 2, "leave out --all"),
    ],
)
def test_a_file_that_does_not_fit(words: tuple[str, ...], text: str, code: int, message: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    done = lava_meta(*words, "--config", "run.yaml", cwd=tmp_path)
    assert done.returncode == code
    assert message in " ".join(done.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]
