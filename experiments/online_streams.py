"""Other sequences learned on-line, one image at a time and one pass, with metaplasticity and without.

python -m lava_meta.experiments.online_streams digits              # five permuted tasks, inside Lava, offline
python -m lava_meta.experiments.online_streams all --backend kernels

digits   five permuted tasks of scikit-learn's digits
fashion  MNIST, then Fashion-MNIST
split    MNIST class by class, two at a time, one readout: without a label at test, and without rehearsal
stream   Fashion-MNIST in 60 disjoint subsets
long     50 permuted MNIST tasks of 5,000 images: does it saturate?
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lava_meta.data import load_dataset
from lava_meta.files import write_json
from lava_meta.online_learning import Learner, OnlineRule, saturation
from lava_meta.rule import Constant
from lava_meta.streams import Scenario, dataset_sequence, permuted_tasks, split_classes, stream_of_subsets


@dataclass(frozen=True)
class StreamSettings:
    """One sequence: how it is made from a seed, how many images of a part are learned, and the learning rate."""

    make: Callable[[int], Scenario]
    lr: float
    images: int | None = None  # of each part; None for all
    hidden: int = 512


PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))
STREAMS = {
    "digits": StreamSettings(lambda seed: permuted_tasks(load_dataset("digits"), 5, seed), 0.03),
    "fashion": StreamSettings(
        lambda seed: dataset_sequence([load_dataset("mnist"), load_dataset("fashion-mnist")]), 0.005, 20_000
    ),
    "split": StreamSettings(lambda seed: split_classes(load_dataset("mnist"), PAIRS), 0.005),
    "stream": StreamSettings(lambda seed: stream_of_subsets(load_dataset("fashion-mnist"), 60, seed), 0.005),
    "long": StreamSettings(lambda seed: permuted_tasks(load_dataset("mnist"), 50, seed), 0.005, 5_000),
}


def run(settings: StreamSettings, rule: OnlineRule, seed: int, backend: str) -> dict[str, Any]:
    """Learn the sequence once. Returns final accuracies in percent, their mean, and the share of saturated weights."""
    scenario = settings.make(seed)
    learner = Learner(
        [int(np.prod(scenario.shape)), settings.hidden, scenario.classes],
        rule=replace(rule, lr=settings.lr),
        seed=seed,
        backend=backend,
    )
    history = learner.fit(scenario, images=settings.images, evaluate=False)
    assert history.accuracy is not None
    last = history.accuracy.values[-1] * 100
    return {
        "final": [round(float(value), 2) for value in last],
        "mean": round(float(last.mean()), 2),
        "last five": round(float(last[-5:].mean()), 2),
        "saturated": [round(value, 3) for value in saturation(learner)],
        "seconds": round(history.seconds, 1),
        "images": history.images,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stream", choices=[*STREAMS, "all"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--backend", default="lava", choices=["lava", "kernels", "oracle"])
    parser.add_argument("--out", type=Path, default=Path("results/online_streams"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = list(STREAMS) if arguments.stream == "all" else [arguments.stream]
    results: dict[str, Any] = {}
    for name in names:
        for title, rule in (("metaplastic", OnlineRule()), ("plain", OnlineRule(consolidation=Constant()))):
            for seed in arguments.seeds:
                result = run(STREAMS[name], rule, seed, arguments.backend)
                results[f"{name}, {title}, seed {seed}"] = result
                write_json(arguments.out / "accuracy.json", results)
                shown = result["final"] if len(result["final"]) <= 5 else f"last five {result['last five']}"
                print(
                    f"{name:8} {title:12} seed {seed}  mean {result['mean']:5.1f}  {shown}  saturated "
                    f"{result['saturated']}  {result['images']} images, {result['seconds']} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
