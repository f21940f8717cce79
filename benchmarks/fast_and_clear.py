"""Does the fast training give what the clear one gives? The same runs both ways, over several seeds.

    python benchmarks/fast_and_clear.py runs/equal                  # all: ten minutes of CPU
    python benchmarks/fast_and_clear.py runs/equal --norm fixed --seed 0 --way fast     # one run
    python benchmarks/fast_and_clear.py runs/equal --report         # what has been run, as a table and a figure

Permuted MNIST, 3 tasks x 3 epochs, 784-256-256-10, batches of 100, lr 0.005, decay 1e-7; the fixed norm at m = 4 and
batch norm at m = 1.35. Bit for bit the runs part soon, since gradients round differently; what must agree is the
course of the loss and of every task's accuracy, within the spread of seeds.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

from lava_meta import figures
from lava_meta.data import load_dataset
from lava_meta.nn import BinaryMLP
from lava_meta.streams import permuted_tasks
from lava_meta.training import TrainSettings, train

M = {"fixed": 4.0, "batch": 1.35}
WAYS = ("clear", "fast")
SEEDS = (0, 1, 2)
TASKS, EPOCHS = 3, 3


def run(folder: Path, norm: str, way: str, seed: int) -> None:
    """One run into its folder; one that was stopped goes on."""
    mnist = load_dataset("mnist")
    options = {"tasks": TASKS} if norm == "batch" else {}
    model = BinaryMLP.for_images(mnist.train, [256, 256], norm, seed=seed, **options)  # type: ignore[arg-type]
    settings = TrainSettings(epochs=EPOCHS, batch_size=100, m=M[norm], seed=seed, fast=way == "fast")
    train(model, permuted_tasks(mnist, TASKS, seed), settings, folder / f"{norm}_{way}_{seed}", resume=True)


def history(folder: Path, norm: str, way: str) -> list[list[dict]]:
    """The epochs of every finished run of this kind, by seed."""
    files = sorted(folder.glob(f"{norm}_{way}_*/metrics.json"))
    found = [json.loads(file.read_text())["history"] for file in files]
    return [records for records in found if len(records) == TASKS * EPOCHS + 1]


def report(folder: Path) -> None:
    """The table on the screen, and the figure."""
    with mpl.rc_context(figures.STYLE):
        figure = Figure(figsize=(6.8, 4.4), layout="constrained")
        axes = figure.subplots(2, 2, sharex=True, sharey="row", squeeze=False)
        for column, norm in enumerate(M):
            for way, colour in zip(WAYS, ("0.35", "tab:orange"), strict=True):
                runs = history(folder, norm, way)
                if not runs:
                    continue
                losses = np.array([[record["loss"] for record in records[1:]] for records in runs])
                tasks = 100 * np.array([[record["accuracies"] for record in records] for records in runs], float)
                last = tasks[:, -1]
                print(
                    f"{norm:6} {way:6} {len(runs)} seeds: mean of tasks {_spread(last.mean(axis=1))}; "
                    f"tasks {', '.join(_spread(last[:, task]) for task in range(TASKS))}; "
                    f"last loss {_spread(losses[:, -1], 4)}"
                )
                for seed in range(len(runs)):
                    style = {"color": colour, "linewidth": 0.9, "label": way if seed == 0 else None}
                    axes[0, column].plot(range(1, losses.shape[1] + 1), losses[seed], **style)
                    axes[1, column].plot(range(tasks.shape[1]), tasks[seed].mean(axis=1), **style)
            axes[0, column].set(title=f"{norm} norm, m = {M[norm]:g}", ylim=(0, None))
            axes[1, column].set(xlabel="epoch")
        axes[0, 0].set_ylabel("training loss")
        axes[1, 0].set_ylabel("test accuracy,\nmean of all tasks (%)")
        axes[0, 0].legend()
    figures.save(figure, folder / "fast_and_clear")


def _spread(values: np.ndarray, digits: int = 1) -> str:
    return f"{values.mean():.{digits}f} +- {values.std(ddof=1) if len(values) > 1 else 0:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--norm", choices=M, action="append")
    parser.add_argument("--way", choices=WAYS, action="append")
    parser.add_argument("--seed", type=int, action="append")
    parser.add_argument("--report", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.report:
        for norm, seed, way in product(arguments.norm or M, arguments.seed or SEEDS, arguments.way or WAYS):
            run(arguments.folder, norm, way, seed)
    report(arguments.folder)


if __name__ == "__main__":
    main()
