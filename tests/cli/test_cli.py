"""The command line as a user types it: outputs, exit codes, and one readable line for each error."""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import lava_meta
from safetensors.torch import save_file

from lava_meta.cli.model_source import make_model
from lava_meta.cli.run import _sink
from lava_meta.errors import RunFolderError
from lava_meta.graph import BinaryGraph
from lava_meta.nn import BinaryMLP
from lava_meta.online_learning import OnlineRule, load_learner
from lava_meta.training.model_file import save_model


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("network")
    save_model(BinaryMLP([64, 32, 10], pixel_mean=5, pixel_std=6, max_level=16, seed=0), folder / "model.safetensors")
    done = lava_meta("convert", folder / "model.safetensors", "-o", folder / "net.safetensors")
    assert done.returncode == 0, done.stderr
    assert "0 mismatches with the float64 model" in done.stdout
    return folder / "net.safetensors"


def test_help_teaches_the_way() -> None:
    done = lava_meta("--help")
    assert done.returncode == 0
    for word in ("demo", "train", "convert", "run", "info", "lava-meta convert results/mnist/model.safetensors"):
        assert word in done.stdout


def test_help_of_train_says_what_a_setting_takes() -> None:
    lines = lava_meta("train", "--help").stdout.splitlines()
    for flag, takes in (
        ("--epochs", "<int>"),
        ("--lr", "<float>"),
        ("--hidden", "<int,...>"),
        ("--m", "<float|float,...>"),
        ("--scenario", "<permuted|split|stream>"),
        ("--data", "<str>"),
    ):
        assert any(flag in line.split() and takes in line.split() for line in lines), flag


def test_online_counts_tasks_from_1_and_by_its_old_option_from_0(tmp_path: Path) -> None:
    words = ("online", "--backend", "kernels", "--hidden", "20", "--images", "40")
    new = lava_meta(*words, "--task", "2", "--out", tmp_path / "new.safetensors")
    old = lava_meta(*words, "--permutation", "1", "--out", tmp_path / "old.safetensors")
    assert "40 images of digits train, permutation 2" in new.stdout
    assert "warning: --permutation is now --task, counted from 1" in old.stderr
    assert (tmp_path / "new.safetensors").read_bytes() == (tmp_path / "old.safetensors").read_bytes()
    both = lava_meta(*words, "--permutation", "1", "--task", "2", "--out", tmp_path / "both.safetensors")
    assert (both.returncode, "give --task alone" in both.stderr) == (2, True)


def test_a_new_network_learns_on_line_with_sparse_spikes_and_converts(tmp_path: Path) -> None:
    words = ("online", "--backend", "kernels", "--hidden", "20", "--images", "40", "-o", "learner.safetensors")
    assert lava_meta(*words, cwd=tmp_path).returncode == 0
    learner = load_learner(tmp_path / "learner.safetensors")
    assert learner.rule == OnlineRule.sparse(lr=0.1, divisive=False)
    assert learner.graph().readout.scale[0] == 0.5
    for activation, rule in (("signs", OnlineRule), ("abs_spikes", partial(OnlineRule.two_sided, divisive=False))):
        assert lava_meta(*words, "--activation", activation, "--overwrite", cwd=tmp_path).returncode == 0
        assert load_learner(tmp_path / "learner.safetensors").rule == rule(lr=0.1)


@pytest.mark.lava
def test_train_convert_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("train", "--tasks", "2", "--hidden", "64", "--epochs", "2", "--m", "2,3", "--out", out)
    done = lava_meta(*words)
    assert done.returncode == 0, done.stderr
    assert "ACC" in done.stdout
    for name in ("settings.json", "metrics.csv", "metrics.json", "accuracy.csv", "model.safetensors"):
        assert (out / name).stat().st_size > 0
    assert (out / "figures" / "accuracy_over_time.png").stat().st_size > 10_000

    again = lava_meta(*words)
    assert again.returncode == 1
    assert len(again.stderr.splitlines()) == 1
    assert "holds a run" in again.stderr
    assert lava_meta(*words, "--resume").returncode == 0
    assert "settings.fast is True there, False here" in lava_meta(*words, "--resume", "--clear").stderr

    net = tmp_path / "net.safetensors"
    assert lava_meta("convert", out / "model.safetensors", "-o", net).returncode == 0
    run = lava_meta("run", net, "--data", "digits", "--lanes", "16", "--out", tmp_path / "classes.npy")
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("of 360") == 2  # both tasks that were learned
    assert np.load(tmp_path / "classes.npy").shape == (2 * 360,)


@pytest.mark.lava
def test_run_prints_a_class_a_line(network: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 17, (7, 8, 8)).astype(np.uint8))
    done = lava_meta("run", network, tmp_path / "images.npy")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 7
    assert set(done.stdout.split()) <= set("0123456789")


@pytest.mark.lava
def test_run_gives_the_layer_that_is_asked_for(network: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 17, (300, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    graph = BinaryGraph.load(network)
    expected = graph.activations(images)
    for words, name in ((("--layer", "hidden1"), "hidden1"), (("--sums",), "readout"), (("--lanes", "256"), None)):
        done = lava_meta("run", network, tmp_path / "images.npy", *words, "--out", tmp_path / "out.npy", "--overwrite")
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        assert "300 images" in done.stderr
        found = np.load(tmp_path / "out.npy")
        assert np.array_equal(found, graph.predict(images) if name is None else expected[name])
    done = lava_meta("run", network, tmp_path / "images.npy", "--sums")
    assert np.array_equal(np.loadtxt(io.StringIO(done.stdout)), expected["readout"])


def test_room_on_the_disk_is_taken_before_the_first_part(tmp_path: Path) -> None:
    """A file with holes kills the process once the disk is full; so does none of whose blocks are there."""
    rows = np.arange(30_000).reshape(3, 10_000)
    with _sink(tmp_path / "out.npy", 100, quiet=True) as put:
        put(rows)
        (temporary,) = tmp_path.iterdir()
        assert temporary.stat().st_blocks * 512 >= 100 * rows[0].nbytes
        for i in range(97):
            put(rows[i % 3 : i % 3 + 1])
    found = np.load(tmp_path / "out.npy")
    assert np.array_equal(found, rows[[0, 1, 2, *(i % 3 for i in range(97))]])


def test_output_that_the_disk_has_no_room_for(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def write() -> None:
        with _sink(tmp_path / "out.npy", 100_000, quiet=True) as put:
            put(np.zeros((10, 100)))

    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(RunFolderError, match=r"out\.npy takes 76\.3 MiB and cannot be written"):
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_is_refused_at_once(network: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    pipe = tmp_path / "pipe"
    for words in (("info", pipe), ("run", pipe, pipe), ("run", network, pipe), ("convert", pipe), ("online", pipe)):
        done = lava_meta(*words)
        assert done.returncode == 1, words
        assert "is not a regular file" in done.stderr, words


def test_info_shows_the_layers_and_draws_them(network: Path, tmp_path: Path) -> None:
    for ending, start in ((".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")):
        done = lava_meta("info", network, "--picture", tmp_path / f"net{ending}")
        assert done.returncode == 0, done.stderr
        for word in ("hidden1", "dense", "readout", "2,048", "total", f"net{ending}"):
            assert word in done.stdout
        assert (tmp_path / f"net{ending}").read_bytes().startswith(start)


MODEL = """
from __future__ import annotations
from dataclasses import dataclass
import torch
from torch import nn
from lava_meta.nn import BinaryConv2d, BinaryLinear, Sign

@dataclass
class Settings:
    channels: int = 4

def make_model():
    import parts  # a file beside this one
    return nn.Sequential(BinaryConv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), Sign(), nn.Flatten(), parts.last())

def needs(something):
    return something

def text():
    return "a model"

def make_branching():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = BinaryLinear(64, 64)
            self.last = BinaryLinear(64, 10)
        def forward(self, x):
            y = self.layer(x.flatten(1))
            return self.last(torch.sign(y if x.mean() > 0 else -y))
    return Branching()
"""


@pytest.fixture
def own_model(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "parts.py").write_text(
        "from lava_meta.nn import BinaryLinear\n\ndef last():\n    return BinaryLinear(256, 10)\n"
    )
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)\n")
    torch.manual_seed(4)
    model = make_model(f"{tmp_path / 'model.py'}:make_model")
    model.train()(torch.rand(64, 1, 8, 8))  # running statistics
    tensors = model.state_dict()
    save_file(tensors, tmp_path / "w.safetensors")
    save_file(
        {k: v for k, v in tensors.items() if k != "0.weight"} | {"9.weight": torch.ones(2)},
        tmp_path / "keys.safetensors",
    )
    save_file(tensors | {"4.weight": torch.ones(10, 3)}, tmp_path / "shapes.safetensors")
    torch.save(tensors, tmp_path / "w.pt")
    return tmp_path


def test_a_model_of_ones_own_by_name_and_weights(own_model: Path) -> None:
    words = (
        "--weights",
        "w.safetensors",
        "--mean",
        "0.3",
        "--std",
        "0.4",
        "--max-level",
        "16",
        "--input-shape",
        "1,8,8",
    )
    done = lava_meta("convert", "model.py:make_model", *words, "-o", "net.safetensors", cwd=own_model)
    assert done.returncode == 0, done.stderr
    assert "0 mismatches with the float64 model" in done.stdout
    images = np.random.default_rng(0).integers(0, 17, (200, 1, 8, 8))
    model = make_model(f"{own_model / 'model.py'}:make_model", own_model / "w.safetensors").double()
    with torch.no_grad():
        expected = model((torch.from_numpy(images).double() / 16 - 0.3) / 0.4).argmax(dim=1)
    assert np.array_equal(BinaryGraph.load(own_model / "net.safetensors").predict(images), expected)


def test_the_scale_of_the_inputs_on_the_command_line(own_model: Path) -> None:
    """A mean for each channel as a list, raw levels, and what is neither."""
    (own_model / "scaled.py").write_text(
        "from torch import nn\nfrom lava_meta.nn import BinaryLinear, Sign\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.body = nn.Sequential(nn.Flatten(), BinaryLinear(12, 8), Sign(), BinaryLinear(8, 3))\n"
        "    def forward(self, x):\n"
        "        return self.body(2 * x - 1)\n"
        "def make():\n    return Net()\n",
        encoding="utf-8",
    )
    command = ("convert", "scaled.py:make", "--input-shape", "3,2,2", "-o", "scaled.safetensors", "--overwrite")
    for words in (("--mean", "0.485,0.456,0.406", "--std", "0.229"), ("--mean", "0.1307", "--std", "0.3"), ("--raw",)):
        done = lava_meta(*command, *words, cwd=own_model)
        assert done.returncode == 0, done.stderr
        assert "0 mismatches with the float64 model" in done.stdout
    for words, code, message in (
        ((), 1, "pass raw=True"),
        (("--mean", "33", "--std", "78"), 1, "mean=33 lies outside"),
        (("--mean", "0.1,x", "--std", "1"), 2, "give a number, or one per channel"),
    ):
        done = lava_meta(*command, *words, cwd=own_model)
        assert done.returncode == code
        assert message in " ".join(done.stderr.replace("│", " ").split())


SHAPE = ("--input-shape", "1,8,8", "--mean", "0.3", "--std", "0.4")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ("model.py:nothing", *SHAPE),
            1,
            "model.py has no function nothing; it has make_model, needs, text, make_branching",
        ),
        (("model.py:needs", *SHAPE), 1, "needs() in model.py raised TypeError"),
        (("model.py:text", *SHAPE), 1, "returned str, which is not a torch.nn.Module"),
        (("model.py:make_branching", *SHAPE), 1, "asks for values of the images"),
        (("model.py:make-model",), 1, "expected FILE.py:FUNCTION"),
        (("missing.py:make_model",), 1, "there is no file missing.py"),
        (("w.pt:make_model",), 1, "w.pt is not a Python file"),
        (
            ("broken.py:make_model",),
            1,
            "broken.py does not import: ModuleNotFoundError: No module named 'nothing_of_this_name' in line 1",
        ),
        (("leaves.py:make_model",), 1, "leaves.py does not import: SystemExit"),
        (
            ("model.py:make_model", "--weights", "missing.safetensors", *SHAPE),
            1,
            "there are no weights missing.safetensors",
        ),
        (("model.py:make_model", "--weights", "w.pt", *SHAPE), 1, "w.pt is a file of torch.save (a zip with a pickle"),
        (
            ("model.py:make_model", "--weights", "keys.safetensors", *SHAPE),
            1,
            "it lacks 0.weight; has unknown 9.weight",
        ),
        (
            ("model.py:make_model", "--weights", "shapes.safetensors", *SHAPE),
            1,
            "has other shapes for 4.weight (10x3, not 10x256)",
        ),
        (("model.py:make_model", *SHAPE[2:]), 1, "input_shape"),
        (("model.py:make_model", "--input-shape", "1,8,x", *SHAPE[2:]), 2, "give extents as 1,28,28"),
        (("w.safetensors", "--weights", "w.safetensors"), 2, "FILE.py:FUNCTION"),
    ],
)
def test_what_is_wrong_with_a_model_of_ones_own_is_told_in_one_line(
    words: tuple[str, ...], code: int, message: str, own_model: Path
) -> None:
    before = sorted(own_model.iterdir())
    done = lava_meta("convert", *words, cwd=own_model)
    assert done.returncode == code, done.stdout
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
    if code == 1:
        assert len(done.stderr.strip().splitlines()) == 1
    assert sorted(path for path in own_model.iterdir() if path.name != "__pycache__") == [
        path for path in before if path.name != "__pycache__"
    ]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("run", "missing.safetensors", "--data", "digits"), 1, "missing.safetensors"),
        (("info", "broken.safetensors"), 1, "broken.safetensors is not a whole safetensors file"),
        (("convert", "broken.safetensors"), 1, "broken.safetensors"),
        (("convert", "missing.safetensors"), 1, "missing.safetensors"),
        (("run", "NETWORK", "floats.npy"), 1, "images are float64 and hold 0.5; this network takes unsigned integers"),
        (("run", "NETWORK", "broken.safetensors"), 1, "broken.safetensors"),
        (("train", "--data", "imagenet", "--out", "x"), 1, "imagenet"),
        (("train", "--lr", "-1", "--out", "x"), 2, "lr"),
        (("train", "--m", "1,2", "--out", "x"), 1, "m"),
        (("train", "--out", "broken.safetensors/x"), 1, "broken.safetensors"),
        (("train", "--hidden", "many", "--out", "x"), 2, "hidden[0] is 'many'; it must be a valid integer"),
        (("online", "--hidden", "many"), 2, "whole numbers"),
        (("online", "--activation", "loud"), 2, "--activation is loud; choose one of signs, spikes"),
        (("train", "--norm", "group", "--out", "x"), 2, "it must be 'fixed', 'batch' or 'layer'"),
        (("train", "--activation", "relu", "--out", "x"), 2, "it must be 'sign' or 'abs_step'"),
        (("run", "NETWORK", "flat.npy"), 1, "flat.npy does not hold one array of images"),
        (("run", "NETWORK", "floats.npy", "--layer", "hidden7"), 1, "this network has hidden1, readout, classes"),
        (("run", "NETWORK", "floats.npy", "--layer", "hidden1", "--sums"), 2, "give one of them"),
        (("info", "NETWORK", "--picture", "net.txt"), 1, "a picture is a .png, .pdf or .svg file; got 'net.txt'"),
        (("run", "NETWORK"), 2, "give an .npy file of images, or --data"),
        (("run", "NETWORK", "floats.npy", "--backend", "gpu"), 1, "choose one of cpu, kernels, loihi-sim, loihi"),
        (("run", "NETWORK", "--data", "digits", "--lanes", "0"), 2, "lanes"),
        (("report", "NETWORK"), 2, "give an .npy file of images, or --data"),
        (("report", "NETWORK", "--data", "digits", "--weight-bits", "9"), 2, "weight-bits"),
        (("report", "NETWORK", "--data", "digits", "--target", "loihi3"), 1, "there are public limits for loihi2"),
        (("report", "NETWORK", "--images", "floats.npy"), 1, "takes unsigned integers"),
        (
            ("report", "NETWORK", "--images", "broken.safetensors"),
            1,
            "is not a whole safetensors file; expected an .npy file",
        ),
        (("bundle", "NETWORK"), 2, "--out"),
        (("bundle", "NETWORK", "-o", "x", "--data", "digits", "--images", "floats.npy"), 2, "not both"),
        (("bundle", "NETWORK", "-o", "x", "--images", "floats.npy"), 1, "takes unsigned integers"),
        (("bundle", "NETWORK", "-o", "."), 1, "is no bundle, or holds more than one"),
        (("bundle", "NETWORK", "-o", "x", "--rule", "cosine"), 1, "cosine"),
        (("bundle", "NETWORK", "-o", "x", "--rule", "linear"), 1, "'linear' has the parameters ['T']"),
        (("bundle", "NETWORK", "-o", "x", "--m", "4"), 2, "give --rule too"),
        (("demo", "--data", "usps"), 2, "digits, mnist"),
        (("demo", "--online", "--m", "3"), 2, "leave out --data, --m and --epochs"),
        (("online", "broken.safetensors"), 1, "broken.safetensors"),
        (("online", "NETWORK", "--plastic", "hidden7"), 1, "name one or more of hidden1"),
        (("frobnicate",), 2, "frobnicate"),
    ],
)
def test_errors_are_one_readable_line(
    words: tuple[str, ...], code: int, message: str, network: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"not a network at all")
    np.save(tmp_path / "floats.npy", np.full((2, 64), 0.5))
    np.save(tmp_path / "flat.npy", np.zeros(64, np.uint8))
    done = lava_meta(*(network if word == "NETWORK" else word for word in words), cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    if code == 1:
        assert len(done.stderr.strip().splitlines()) == 1
        assert done.stderr.startswith("lava-meta: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.safetensors", "flat.npy", "floats.npy"]


def test_compare_model_counts_equal_classes_and_says_by_its_exit_code_if_any_differs(own_model: Path) -> None:
    model = make_model(f"{own_model / 'model.py'}:make_model", own_model / "w.safetensors")
    images = np.random.default_rng(0).integers(0, 17, (60, 1, 8, 8)).astype(np.uint8)
    np.save(own_model / "x.npy", images)
    own, scale = ("model.py:make_model", "--weights", "w.safetensors"), ("--mean", "0.3", "--std", "0.4")
    done = lava_meta("convert", *own, *scale, *SHAPE, "-o", "net.safetensors", cwd=own_model)
    assert done.returncode == 0, done.stderr
    same = lava_meta("compare-model", "net.safetensors", own[0], "x.npy", *own[1:], *scale, cwd=own_model)
    assert (same.returncode, same.stdout) == (0, "60 of 60 classes (100.00 %) equal the float32 model's\n"), same.stderr
    unlike = ("--mean", "0", "--std", "1")
    other = lava_meta("compare-model", "net.safetensors", own[0], "x.npy", *own[1:], *unlike, cwd=own_model)
    graph = BinaryGraph.load(own_model / "net.safetensors")
    with torch.no_grad():
        classes = model(torch.from_numpy(images).float() / graph.max_level).argmax(dim=1).numpy()
    equal = int((classes == graph.predict(images)).sum())
    assert (other.returncode, other.stdout.split(" of ")[0]) == (3, str(equal))
    for words, code in ((("x.npy", *scale[:2]), 1), ((), 2), (("x.npy", "--data", "digits"), 2)):
        assert lava_meta("compare-model", "net.safetensors", *own, *words, cwd=own_model).returncode == code


@pytest.mark.lava
def test_backends(network: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 17, (6, 64)))
    classes = lava_meta("run", network, "images.npy", cwd=tmp_path)
    simulated = lava_meta("run", network, "images.npy", "--backend", "loihi-sim", cwd=tmp_path)
    assert (simulated.returncode, simulated.stdout) == (0, classes.stdout)
    chip = lava_meta("run", network, "images.npy", "--backend", "loihi", cwd=tmp_path)
    assert chip.returncode == 1
    assert "needs a Loihi 2 chip and Intel's extension" in chip.stderr


def test_bundle_writes_a_folder_that_runs(network: Path, tmp_path: Path) -> None:
    done = lava_meta("bundle", network, "-o", "folder", "--data", "digits", "--rule", "tanh2", "--m", "4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "run.py" in done.stdout
    assert "Tanh2(m=4.0)" in (tmp_path / "folder" / "README.md").read_text()
    again = lava_meta("bundle", network, "-o", "folder", cwd=tmp_path)
    assert again.returncode == 1
    assert "holds a bundle" in again.stderr
    assert lava_meta("bundle", network, "-o", "folder", "--overwrite", cwd=tmp_path).returncode == 0


def test_report_counts_on_the_first_images(network: Path, tmp_path: Path) -> None:
    done = lava_meta("report", network, "--data", "digits", "--limit", "20", "-o", "folder", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "counted on 20 images" in done.stdout
    kept = json.loads((tmp_path / "folder" / "report.json").read_text())
    assert kept["images"] == 20
    assert [row["neurons"] >= units for row, units in zip(kept["layers"], (32, 10), strict=True)] == [True, True]
    assert "Classification Accuracy" in kept["neurobench"]


def test_the_installed_command_fails_with_its_exit_code_and_debug_shows_the_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lava_meta"]
    quiet, loud = (
        subprocess.run([*command, *debug, "info", "missing"], capture_output=True, text=True, timeout=200, cwd=tmp_path)
        for debug in ([], ["--debug"])
    )
    assert (quiet.returncode, loud.returncode) == (1, 1)
    assert len(quiet.stderr.splitlines()) == 1
    assert "Traceback" in loud.stderr


def test_a_network_file_learns_on_line_and_the_learner_goes_on(network: Path, tmp_path: Path) -> None:
    words = ("--images", "300", "--backend", "kernels", "-o", "learner.safetensors")
    first = lava_meta("online", network, *words, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "300 images of digits train" in first.stdout
    after = first.stdout.split("before, ")[1].split(" %")[0]
    second = lava_meta("online", "learner.safetensors", *words[:-1], "second.safetensors", cwd=tmp_path)
    assert f": {after} % before" in second.stdout, second.stderr
