"""Runs short trainings in children of its own and kills them, so that torch is imported once for all of them.

Used by test_training.py, in a process of its own: `python training_worker.py FOLDER SEED KILLS`. Every run that was
killed is resumed. Prints a JSON report; the tests look at the folders.
"""

import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

import lava_meta.io.sealed
from lava_meta.data import Dataset, load_dataset
from lava_meta.data.scenarios import permuted_tasks
from lava_meta.errors import RunFolderError
from lava_meta.nn import BinaryMLP
from lava_meta.training import TrainSettings, train
from lava_meta.training.checkpoint import read_checkpoint

torch.set_num_threads(1)
DIGITS = load_dataset("digits")
LONG = permuted_tasks(DIGITS, 2, seed=0)
SHORT = permuted_tasks(Dataset("short", DIGITS.train.take(range(100)), DIGITS.test.take(range(50))), 2, seed=0)
SETTINGS = TrainSettings(epochs=3, m=8.0, reset_moments=False)  # made here: the first optimizer of a process is slow


def run(folder: Path, scenario=SHORT) -> None:
    model = BinaryMLP.for_images(DIGITS.train, [32], seed=1)
    train(model, scenario, SETTINGS, folder, resume=True, progress=False)


def in_child(work: Callable[[], None], kill_after: float | None = None) -> bool:
    """Do `work` in a child; True when it was killed before its end."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0, "the training failed"
    return False


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_random_moments(folder: Path, seed: int, kills: int) -> dict:
    begun = time.monotonic()
    in_child(lambda: run(folder / "whole", LONG))
    duration = time.monotonic() - begun
    draw = random.Random(seed)
    moments: list[float] = []
    while len(moments) < kills:
        target, moment = folder / f"killed{len(moments)}", draw.uniform(0, 0.9 * duration)
        if in_child(lambda target=target: run(target, LONG), moment):
            in_child(lambda target=target: run(target, LONG))
            moments.append(moment)
        else:  # done before the kill: a run takes less time than it did
            duration = moment
            shutil.rmtree(target)
    return {"moments": moments}


def before_renames(folder: Path) -> dict:
    def work(k: int) -> None:
        rename, calls = os.replace, 0

        def dying(*args) -> None:
            nonlocal calls
            calls += 1
            if calls == k:
                die()
            rename(*args)

        os.replace = dying
        run(folder / f"rename{k}")

    killed = 0
    for k in range(1, 13):
        killed += in_child(lambda k=k: work(k))
        in_child(lambda k=k: run(folder / f"rename{k}"))
    return {"killed at rename": killed}


def in_a_checkpoint(folder: Path) -> dict:
    def work() -> None:
        write, calls = lava_meta.io.sealed._write, 0

        def dying(file, header, tensors) -> None:
            nonlocal calls
            calls += 1
            write(file, header, tensors)
            if calls == 3:
                file.truncate(1000)
                die()

        lava_meta.io.sealed._write = dying
        run(folder / "half")

    killed = in_child(work)
    in_child(lambda: run(folder / "half"))
    return {"killed in checkpoint": int(killed)}


def on_a_full_disk(folder: Path) -> dict:
    def work() -> None:
        model = BinaryMLP.for_images(DIGITS.train, [32], seed=1)
        steps = 0

        def fill(*_) -> None:
            nonlocal steps
            steps += model.training
            if steps == 3:  # the first of the second epoch
                resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))

        model.register_forward_hook(fill)
        try:
            train(model, SHORT, SETTINGS, folder / "full", progress=False)
        except RunFolderError as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            (folder / "error").write_text(str(error))

    in_child(work)
    report = {
        "full disk": (folder / "error").read_text(),
        "epochs on the full disk": read_checkpoint(folder / "full" / "checkpoint.safetensors")[1]["done"],
        "files on the full disk": sorted(file.name for file in (folder / "full").iterdir()),
    }
    in_child(lambda: run(folder / "full"))
    return report


def main(folder: Path, seed: int, kills: int) -> None:
    in_child(lambda: run(folder / "short"))
    report = at_random_moments(folder, seed, kills)
    report |= before_renames(folder) | in_a_checkpoint(folder) | on_a_full_disk(folder)
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
