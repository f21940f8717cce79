"""A network trained in PyTorch on two tasks goes on inside Lava, and learns a third without losing them.

    python -m lava_meta.experiments.online_after_torch

784-512-10 with the fixed norm learns tasks 1 and 2 of permuted MNIST in batches of 100, by metaplastic Adam. Its hidden
weights, rounded to 8 bits, then learn 20,000 images of task 3 one at a time, with the gate and without.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from lava_meta.data import load_dataset
from lava_meta.files import write_json
from lava_meta.nn import BinaryMLP
from lava_meta.online_learning import OnlineRule, online
from lava_meta.rule import Constant
from lava_meta.streams import permuted_tasks
from lava_meta.training import TrainSettings, train


def run(seed: int, epochs: int, lr: float, backend: str) -> dict[str, list[float]]:
    """Accuracies in percent on tasks 1, 2, 3: of the model, of the learner at its start, and after task 3."""
    scenario = permuted_tasks(load_dataset("mnist"), 3, seed)
    before = replace(scenario, train=scenario.train[:2], task_of=(0, 1))
    model = BinaryMLP.for_images(scenario.train[0], (512,), seed=seed)
    trained = train(model, before, TrainSettings(epochs=epochs, batch_size=100, m=4.0, seed=seed, evaluate="task"))
    rows = {"in PyTorch": list(trained.matrix.values[-1])}
    for name, rule in (("with the gate", OnlineRule(lr=lr)), ("without", OnlineRule(lr=lr, consolidation=Constant()))):
        learner = online(model, rule=rule, seed=seed, backend=backend)
        rows["in 8 bits"] = [learner.accuracy(test) for test in scenario.tests]
        learner.fit(scenario.train[2], images=20_000)
        rows[f"after task 3, {name}"] = [learner.accuracy(test) for test in scenario.tests]
    return {name: [round(100 * float(value), 2) for value in row] for name, row in rows.items()}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, default=3, help="of each of the first two tasks")
    parser.add_argument("--lr", type=float, default=0.005)
    parser.add_argument("--backend", default="lava", choices=["lava", "kernels", "oracle"])
    parser.add_argument("--out", type=Path, default=Path("results/online_after_torch"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for seed in arguments.seeds:
        results[f"seed {seed}"] = run(seed, arguments.epochs, arguments.lr, arguments.backend)
        write_json(arguments.out / "accuracy.json", results)
        for name, row in results[f"seed {seed}"].items():
            print(f"seed {seed}  {name:32} {row}", flush=True)


if __name__ == "__main__":
    main()
