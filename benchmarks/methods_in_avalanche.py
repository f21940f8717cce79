"""EWC, SI and replay of Avalanche and of this library, in the same strategy, on the same permuted MNIST.

    python benchmarks/methods_in_avalanche.py

784-100-10 of real weights with layer norm, Adam at 0.001, one epoch per task in batches of 50. The strength of EWC and
SI is the best of four on images and a seed that are not reported. A line per way: mean accuracy after the last task, in
percent.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable
from typing import Any

import torch
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.plugins import EvaluationPlugin, EWCPlugin, ReplayPlugin, SynapticIntelligencePlugin
from avalanche.training.supervised import Naive

from lava_meta.avalanche import MetaplasticPlugin, accuracy_matrix, benchmark
from lava_meta.data import Dataset, load_dataset
from lava_meta.data.scenarios import permuted_tasks
from lava_meta.nn import RealMLP
from lava_meta.training import TrainSettings
from lava_meta.training.methods import EWC, SI, Replay

SETTINGS = TrainSettings(m=0.0, lr=0.001, weight_decay=0.0)
TUNING, MEMORY = 1000, 500  # a seed that is not reported; images kept by replay
WAYS: dict[str, tuple[Callable[[float], Any], tuple[float, ...]]] = {
    "plain": (lambda _: None, (0.0,)),
    "EWC, Avalanche": (EWCPlugin, (1e0, 1e1, 1e2, 1e3)),
    "EWC, ours": (EWC, (1e1, 1e2, 1e3, 1e4)),
    "SI, Avalanche": (SynapticIntelligencePlugin, (1e2, 1e3, 1e4, 1e5)),  # it scales importances by 0.001
    "SI, Avalanche, mended": (SynapticIntelligencePlugin, (1e2, 1e3, 1e4, 1e5)),
    "SI, ours": (SI, (1e-2, 1e-1, 1e0, 1e1)),
    "replay, Avalanche": (lambda _: ReplayPlugin(MEMORY), (0.0,)),
    "replay, ours": (lambda _: Replay(MEMORY), (0.0,)),
}


def mend_si() -> None:
    """Let Avalanche's SI copy weights: on a CPU 0.6.0 keeps views of them, and finds that no step moved anything."""
    keep = SynapticIntelligencePlugin.extract_weights

    def copied(model: Any, target: Any, excluded: Any) -> None:
        keep(model, target, excluded)
        for held in target.values():
            held.data = held.data.clone()

    SynapticIntelligencePlugin.extract_weights = staticmethod(copied)


def accuracy(images: Dataset, way: Any, seed: int, tasks: int) -> float:
    """Mean accuracy after the last task, in percent."""
    scenario = permuted_tasks(images, tasks, seed)
    model = RealMLP.for_images(scenario.train[0], (100,), "layer", seed=seed)
    torch.manual_seed(seed)
    ours = way if hasattr(way, "start") else None
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        criterion=torch.nn.CrossEntropyLoss(),
        train_mb_size=50,
        eval_mb_size=1000,
        plugins=[MetaplasticPlugin(SETTINGS, ours), *([] if ours or way is None else [way])],
        evaluator=EvaluationPlugin(accuracy_metrics(experience=True), loggers=[]),
    )
    data = benchmark(scenario)
    results = []
    for experience in data.train_stream:
        strategy.train(experience)
        results.append(strategy.eval(data.test_stream))
    return 100 * accuracy_matrix(results).acc()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=3)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help="This one alone.")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="avalanche")
    torch.set_num_threads(1)
    mnist = load_dataset("mnist")
    images = Dataset("mnist", mnist.train.take(range(options.images)), mnist.test.take(range(1000)))
    held_out = Dataset(
        "held out",
        mnist.train.take(range(options.images, 2 * options.images)),
        mnist.train.take(range(50_000, 51_000)),
    )
    for name in [options.way] if options.way else WAYS:
        make, strengths = WAYS[name]
        if name.endswith("mended"):
            mend_si()
        tried = {value: accuracy(held_out, make(value), TUNING, options.tasks) for value in strengths}
        best = max(tried, key=lambda value: tried[value])
        found = [accuracy(images, make(best), seed, options.tasks) for seed in range(options.seeds)]
        spread = statistics.stdev(found) if len(found) > 1 else 0.0
        print(f"{name:20} {statistics.mean(found):5.1f} ± {spread:.1f}  strength {best:g}  tried {tried}", flush=True)


if __name__ == "__main__":
    main()
