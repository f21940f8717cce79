"""The commands on networks that are no chain: each works, or names the node that it cannot take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import lava_meta

FILE = """
import torch
from torch import nn
from published_forms import made

def ternary():
    return made("ternary")[0]

def residual():
    return made("Bi-Real")[0]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("graphs")
    (place / "models.py").write_text(FILE)
    rng = np.random.default_rng(0)
    np.save(place / "small.npy", rng.integers(0, 256, (6, 1, 8, 8)).astype(np.uint8))
    np.save(place / "colour.npy", rng.integers(0, 256, (6, 3, 16, 16)).astype(np.uint8))
    scale = ("--mean", "0.1307", "--std", "0.3081", "--input-shape", "1,8,8")
    colour = ("--mean", "0.49,0.48,0.44", "--std", "0.25,0.24,0.26", "--input-shape", "3,16,16")
    for name, words in (("ternary", scale), ("residual", colour)):
        done = lava_meta("convert", place / f"models.py:{name}", *words, "-o", place / f"{name}.safetensors")
        assert done.returncode == 0, done.stderr
    return place


def test_run_and_info(folder: Path) -> None:
    from lava_meta import load

    for name, images in (("ternary", "small.npy"), ("residual", "colour.npy")):
        network = folder / f"{name}.safetensors"
        expected = load(network).graph.predict(np.load(folder / images)).tolist()
        done = lava_meta("run", network, folder / images, "--backend", "kernels")
        assert [int(line) for line in done.stdout.split()] == expected
        shown = lava_meta("info", network, "--picture", folder / f"{name}.png")
        assert shown.returncode == 0, shown.stderr
        assert "threshold" in shown.stdout
        assert (folder / f"{name}.png").stat().st_size > 1000


def test_report(folder: Path) -> None:
    done = lava_meta("report", folder / "ternary.safetensors", "--images", folder / "small.npy", "-o", folder / "out")
    assert done.returncode == 0, done.stderr
    assert "Resources on Loihi 2" in done.stdout
    assert (folder / "out" / "report.json").is_file()
    done = lava_meta("report", folder / "residual.safetensors", "--images", folder / "colour.npy")
    assert done.returncode == 0, done.stderr
    assert "Does not fit Loihi 2" in done.stdout
    assert "layers.0.curve is a real stream" in done.stdout


@pytest.mark.lava
def test_bundle_and_the_stock_form(folder: Path) -> None:
    pytest.importorskip("lava.magma")
    network, images = folder / "ternary.safetensors", folder / "small.npy"
    done = lava_meta("bundle", network, "--images", images, "-o", folder / "bundle")
    assert done.returncode == 0, done.stderr
    script = subprocess.run(
        [sys.executable, folder / "bundle" / "run.py"], capture_output=True, text=True, check=False, cwd=folder
    )
    assert script.returncode == 0, script.stderr
    assert "0 of 60 sums differ" in script.stdout
    on_stock = lava_meta("run", network, images, "--backend", "loihi-sim")
    assert on_stock.stdout == lava_meta("run", network, images, "--backend", "kernels").stdout
    network, images = folder / "residual.safetensors", folder / "colour.npy"
    for words in (
        ("bundle", network, "--images", images, "-o", folder / "none"),
        ("run", network, images, "--backend", "loihi-sim"),
    ):
        refused = lava_meta(*words)
        assert refused.returncode != 0
        assert "conv1.conv has weights of 46 bits" in refused.stderr
    assert not (folder / "none").exists()
