"""Does the fast training give what the clear one gives? The same runs both ways, over several seeds.

    python benchmarks/fast_and_clear.py digits runs/equal           # ten seeds, a few minutes of CPU
    python benchmarks/fast_and_clear.py mnist runs/equal            # three seeds, about ten minutes
    python benchmarks/fast_and_clear.py mnist runs/equal --norm fixed --seed 0 --way fast     # one run
    python benchmarks/fast_and_clear.py mnist runs/equal --report   # what has been run, as a table and a figure

Bit for bit the runs part soon, since gradients round differently; what must agree is the course of the loss and of
every task's accuracy, within the spread of seeds. The table gives, for the mean accuracy of all tasks after the last,
fast less clear over the seeds that both have, with the standard error of that difference.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

from lava_meta.data import load_dataset
from lava_meta.data.scenarios import permuted_tasks
from lava_meta.nn import BinaryMLP
from lava_meta.plotting import figures
from lava_meta.plotting.palette import BLUE, ORANGE
from lava_meta.training import TrainSettings, train

WAYS = ("clear", "fast")


@dataclass(frozen=True)
class Protocol:
    """Permuted tasks on one data set; lr 0.005, decay 1e-7, moments reset per task."""

    hidden: int  # units of each of two hidden layers
    epochs: int  # a task, of three tasks
    batch: int
    m: dict[str, float]  # by norm
    seeds: int


PROTOCOLS = {
    "digits": Protocol(128, 10, 50, {"fixed": 8.0, "batch": 8.0, "layer": 8.0}, 10),
    "mnist": Protocol(256, 3, 100, {"fixed": 4.0, "batch": 1.35}, 3),
}
TASKS = 3


def run(data: str, folder: Path, norm: str, way: str, seed: int) -> None:
    """One run into its folder; one that was stopped goes on."""
    protocol, dataset = PROTOCOLS[data], load_dataset(data)
    options = {"tasks": TASKS} if norm == "batch" else {}
    model = BinaryMLP.for_images(dataset.train, [protocol.hidden] * 2, norm, seed=seed, **options)  # type: ignore[arg-type]
    settings = TrainSettings(
        epochs=protocol.epochs, batch_size=protocol.batch, m=protocol.m[norm], seed=seed, fast=way == "fast"
    )
    out = folder / f"{data}_{norm}_{way}_{seed}"
    train(model, permuted_tasks(dataset, TASKS, seed), settings, out, resume=True, progress=False)


def history(data: str, folder: Path, norm: str, way: str) -> dict[int, list[dict]]:
    """The epochs of every finished run of this kind, by seed."""
    found = {}
    for file in folder.glob(f"{data}_{norm}_{way}_*/metrics.json"):
        records = json.loads(file.read_text())["history"]
        if len(records) == TASKS * PROTOCOLS[data].epochs + 1:
            found[int(file.parent.name.rpartition("_")[2])] = records
    return found


def report(data: str, folder: Path) -> None:
    """The table on the screen, and the figure."""
    norms = PROTOCOLS[data].m
    with mpl.rc_context(figures.STYLE):
        figure = Figure(figsize=(2.6 * len(norms) + 1.2, 3.9), layout="constrained")
        axes = figure.subplots(2, len(norms), sharex=True, sharey="row", squeeze=False)
        for column, norm in enumerate(norms):
            means = {}
            for way, colour, dashes in zip(WAYS, (BLUE, ORANGE), ("-", "--"), strict=True):
                runs = history(data, folder, norm, way)
                for i, records in enumerate(runs.values()):
                    accuracies = 100 * np.array([record["accuracies"] for record in records])
                    style = {
                        "color": colour,
                        "linestyle": dashes,
                        "linewidth": 0.8,
                        "alpha": 0.7,
                        "label": way if i == 0 else None,
                        "zorder": 3 + i,
                    }
                    axes[0, column].plot(range(1, len(records)), [record["loss"] for record in records[1:]], **style)
                    axes[1, column].plot(accuracies.mean(axis=1), **style)
                means[way] = {s: 100 * float(np.mean(records[-1]["accuracies"])) for s, records in runs.items()}
                values = list(means[way].values())
                if values:
                    print(f"{norm:6} {way:6} {len(values):2} seeds: {np.mean(values):.2f}, spread {np.std(values):.2f}")
            both = sorted(means["clear"].keys() & means["fast"].keys())
            if len(both) > 1:
                difference = np.array([means["fast"][s] - means["clear"][s] for s in both])
                error = difference.std(ddof=1) / np.sqrt(len(both))
                print(f"{norm:6} fast - clear, {len(both)} seeds: {difference.mean():+.2f} +- {error:.2f}")
            axes[0, column].set(title=f"{norm} norm, m = {norms[norm]:g}")
            axes[1, column].set(xlabel="epoch")
        axes[0, 0].set_ylabel("training loss")
        axes[1, 0].set_ylabel("test accuracy,\nmean of all tasks (%)")
        axes[0, 0].legend()
    figures.save(figure, folder / f"fast_and_clear_{data}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=PROTOCOLS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--norm", action="append")
    parser.add_argument("--way", choices=WAYS, action="append")
    parser.add_argument("--seed", type=int, action="append")
    parser.add_argument("--report", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    protocol = PROTOCOLS[arguments.data]
    if not arguments.report:
        seeds = arguments.seed or range(protocol.seeds)
        for seed, norm, way in product(seeds, arguments.norm or protocol.m, arguments.way or WAYS):
            run(arguments.data, arguments.folder, norm, way, seed)
    report(arguments.data, arguments.folder)


if __name__ == "__main__":
    main()
