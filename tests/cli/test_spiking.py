"""The commands on networks of spiking neurons."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import lava_meta

pytest.importorskip("snntorch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import snntorch as snn
    import torch
    from torch import nn

    from lava_meta import from_snntorch

    place = tmp_path_factory.mktemp("spiking")
    torch.manual_seed(0)
    options = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}
    model = nn.Sequential(nn.Linear(16, 8), snn.Leaky(0.9, **options), nn.Linear(8, 4), snn.Leaky(0.8, **options))
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.mul_(3)
    from_snntorch(model.eval(), bits=8, form="stock").save(place / "net.safetensors")
    np.save(place / "images.npy", np.random.default_rng(0).integers(0, 2, (6, 16)).astype(np.uint8))
    np.save(place / "frames.npy", np.random.default_rng(1).integers(0, 2, (6, 5, 16)).astype(np.uint8))
    return place


@pytest.mark.lava
def test_run(folder: Path) -> None:
    pytest.importorskip("lava.magma")
    from lava_meta.graph.spiking import classes_by_rate
    from lava_meta.graph.spiking_file import load_spiking

    network, graph = folder / "net.safetensors", load_spiking(folder / "net.safetensors")[0]
    images, frames = np.load(folder / "images.npy"), np.load(folder / "frames.npy")
    done = lava_meta("run", network, folder / "images.npy", "--steps", "7")
    wanted = classes_by_rate(graph.spikes(images, 7)["3"])
    assert [int(line) for line in done.stdout.split()] == wanted.tolist(), done.stderr
    words = ("--backend", "loihi-sim", "--sums", "-o", folder / "counts.npy")
    done = lava_meta("run", network, folder / "frames.npy", *words)
    assert done.returncode == 0, done.stderr
    counts = graph.spikes(frames.swapaxes(0, 1), form="fixed_pt")["3"].sum(axis=0)
    assert np.array_equal(np.load(folder / "counts.npy"), counts)
    done = lava_meta("run", network, folder / "images.npy", "--backend", "kernels")
    assert done.returncode == 2
    assert "a spiking network runs on cpu and loihi-sim" in " ".join(done.stderr.replace("│", " ").split())


def test_report_and_info(folder: Path) -> None:
    words = ("--images", folder / "images.npy", "--steps", "7", "--limit", "4", "-o", folder / "report")
    done = lava_meta("report", folder / "net.safetensors", *words)
    assert done.returncode == 0, done.stderr
    assert "held for 7 time steps" in done.stdout
    assert json.loads((folder / "report" / "report.json").read_text())["images"] == 4
    done = lava_meta("info", folder / "net.safetensors")
    assert done.returncode == 0, done.stderr
    assert "read by rate" in done.stdout
    assert "leaky" in done.stdout


@pytest.mark.lava
def test_bundle(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("lava.magma")
    done = lava_meta("bundle", folder / "net.safetensors", "-o", tmp_path / "net", "--images", folder / "frames.npy")
    assert done.returncode == 0, done.stderr
    assert "run it with `python" in done.stdout
    with np.load(tmp_path / "net" / "acceptance.npz") as file:
        assert file["images"].shape == (6, 5, 16)
        assert file["spikes"].shape == (6, 5, 4)
    done = lava_meta("bundle", folder / "net.safetensors", "-o", tmp_path / "other", "--data", "digits")
    assert done.returncode == 2
    assert "a spiking network takes --images, --steps and --overwrite" in " ".join(
        done.stderr.replace("│", " ").split()
    )


@pytest.mark.lava
def test_learners_over_time(tmp_path: Path) -> None:
    import lava_meta as library
    from lava_meta.online_learning import OnlineRule

    digits = library.load_dataset("digits")
    images = digits.test.x[:20].numpy()
    np.save(tmp_path / "images.npy", images)
    for name, divisive in (("fixed", False), ("relative", True)):
        rule = OnlineRule.sparse(lr=0.05, divisive=divisive)
        learner = library.LearnerOverTime([64, 20, 10], rule, steps=4, backend="kernels")
        learner.fit(library.permuted_tasks(digits, 1, seed=0), images=100)
        learner.save(tmp_path / name)
        done = lava_meta("run", tmp_path / name, tmp_path / "images.npy")
        assert [int(line) for line in done.stdout.split()] == learner.predict(images).tolist(), done.stderr
        assert ("outside Lava" in done.stderr) == divisive
    done = lava_meta("run", tmp_path / "fixed", "--backend", "kernels")
    assert f"accuracy {100 * learner_accuracy(tmp_path / 'fixed'):.2f} % of 360" in done.stdout
    done = lava_meta("info", tmp_path / "relative")
    assert "learns from 4 time steps an image" in done.stdout, done.stderr
    assert "learned permuted(digits" in done.stdout
    done = lava_meta("report", tmp_path / "fixed", "--images", tmp_path / "images.npy")
    assert "hidden1" in done.stdout, done.stderr
    done = lava_meta("run", tmp_path / "fixed", tmp_path / "images.npy", "--sums")
    assert (done.returncode, "gives classes" in done.stderr) == (2, True)


def learner_accuracy(path: Path) -> float:
    import lava_meta as library

    learner = library.load(path)
    (test,) = library.permuted_tasks(library.load_dataset("digits"), 1, seed=0).tests
    return learner.accuracy(test)
