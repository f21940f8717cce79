"""Learning in Lava's own learning engine: what a chip could do, beside our own form of the same rule.

    python -m lava_meta.experiments.online_engine readout --seeds 0 1 2       # inside Lava, offline, minutes
    python -m lava_meta.experiments.online_engine layers --seeds 0 1 2
    python -m lava_meta.experiments.online_engine mnist --backend oracle      # the twin: Lava's engine takes days

readout  a readout, new and untrained, on the 256 signs of a frozen network that was trained in PyTorch on digits and
         converted: on the images that it knows, and on pixels permuted anew; 1,437 images once
layers   five permuted tasks of digits, 64-100-10, hidden layer and readout learn, direct feedback
mnist    five permuted tasks of MNIST, 20,000 images each, 784-512-10, direct feedback

Each in the engine's integers, in its floating point, and in our 8 bits.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lava_meta.converters import convert
from lava_meta.data import load_dataset
from lava_meta.files import write_json
from lava_meta.nn import BinaryMLP
from lava_meta.online_learning import Learner, OnlineRule, online
from lava_meta.online_learning.layers import initial_state
from lava_meta.streams import Scenario, permuted_tasks
from lava_meta.training import TrainSettings, train

FORMS: dict[str, dict[str, Any]] = {
    "engine, integers": {"form": "engine", "precision": 9},
    "engine, float": {"form": "engine", "precision": "float"},
    "ours, 8 bits": {"form": "fused", "precision": 8},
}


def readout(scenario: Scenario, seed: int, form: dict[str, Any], backend: str, lr: float) -> dict[str, float]:
    """Test accuracies in percent of a readout that learned the known images, and of one that learned permuted ones."""
    known = replace(scenario, train=scenario.train[:1], task_of=(0,), tests=scenario.tests[:1])
    model = BinaryMLP.for_images(scenario.train[0], (256,), seed=seed)
    train(model, known, TrainSettings(epochs=10, batch_size=50, m=8.0, seed=seed, evaluate="task"))
    net = convert(model.eval())
    found = {}
    for name, task in (("known images", 0), ("permuted anew", 1)):
        rule = OnlineRule(lr=lr)
        learner = online(net, plastic=["readout"], rule=rule, seed=seed, backend=backend, **form)
        fresh = initial_state(learner.settings[0], np.random.default_rng(seed))
        for part, value in fresh.items():
            learner.states[0][part][:] = value
        learner.fit(scenario.train[task])
        found[name] = 100 * learner.accuracy(scenario.tests[task])
    return found


def layers(scenario: Scenario, seed: int, form: dict[str, Any], backend: str, lr: float) -> dict[str, float]:
    """Test accuracies in percent after the last task, and their mean."""
    pixels = int(np.prod(scenario.shape))
    sizes = [pixels, 100 if pixels == 64 else 512, scenario.classes]
    learner = Learner(sizes, OnlineRule(lr=lr), feedback="direct", seed=seed, backend=backend, **form)
    learner.fit(scenario, images=20_000, evaluate=False)
    accuracies = [100 * learner.accuracy(test) for test in scenario.tests]
    return {f"task {i}": a for i, a in enumerate(accuracies, 1)} | {"mean": float(np.mean(accuracies))}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["readout", "layers", "mnist"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--forms", nargs="+", choices=list(FORMS), default=list(FORMS))
    parser.add_argument("--lr", type=float, help="by default 0.01 for digits, 0.005 for MNIST")
    parser.add_argument("--held-out", action="store_true", help="test on a fifth of the training images: to choose lr")
    parser.add_argument("--backend", default="lava", choices=["lava", "kernels", "oracle"])
    parser.add_argument("--out", type=Path, default=Path("results/online_engine"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lr = arguments.lr or (0.005 if arguments.what == "mnist" else 0.01)
    results: dict[str, dict[str, float]] = {}
    for seed in arguments.seeds:
        data = load_dataset("mnist" if arguments.what == "mnist" else "digits")
        scenario = permuted_tasks(data.hold_out(0.2, seed) if arguments.held_out else data, 5, seed)
        run = readout if arguments.what == "readout" else layers
        for name in arguments.forms:
            found = run(scenario, seed, FORMS[name], arguments.backend, lr)
            results[f"{name}, seed {seed}"] = {key: round(value, 1) for key, value in found.items()}
            write_json(arguments.out / f"{arguments.what}.json", results)
            print(f"seed {seed}  {name:18} {results[f'{name}, seed {seed}']}", flush=True)


if __name__ == "__main__":
    main()
