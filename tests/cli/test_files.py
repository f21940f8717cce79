"""What commands read and write: the tasks that a file has learned, and nothing destroyed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import lava_meta

from lava_meta.data import load_dataset
from lava_meta.data.scenarios import permuted_tasks
from lava_meta.training.model_file import load_model

TASKS = 3


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of three permuted tasks, its network, and a learner that went on from it."""
    folder = tmp_path_factory.mktemp("trained")
    words = (
        "train",
        "--tasks",
        str(TASKS),
        "--hidden",
        "64",
        "--epochs",
        "2",
        "--m",
        "20",
        "--lr",
        "0.0025",
        "--out",
        ".",
    )
    assert lava_meta(*words, cwd=folder).returncode == 0
    assert lava_meta("convert", "model.safetensors", cwd=folder).returncode == 0
    words = ("online", "net.safetensors", "--images", "200", "--backend", "kernels", "--task", "2")
    done = lava_meta(*words, cwd=folder)
    assert done.returncode == 0, done.stderr
    np.save(folder / "images.npy", load_dataset("digits").test.x.numpy()[:5])
    return folder


def expected_lines(folder: Path) -> list[str]:
    """The accuracies of the PyTorch model on the tasks, as the commands print them."""
    model, rights = load_model(folder / "model.safetensors"), []
    for test in permuted_tasks(load_dataset("digits"), TASKS, 0).tests:
        with torch.no_grad():
            rights.append(float((model(test.x).argmax(1) == test.y).double().mean()))
    lines = [f"digits test, permutation {task}: {100 * right:.2f} % of 360" for task, right in enumerate(rights, 1)]
    return [*lines, f"accuracy {100 * np.mean(rights):.2f} %, mean of 3 tests"]


@pytest.mark.lava
@pytest.mark.parametrize("words", [("--data", "digits"), ()])
def test_run_tests_on_what_was_learned(words: tuple[str, ...], trained: Path) -> None:
    done = lava_meta("run", "net.safetensors", *words, cwd=trained)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == expected_lines(trained)
    assert "testing on what was learned: permuted(digits, tasks=3, seed=0)" in done.stderr


@pytest.mark.lava
def test_run_on_the_data_as_they_are_warns(trained: Path) -> None:
    done = lava_meta("run", "net.safetensors", "--data", "digits", "--as-is", cwd=trained)
    test = load_dataset("digits").test
    with torch.no_grad():
        right = (load_model(trained / "model.safetensors")(test.x).argmax(1) == test.y).double().mean()
    assert done.stdout == f"accuracy {100 * float(right):.2f} % of 360\n"
    assert "warning: net.safetensors learned permuted(digits, tasks=3, seed=0)" in done.stderr


def test_other_images_than_those_learned_are_warned_of(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same name, another checksum, as when a data folder holds another version."""
    monkeypatch.setattr("lava_meta.data.scenarios.Scenario.checksum", lambda self: "00000000")
    done = lava_meta("report", "net.safetensors", "--limit", "6", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "learned other images" in done.stderr


def test_report_counts_on_what_was_learned(trained: Path) -> None:
    done = lava_meta("report", "net.safetensors", "--data", "digits", "--limit", "30", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-4:] == expected_lines(trained)
    assert "counted on 30 images" in done.stdout


def test_the_readme_of_a_bundle_states_what_was_learned(trained: Path, tmp_path: Path) -> None:
    words = ("bundle", "net.safetensors", "--data", "digits", "-o", tmp_path / "b")
    done = lava_meta(*words, cwd=trained)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "b" / "README.md").read_text()
    assert "Learned: permuted(digits, tasks=3, seed=0); rule tanh2 (m 20.0); norm fixed; seed 0." in text
    for line in expected_lines(trained)[:-1]:
        name, accuracy = line.split(": ")
        assert f"| {name} | {float(accuracy.split()[0]):.1f} |" in text
    assert "The one with which the network was trained" in text
    images = np.load(tmp_path / "b" / "acceptance.npz")
    tests = permuted_tasks(load_dataset("digits"), TASKS, 0).tests
    for task, test in enumerate(tests):  # in turn, of each task the first
        assert np.array_equal(images["images"][task::TASKS], test.x[:33].flatten(1).numpy())
        assert np.array_equal(images["labels"][task::TASKS], test.y[:33].numpy())


@pytest.mark.lava
def test_a_learner_is_tested_on_all_that_it_learned(trained: Path) -> None:
    done = lava_meta("run", "learner.safetensors", cwd=trained)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines[:-1]] == [
        *(f"digits test, permutation {i} of permuted(digits, tasks=3, seed=0)" for i in (1, 2, 3)),
        "digits test, permutation 2 of experience 2 of permuted(digits, tasks=2, seed=0)",
    ]
    assert lines[1].split(": ")[1] == lines[3].split(": ")[1]  # the same images


def test_info_says_what_was_learned(trained: Path) -> None:
    done = lava_meta("info", "net.safetensors", cwd=trained)
    assert "learned permuted(digits, tasks=3, seed=0); rule tanh2 (m 20.0); norm fixed; seed 0" in done.stdout
    assert "0 mismatches with the float64 model" in done.stdout
    assert "experience 2 of permuted(digits" in lava_meta("info", "learner.safetensors", cwd=trained).stdout


OUTPUTS = [
    (("convert", "model.safetensors"), "net.safetensors", ("model.safetensors",)),
    (("run", "net.safetensors", "images.npy"), "out.npy", ("net.safetensors", "images.npy")),
    (
        ("online", "learner.safetensors", "--images", "5", "--backend", "kernels"),
        "l.safetensors",
        ("learner.safetensors",),
    ),
]


@pytest.mark.lava
@pytest.mark.parametrize(("words", "out", "inputs"), OUTPUTS, ids=lambda value: value[0] if value else None)
def test_no_output_destroys_an_input_or_an_earlier_result(
    words: tuple[str, ...], out: str, inputs: tuple[str, ...], trained: Path, tmp_path: Path
) -> None:
    for name in ("model.safetensors", "net.safetensors", "learner.safetensors", "images.npy"):
        shutil.copy(trained / name, tmp_path / name)
    for name in inputs:
        content = (tmp_path / name).read_bytes()
        (tmp_path / "symbolic").symlink_to(name)
        os.link(tmp_path / name, tmp_path / "hard")
        for output in (name, "symbolic", "hard", f"./../{tmp_path.name}/{name}"):
            for insist in ((), ("--overwrite",)):
                done = lava_meta(*words, "-o", output, *insist, cwd=tmp_path)
                assert done.returncode == 1
                assert f"the output {output.removeprefix('./')} is the input {name}" in done.stderr
        assert (tmp_path / name).read_bytes() == content
        (tmp_path / "symbolic").unlink()
        (tmp_path / "hard").unlink()
    (tmp_path / out).write_text("an earlier result")
    done = lava_meta(*words, "-o", out, cwd=tmp_path)
    assert done.returncode == 1
    assert f"{out} is there already: give another name, or --overwrite" in done.stderr
    assert (tmp_path / out).read_text() == "an earlier result"
    done = lava_meta(*words, "-o", out, "--overwrite", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"an earlier result" not in (tmp_path / out).read_bytes()


@pytest.mark.parametrize(
    ("words", "there"),
    [
        (("info", "net.safetensors", "--picture", "p.png"), "p.png"),
        (("report", "net.safetensors", "-o", "r"), "r/report.txt"),
        (("lower", "--rule", "tanh2", "--m", "4", "--picture", "p.png"), "p.pdf"),
        (("compare", ".", "."), "results/compare/compare.md"),
        (("train", "--out", "t"), "t/model.safetensors"),
        (("demo", "--out", "d"), "d/plain"),
        (("demo", "--online", "--out", "d"), "d/metrics.json"),
        (("convert", "model.safetensors"), "net.safetensors"),  # default names too
    ],
)
def test_every_command_refuses_what_is_there(words: tuple[str, ...], there: str, trained: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "net.safetensors"):
        shutil.copy(trained / name, tmp_path / name)
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    done = lava_meta(*words, cwd=tmp_path)
    assert done.returncode == 1, done.stdout
    assert "overwrite" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert (tmp_path / there).read_text() == "mine"
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_no_file_is_never_replaced(trained: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for output in ("pipe", "."):
        done = lava_meta("convert", trained / "model.safetensors", "-o", output, "--overwrite", cwd=tmp_path)
        assert (done.returncode, "is no file" in done.stderr) == (1, True)


def test_a_bundle_does_not_replace_the_network_it_is_made_of(trained: Path, tmp_path: Path) -> None:
    assert lava_meta("bundle", trained / "net.safetensors", "-o", "b", cwd=tmp_path).returncode == 0
    done = lava_meta("bundle", "b/network.safetensors", "-o", "b", "--overwrite", cwd=tmp_path)
    assert done.returncode == 1
    assert "holds the input" in done.stderr
