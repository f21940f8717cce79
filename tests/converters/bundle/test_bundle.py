"""A bundle runs by itself in a fresh process, is whole or not there, and replaces nothing but a bundle."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from bundles import run, seal

pytest.importorskip("lava.magma")

import nir

import lava_meta
from lava_meta.converters import bundle as module
from lava_meta.errors import ConversionError, RunFolderError
from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.graph.conv import ConvLayer, Pool
from lava_meta.processes import stock_script
from lava_meta.rule import Quadratic

pytestmark = [pytest.mark.lava, pytest.mark.timeout(120)]

FILES = [
    "README.md",
    "acceptance.npz",
    "bundle.json",
    "lava_import.py",
    "network.nir",
    "network.safetensors",
    "processes.json",
    "processes.npz",
    "report.json",
    "rule.json",
    "run.py",
]


@pytest.fixture(scope="module")
def graph() -> BinaryGraph:
    """Every kind of part: pixels beyond a LIF neuron's range, pooling, a layer norm with an inhibitory unit."""
    rng = np.random.default_rng(5)
    conv = ConvLayer.from_weights(
        rng.normal(size=(4, 1, 5, 5)),
        (1, 8, 8),
        rng.integers(-500, 500, 4),
        padding=(2, 2),
        pools=(Pool((2, 2), (2, 2)),),
    )
    centred = DenseLayer.from_weights(rng.normal(size=(12, 64)), np.zeros(12), centred=True)
    readout = Readout.from_weights(rng.normal(size=(3, 12)), np.array([1.0, 0.5, -1.0]), np.arange(3.0))
    return BinaryGraph((conv, centred), readout, 255, (1, 8, 8))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(6).integers(0, 256, (130, 8, 8), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(graph: BinaryGraph, images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = np.random.default_rng(7).integers(0, 3, 130)
    return lava_meta.bundle(graph, tmp_path_factory.mktemp("bundles") / "net", images=images, labels=labels)


def test_the_script_gives_the_expected_sums_without_this_package(folder):
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["100 images in loihi-sim: 0 of 300 sums differ", "0 classes differ"]
    assert "accuracy" in done.stdout


def test_the_script_finds_a_sum_that_differs(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "net")
    with np.load(other / "acceptance.npz") as file:
        arrays = dict(file)
    arrays["sums"][7, 1] += 2
    np.savez_compressed(other / "acceptance.npz", **arrays)
    with pytest.raises(SystemExit, match=r"acceptance\.npz is not as it was written"):
        stock_script.load(other)
    seal(other, "acceptance.npz")
    done = run(other, "--images", "10")
    assert done.returncode == 3
    assert "10 images in loihi-sim: 1 of 30 sums differ" in done.stdout


def test_the_script_without_a_chip_says_so(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", "--backend", "loihi"])
    assert stock_script.main() == 1
    assert "needs a Loihi 2 chip and Intel's extension of Lava" in capsys.readouterr().err


def test_the_script_that_is_killed_leaves_no_actors(folder):
    process = subprocess.Popen([sys.executable, str(folder / "run.py")], start_new_session=True)
    forked = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while len(forked.read_text().split()) < 5:
        time.sleep(0.01)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    try:
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.05)
    except ProcessLookupError:  # nothing of its group is left
        return
    os.killpg(process.pid, signal.SIGKILL)
    pytest.fail("actors stayed")


def test_the_script_imports_lava_numpy_and_scipy_only(folder):
    tree = ast.parse((folder / "run.py").read_text(encoding="utf-8"))
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots = {name.split(".")[0] for name in found} - set(sys.stdlib_module_names)
    assert roots == {"lava", "lava_import", "numpy", "scipy"}
    assert not any(part.startswith("_") for name in found for part in name.split(".") if name != "__future__")


def test_what_lies_in_the_folder(folder, graph, images):
    assert sorted(path.name for path in folder.iterdir()) == FILES
    with np.load(folder / "acceptance.npz") as file:
        assert np.array_equal(file["images"], images[:100, None])
        assert np.array_equal(file["sums"], graph.sums(images[:100]))
        assert np.array_equal(file["classes"], graph.predict(images[:100]))
    assert np.array_equal(lava_meta.load(folder / "network.safetensors").graph.sums(images), graph.sums(images))
    assert (
        lava_meta.from_nir(nir.read(folder / "network.nir")).graph.sums(images).tolist() == graph.sums(images).tolist()
    )
    rule = json.loads((folder / "rule.json").read_text())
    assert rule["fixed"]["dt"] == lava_meta.lower(module.PAPERS_RULE).dt
    assert json.loads((folder / "report.json").read_text())["images"] == 100
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "`0 of 300 sums differ`" in text.replace("\n", " ")
    assert all(name in text for name in FILES if name != "README.md")


def test_equal_input_gives_equal_files(folder, graph, images, tmp_path):
    labels = np.random.default_rng(7).integers(0, 3, 130)
    again = lava_meta.bundle(graph, tmp_path / "net", images=images, labels=labels)
    for name in FILES:
        if name not in ("network.nir", "bundle.json"):  # HDF5 files carry the time
            assert (again / name).read_bytes() == (folder / name).read_bytes(), name


def test_random_inputs_of_signs_and_a_kernel_that_nir_lacks(tmp_path):
    rng = np.random.default_rng(8)
    hidden = ConvLayer.from_weights(rng.normal(size=(2, 1, 3, 2)), (1, 3, 4), np.zeros(2))
    readout = Readout.from_weights(rng.normal(size=(2, 6)))
    graph = BinaryGraph((hidden,), readout, 1, (1, 3, 4), min_level=-1, signs=True)
    folder = lava_meta.bundle(graph, tmp_path / "net", rule=Quadratic(T=1.0))
    assert not (folder / "network.nir").exists()
    assert "not written: hidden1 has a kernel of (3, 2)" in (folder / "README.md").read_text()
    assert json.loads((folder / "rule.json").read_text())["float"]["declared"] == "Quadratic(T=1.0)"
    done = run(folder, "--images", "20")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "20 images in loihi-sim: 0 of 40 sums differ")


def test_a_learner_brings_its_rule_and_its_hidden_weights(tmp_path):
    digits = lava_meta.load_dataset("digits")
    learner = lava_meta.online(sizes=[64, 20, 10], seed=0, backend="kernels", max_level=16)
    learner.fit(digits.train, images=300)
    folder = lava_meta.bundle(learner, tmp_path / "net", images=digits.test.x[:20], labels=digits.test.y[:20])
    with np.load(folder / "acceptance.npz") as file:
        assert np.array_equal(file["images"], learner.encode(digits.test.x[:20]))
        assert np.array_equal(file["classes"], learner.predict(digits.test.x[:20]))
    assert json.loads((folder / "rule.json").read_text())["fixed"]["declared"] == str(learner.rule.consolidation)
    again = lava_meta.load(folder / "learner.safetensors")
    assert all(map(np.array_equal, again.hidden, learner.hidden))
    assert "The network's own" in (folder / "README.md").read_text()


# Whole or not there.


def test_a_folder_with_something_else_is_left_alone(graph, tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    for overwrite in (False, True):
        with pytest.raises(RunFolderError, match=r"no bundle, or holds more than one \(thesis\.tex\)"):
            lava_meta.bundle(graph, tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunFolderError, match="no bundle"):
        lava_meta.bundle(graph, tmp_path / "thesis.tex", overwrite=True)


def test_a_bundle_gives_way_only_when_asked(graph, images, tmp_path):
    folder = lava_meta.bundle(graph, tmp_path / "net")
    with pytest.raises(RunFolderError, match="holds a bundle: choose another folder, or overwrite"):
        lava_meta.bundle(graph, folder)
    lava_meta.bundle(graph, folder, images=images, overwrite=True)
    with np.load(folder / "acceptance.npz") as file:
        assert np.array_equal(file["images"][:, 0], images[:100])
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match=r"notes\.txt"):
        lava_meta.bundle(graph, folder, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["net"]


@pytest.mark.parametrize(("place", "stage"), [(module, "readme"), (os, "fsync")])
def test_a_failure_leaves_the_old_bundle_and_nothing_else(graph, tmp_path, monkeypatch, place, stage):
    folder = lava_meta.bundle(graph, tmp_path / "net")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fails(*_args, **_options):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(place, stage, fails)
        with pytest.raises(OSError, match="no space"):
            lava_meta.bundle(graph, folder, overwrite=True)
        with pytest.raises(OSError, match="no space"):
            lava_meta.bundle(graph, tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == ["net"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


# Bad input, before anything is written.


def test_bad_input(graph, images, tmp_path):
    target = tmp_path / "net"
    with pytest.raises(TypeError, match="images are float64"):
        lava_meta.bundle(graph, target, images=images / 255)
    with pytest.raises(ValueError, match=r"labels are int64 \(3,\)"):
        lava_meta.bundle(graph, target, images=images, labels=np.zeros(3, np.int64))
    wide = DenseLayer.from_weights(np.ones((1, 17_000)), np.zeros(1))
    with pytest.raises(ConversionError, match="hidden1: the sum of neurons"):
        lava_meta.bundle(BinaryGraph((wide,), Readout.from_weights(np.ones((2, 1))), 255, (17_000,)), target)
    with pytest.raises(TypeError, match="must be a Consolidation such as"):
        lava_meta.bundle(graph, target, rule="tanh2")
    assert not list(tmp_path.iterdir())
