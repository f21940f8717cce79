"""Ctrl-C at a real terminal: exit code 130, and a line that says what was kept and how to go on."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import lava_meta

from lava_meta.nn import BinaryMLP
from lava_meta.online_learning import load_learner

_LONGEST = 150.0  # seconds, for a machine that is busy


def typed(*words: str, cwd: Path, stop_at: bytes) -> tuple[int, str]:
    """`lava-meta WORDS` in a terminal, in which ^C is typed once it matches `stop_at`: exit code and screen."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(cwd)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs are begun without it
        os.execve(sys.executable, [sys.executable, "-m", "lava_meta", *words], os.environ | {"COLUMNS": "150"})
    seen, sent, begun = b"", False, time.monotonic()
    while time.monotonic() - begun < _LONGEST:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                content = os.read(terminal, 65536)
            except OSError:  # Linux's way to say that the other side is closed
                break
            if not content:
                break
            seen += content
        if not sent and re.search(stop_at, seen):
            os.write(terminal, b"\x03")
            sent = True
    else:
        os.kill(process, 9)
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), seen.decode(errors="replace")[-20_000:]


def last_line(screen: str) -> str:
    """The last line, from its "lava-meta:" on: the terminal's echo of ^C may stand before it."""
    line = screen.strip().splitlines()[-1]
    return line[max(0, line.find("lava-meta: ")) :]


def test_train_says_what_is_kept_and_goes_on(tmp_path: Path) -> None:
    words = ("train", "--out", "run", "--tasks", "1", "--hidden", "32", "--epochs", "500")
    code, screen = typed(*words, cwd=tmp_path, stop_at=rb"epoch \d+/500")
    assert code == 130, last_line(screen)
    assert re.fullmatch(r"lava-meta: stopped; \d+ of 500 epochs are kept in run: run .*--resume.*", last_line(screen))
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()


@pytest.mark.slow
def test_demo_goes_on_with_the_same_command(tmp_path: Path) -> None:
    code, screen = typed("demo", "--epochs", "300", cwd=tmp_path, stop_at=rb"epoch ([4-9]|\d\d)/300")
    assert code == 130, last_line(screen)
    assert "are kept in results/demo: the same again goes on" in last_line(screen)
    code, screen = typed("demo", "--epochs", "300", cwd=tmp_path, stop_at=rb"epoch \d+/300")
    assert code == 130, last_line(screen)
    assert re.search(r"epoch [1-3]/300", screen) is None  # it went on behind them


@pytest.mark.slow
def test_experiment_says_what_is_kept(tmp_path: Path) -> None:
    words = ("experiment", "permuted_mnist", "--set", "data=digits", "--set", "epochs=300")
    code, screen = typed(*words, cwd=tmp_path, stop_at=rb"epoch \d+/300")
    assert code == 130, last_line(screen)
    assert "kept in results/permuted_mnist-small" in last_line(screen)
    assert "--resume goes on" in last_line(screen)


def _images(folder: Path) -> None:
    np.save(folder / "images.npy", np.zeros((400_000, 20), np.uint8))


@pytest.mark.lava
def test_run_says_that_nothing_was_written(tmp_path: Path) -> None:
    from lava_meta.converters import convert

    _images(tmp_path)
    convert(BinaryMLP([20, 1024, 1024, 10], seed=0).eval()).save(tmp_path / "net.safetensors")  # seconds of work
    words = ("run", "net.safetensors", "images.npy", "--lanes", "1", "-o", "out.npy")
    code, screen = typed(*words, cwd=tmp_path, stop_at=b"/400000")
    assert code == 130, last_line(screen)
    told = r"lava-meta: stopped after \d+ of 400000 images; out\.npy was not written: run the same again"
    assert re.fullmatch(told, last_line(screen))
    assert not (tmp_path / "out.npy").exists()


def test_convert_says_that_nothing_was_written(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("import time\n\ndef slow():\n    print('begun')\n    time.sleep(600)\n")
    code, screen = typed("convert", "model.py:slow", cwd=tmp_path, stop_at=b"begun")
    assert code == 130, last_line(screen)
    assert last_line(screen) == "lava-meta: stopped; nothing was written: run the same again"


@pytest.mark.parametrize("backend", [pytest.param("lava", marks=[pytest.mark.lava, pytest.mark.slow]), "kernels"])
def test_online_keeps_what_it_learned_and_goes_on(backend: str, tmp_path: Path) -> None:
    words = ("online", "--backend", backend, "--hidden", "2000,1000", "--lr", "0.05")  # about a second for 437 images
    code, screen = typed(*words, cwd=tmp_path, stop_at=b"1000/1437")
    assert code == 130, last_line(screen)
    told = "lava-meta: stopped; 1000 of 1437 images are learned and kept in learner.safetensors: the same with --resume"
    assert last_line(screen).startswith(told)
    assert load_learner(tmp_path / "learner.safetensors").under_way == ("digits train", 1000)
    refused = lava_meta(*words, cwd=tmp_path)
    assert (refused.returncode, "is there already" in refused.stderr) == (1, True)
    refused = lava_meta(*words, "--resume", "--task", "2", cwd=tmp_path)
    assert (refused.returncode, "give the same options" in refused.stderr) == (1, True)
    done = lava_meta(*words, "--resume", cwd=tmp_path)
    assert (done.returncode, "1437 images of digits train" in done.stdout) == (0, True), done.stderr
    done = lava_meta(*words, "--out", "whole.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "whole.safetensors").read_bytes() == (tmp_path / "learner.safetensors").read_bytes()
    refused = lava_meta(*words, "--resume", cwd=tmp_path)
    assert (refused.returncode, "has learned all that it was given" in refused.stderr) == (1, True)
