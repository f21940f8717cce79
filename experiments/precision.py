"""How many bits, and how good a memory, does a hidden weight need? Five tasks learned on-line, on many memories.

    python -m lava_meta.experiments.precision                                   # permuted digits, some minutes
    python -m lava_meta.experiments.precision --scale medium --seeds 0 1 2      # permuted MNIST

Two sweeps of one network, mean test accuracy on all five tasks after the last:

    bits        3 to 16 bits of hidden weight, each with the three roundings of a step to whole levels: at random with
                a draw a synapse, at random with one draw a step for all synapses (as Lava's learning engine draws), to
                nearest
    faults      8 bits, a draw a synapse, and one fault of an analog memory at a time: noise of a write relative to the
                write or to the range, up and down steps of different size, soft bounds, drift of the stored value

Nothing is tuned to a row: learning rate, gate and range are those of the reference. Results go to `precision.json` run
by run; a run that is there is not run again, so the command goes on where it was stopped. `precision.md` is the table,
`precision.png` the figure.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lava_meta import figures
from lava_meta.experiments import online_permuted_mnist as online
from lava_meta.files import write_atomically, write_json
from lava_meta.online_learning import Device, OnlineRule
from lava_meta.online_learning.device import ROUNDINGS

BITS = (3, 4, 5, 6, 8, 12, 16)
FAULTS: dict[str, tuple[float, ...]] = {
    "relative_noise": (0.3, 1.0, 3.0),
    "absolute_noise": (0.01, 0.03, 0.1),
    "asymmetry": (0.05, 0.1, 0.3),
    "soft_bounds": (0.5, 1.0),
    "drift": (0.001, 0.01, 0.1),
}
REFERENCE_BITS = 8


@dataclass(frozen=True)
class Scale:
    """What is learned: everything else of a run comes from the row."""

    data: str
    images: int  # a task
    hidden: tuple[int, ...]
    lr: float
    tasks: int = 5


SCALES = {
    # 1,437 harder images a task need larger steps: docs/online.md, "Choosing settings".
    "small": Scale("digits", images=1_437, hidden=(128,), lr=0.03),
    "medium": Scale("mnist", images=20_000, hidden=(256,), lr=0.005),
}


def rows() -> dict[str, tuple[int, Device]]:
    """Bits and device of each run, by name."""
    found = {f"{bits} bits, {rounding}": (bits, Device(rounding)) for rounding in ROUNDINGS for bits in BITS}
    for fault, values in FAULTS.items():
        found |= {f"{fault} {value:g}": (REFERENCE_BITS, Device(**{fault: value})) for value in values}
    return found


def run(row: str, scale: Scale, seed: int) -> dict[str, Any]:
    """Learn the five tasks on the memory of this row, by the compiled kernels: accuracies in percent."""
    bits, device = rows()[row]
    settings = online.OnlineSettings(
        data=scale.data,
        tasks=scale.tasks,
        images=scale.images,
        hidden=scale.hidden,
        precision=bits,
        rule=OnlineRule(lr=scale.lr),
        seed=seed,
        backend="kernels",
        # An ideal device is the memory of whole levels, to the bit, and that one runs faster.
        device=None if device == Device() else device,
    )
    result = online.run(settings)
    return {"row": row, "seed": seed, **{key: result[key] for key in ("final", "mean", "online", "saturated")}}


def means(results: Iterable[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Each row's means over the tasks, one a seed, in the order of seeds."""
    ordered = sorted(results, key=lambda result: result["seed"])
    return {
        row: [r["mean"] for r in ordered if r["row"] == row] for row in rows() if any(r["row"] == row for r in ordered)
    }


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: mean and spread over seeds of each row, percent."""
    found = means(results)

    def cell(row: str) -> str:
        values = found.get(row)
        return "" if values is None else f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"

    seeds = sorted({result["seed"] for result in results})
    lines = [
        f"Mean test accuracy over five tasks after the last, percent: mean (least to greatest) of seeds {seeds}.",
        "",
        "| bits | a draw a synapse | one draw a step | to nearest |",
        "| --- | --- | --- | --- |",
        *(f"| {bits} | " + " | ".join(cell(f"{bits} bits, {how}") for how in ROUNDINGS) + " |" for bits in BITS),
        "",
        f"| fault, at {REFERENCE_BITS} bits and a draw a synapse | |",
        "| --- | --- |",
        f"| none | {cell(f'{REFERENCE_BITS} bits, synapse')} |",
        *(f"| {fault} {value:g} | {cell(f'{fault} {value:g}')} |" for fault in FAULTS for value in FAULTS[fault]),
    ]
    return "\n".join(lines) + "\n"


def figure(results: Sequence[Mapping[str, Any]]) -> Any:
    """Accuracy against bits for each rounding, and against each fault; a dot a seed, lines through the means."""
    found = means(results)
    labels = {"synapse": "a draw a synapse", "step": "one draw a step", "nearest": "to nearest"}
    curves = [("bits of hidden weight", {labels[how]: [(b, f"{b} bits, {how}") for b in BITS] for how in ROUNDINGS})]
    clean = f"{REFERENCE_BITS} bits, synapse"
    names = {
        "relative_noise": "noise, share of the write",
        "absolute_noise": "noise, share of the range",
        "asymmetry": "asymmetry of up and down",
        "soft_bounds": "soft bounds",
        "drift": "drift in 1,000 images",
    }
    for fault, values in FAULTS.items():
        curves.append((names[fault], {fault: [(0.0, clean), *((v, f"{fault} {v:g}") for v in values)]}))
    return figures.sweeps(curves, found, "mean accuracy, 5 tasks (%)")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="small", choices=SCALES)
    parser.add_argument("--rows", nargs="+", default=["all"], help="names of rows, or all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path("results/precision"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = list(rows()) if arguments.rows == ["all"] else arguments.rows
    unknown = [name for name in names if name not in rows()]
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; there are: {'; '.join(rows())}")
    kept = arguments.out / "precision.json"
    results = json.loads(kept.read_text()) if kept.exists() else []
    for seed in arguments.seeds:
        for name in names:
            if any(result["row"] == name and result["seed"] == seed for result in results):
                continue
            results.append(run(name, SCALES[arguments.scale], seed))
            write_json(kept, results)
            print(f"{name:24} seed {seed}  {results[-1]['final']}  mean {results[-1]['mean']:5.1f}", flush=True)
    with write_atomically(arguments.out / "precision.md") as temporary:
        temporary.write_text(table(results), encoding="utf-8")
    figures.save(figure(results), arguments.out / "precision")


if __name__ == "__main__":
    main()
