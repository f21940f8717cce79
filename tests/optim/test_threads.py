"""Passes in parts on torch's threads, how many threads a training takes, and threads that wait asleep."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lava_meta.data import Dataset, load_dataset
from lava_meta.data.scenarios import permuted_tasks
from lava_meta.nn import BinaryMLP
from lava_meta.optim import threads
from lava_meta.optim.threads import LEAST_PRODUCT, SHARE_OF_PRODUCT, BusyCores, in_parts, threads_for
from lava_meta.progress import TrainingProgress
from lava_meta.training import TrainResult, TrainSettings, train


@pytest.fixture(autouse=True)
def _three_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "LEAST", 100)
    torch.set_num_threads(3)  # the next test begins with one


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch may have other threads")
def test_torchs_own_threads_are_found() -> None:
    assert threads._enter is not None


@pytest.mark.parametrize("align", [1, 64, 1000])
@pytest.mark.parametrize("size", [0, 1, 99, 200, 1000, 1001, 12345])
def test_every_element_is_in_one_part(size: int, align: int) -> None:
    parts: list[tuple[int, int]] = []
    assert in_parts(lambda start, end: not parts.append((start, end)), size, align)
    assert len(parts) <= 3
    assert all(start % align == 0 for start, _ in parts)
    assert [i for start, end in sorted(parts) for i in range(start, end)] == list(range(size))


@pytest.mark.skipif(threads._enter is None, reason="torch's threads are not OpenMP's here")
def test_parts_run_beside_each_other() -> None:
    meeting = threading.Barrier(3)
    assert in_parts(lambda start, end: meeting.wait(timeout=20) >= 0, 3000)


def test_one_part_that_is_not_well_is_told() -> None:
    for bad in (0, 1024, 2048):
        assert not in_parts(lambda start, end, bad=bad: start != bad, 3000)  # type: ignore[misc]


@pytest.mark.parametrize("bad", [0, 1024, 2048])
def test_an_error_in_any_part_is_raised(bad: int) -> None:
    def part(start: int, end: int) -> bool:
        if start == bad:
            raise ZeroDivisionError(f"in the part from {start}")
        return True

    with pytest.raises(ZeroDivisionError, match=f"from {bad}"):
        in_parts(part, 3000)


def test_control_c_is_raised() -> None:
    def part(start: int, end: int) -> bool:
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.05)
        return True

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            in_parts(part, 3000)
    finally:
        signal.signal(signal.SIGINT, handler)


def test_a_forked_process_does_without_the_threads_that_it_left_behind() -> None:
    assert in_parts(lambda start, end: True, 3000)
    child = os.fork()
    if child == 0:
        parts: list[int] = []
        in_parts(lambda start, end: not parts.append(start), 3000)
        os._exit(parts != [0])
    deadline = time.monotonic() + 20
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended == (child, 0)


@pytest.mark.parametrize(
    ("model", "batch", "places", "number"),
    [
        (BinaryMLP((784, 32, 32, 10)), 100, 784, 1),  # 2.5 million multiplications
        (BinaryMLP((784, 64, 64, 10)), 100, 784, 2),  # 5
        (BinaryMLP((784, 128, 128, 10)), 100, 784, 2),  # 10
        (BinaryMLP((784, 512, 512, 10)), 100, 784, 2),  # 40
        (BinaryMLP((784, 1024, 1024, 10)), 100, 784, 6),  # 105
        (BinaryMLP((784, 512, 512, 10)), 10, 784, 1),  # 4
        (nn.Conv2d(64, 64, 3), 10, 784, 17),  # 289: a kernel is used at every pixel
        (nn.BatchNorm1d(10**6), 100, 784, 1),  # no product
    ],
)
def test_threads_follow_the_largest_product(model: nn.Module, batch: int, places: int, number: int) -> None:
    assert (LEAST_PRODUCT, SHARE_OF_PRODUCT) == (4_194_304, 16_777_216)
    torch.set_num_threads(20)
    assert threads_for(model, batch, places) == number
    torch.set_num_threads(2)
    assert threads_for(model, batch, places) == min(number, 2)


DIGITS = load_dataset("digits")
FEW = permuted_tasks(Dataset("few", DIGITS.train.take(range(120)), DIGITS.test.take(range(30))), 1, seed=0)


def trained(folder: Path | None = None, epochs: int = 1, **options: Any) -> tuple[TrainResult, BinaryMLP, set[int]]:
    """A short run, its model, and the numbers of threads that the model's forward pass saw."""
    model, seen = BinaryMLP.for_images(DIGITS.train, [300, 260], seed=0), set[int]()
    fast = options.pop("fast", False)
    if not fast:
        model.register_forward_hook(lambda *_: seen.add(torch.get_num_threads()))
    settings = TrainSettings(epochs=epochs, m=4.0, fast=fast)
    return train(model, FEW, settings, folder, progress=False, **options), model, seen


def test_training_takes_the_threads_it_is_given_and_puts_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trained(threads=2)[2] == {2}
    assert trained()[2] == {1}
    monkeypatch.setattr(threads, "LEAST_PRODUCT", 1)
    monkeypatch.setattr(threads, "SHARE_OF_PRODUCT", 1)
    assert trained()[2] == {3}
    assert torch.get_num_threads() == 3
    for wrong in (0, 1.0, True):
        with pytest.raises(ValueError, match="threads is"):
            trained(threads=wrong)


@pytest.mark.parametrize("fast", [False, True])
def test_threads_do_not_change_a_bit_of_a_run_with_the_fixed_norm(fast: bool) -> None:
    one, model, _ = trained(threads=1, fast=fast)
    for number in (2, 3):
        other, second, _ = trained(threads=number, fast=fast)
        assert other.history == one.history
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), second.parameters(), strict=True))


def test_a_resumed_run_goes_on_with_its_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, *_ = trained(tmp_path / "whole", epochs=2, threads=2)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "epoch", stop)  # after the first epoch's checkpoint
        with pytest.raises(KeyboardInterrupt, match="1 of 2 epochs are kept"):
            trained(tmp_path / "half", epochs=2, threads=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result, _, seen = trained(tmp_path / "half", epochs=2, resume=True)
    assert seen == {2}
    assert result.history == whole.history
    with pytest.warns(UserWarning, match="begun on 2 threads and goes on with 1"):
        trained(tmp_path / "half", epochs=2, resume=True, threads=1)


def run_python(code: str, **environment: str) -> str:
    """What a new process prints, in whose environment nothing else says how threads wait."""
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SPIN = "from lava_meta.optim.threads import waiting_threads_spin; print(waiting_threads_spin())"


@pytest.mark.skipif(threads._enter is None, reason="torch's threads are not OpenMP's here")
@pytest.mark.slow
def test_whether_waiting_threads_spin_is_seen() -> None:
    assert run_python(SPIN, OMP_WAIT_POLICY="ACTIVE") == "True"
    assert run_python(SPIN, OMP_WAIT_POLICY="PASSIVE") == "False"
    assert run_python("import torch, os; os.environ['OMP_WAIT_POLICY'] = 'PASSIVE'; " + SPIN) == "True"  # too late


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "PASSIVE None False"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None True"),
        ({"GOMP_SPINCOUNT": "0"}, "None 0 False"),
    ],
)
def test_in_the_command_waiting_threads_sleep_unless_the_user_says_otherwise(
    environment: dict[str, str], said: str
) -> None:
    code = f"""
import os, sys
import lava_meta.cli as cli
def app():
    assert "torch" not in sys.modules
    print(os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT"), end=" ")
    {SPIN}
cli.app = app
cli.main()
"""
    said = said if threads._enter is not None else said.replace("True", "False")
    assert run_python(code, **environment) == said


class Clocks:
    """Clocks of steps that take `wall` seconds, of which the thread computes `own`."""

    def __init__(self, *, spin: bool = True) -> None:
        self.wall = self.own = 0.0
        self.cores = BusyCores(lambda: self.wall, lambda: self.own, lambda: spin)

    def steps(self, number: int, wall: float, own: float) -> list[str]:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            for _ in range(number):
                self.wall += wall
                self.own += own
                self.cores.step()
        return [str(warning.message) for warning in found]


def test_slow_steps_are_told_once_with_the_remedy() -> None:
    clocks = Clocks()
    assert clocks.steps(200, wall=0.020, own=0.018) == []
    (message,) = clocks.steps(200, wall=0.5, own=0.02)
    assert "500.0 ms" in message
    assert "20.0 ms" in message
    assert "OMP_WAIT_POLICY=PASSIVE" in message
    assert "threads=1" in message


def test_steps_are_not_called_slow_without_reason() -> None:
    assert Clocks(spin=False).steps(200, wall=0.5, own=0.02) == []  # the threads yield: nothing would help
    clocks = Clocks()
    for _ in range(20):  # stopped now and then, as with Ctrl-Z, and evaluations between epochs
        assert clocks.steps(19, wall=0.02, own=0.018) == []
        assert clocks.steps(1, wall=60.0, own=0.018) == []
        clocks.wall += 100.0
        clocks.cores.begin()
    torch.set_num_threads(1)
    assert Clocks().steps(200, wall=0.5, own=0.02) == []
