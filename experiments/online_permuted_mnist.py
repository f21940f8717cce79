"""Permuted MNIST learned on-line: one image at a time, one pass, and what each part of the rule does.

    python -m lava_meta.experiments.online_permuted_mnist                      # the reference, inside Lava
    python -m lava_meta.experiments.online_permuted_mnist --rows all --backend kernels --seeds 0 1 2

Five tasks of 20,000 images; no task label at test, one set of thresholds for all tasks. A row changes one thing of the
reference. With `--held-out` the network is measured on the last 10,000 training images, which it then does not learn:
that is how the constants were chosen.

Results go to `accuracy.json`, row by row, so that a run that was stopped keeps what it has.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lava_meta.data import Dataset, load_dataset
from lava_meta.files import write_json
from lava_meta.online_learning import Device, Learner, OnlineRule, saturation
from lava_meta.rule import Constant, Exponential, Quadratic
from lava_meta.streams import permuted_tasks


@dataclass(frozen=True)
class OnlineSettings:
    """One run. The defaults are the reference."""

    data: str = "mnist"
    tasks: int = 5
    images: int = 20_000  # a task
    hidden: tuple[int, ...] = (512,)
    precision: Any = 8
    feedback: str = "symmetric"
    rule: OnlineRule = field(default_factory=OnlineRule)
    seed: int = 0
    backend: str = "lava"
    device: Device | None = None
    held_out: bool = False


_REFERENCE, _RULE = OnlineSettings(), OnlineRule()
ROWS: dict[str, OnlineSettings] = {
    "reference: 8 bits, all integers": _REFERENCE,
    "floating point": replace(_REFERENCE, precision="float"),
    "hidden layer of 1024": replace(_REFERENCE, hidden=(1024,)),
    "thresholds: homeostatic": replace(_REFERENCE, rule=replace(_RULE, thresholds="homeostatic")),
    "gate off": replace(_REFERENCE, rule=replace(_RULE, consolidation=Constant())),
    "centring off": replace(_REFERENCE, rule=replace(_RULE, centring=False)),
    "gate and centring off": replace(_REFERENCE, rule=replace(_RULE, consolidation=Constant(), centring=False)),
    "random feedback (direct)": replace(_REFERENCE, feedback="direct"),
    "gate: quadratic": replace(_REFERENCE, rule=replace(_RULE, consolidation=Quadratic(1.0))),
    "gate: exponential, m = 2": replace(_REFERENCE, rule=replace(_RULE, consolidation=Exponential(2.0))),
    "error: margin": replace(_REFERENCE, rule=replace(_RULE, error="margin")),
    "error: ternary": replace(_REFERENCE, rule=replace(_RULE, error="ternary")),
    "4 bits": replace(_REFERENCE, precision=4),
    "5 bits": replace(_REFERENCE, precision=5),
    "16 bits": replace(_REFERENCE, precision=16),
}


def run(settings: OnlineSettings) -> dict[str, Any]:
    """Learn the tasks. Returns the final accuracies in percent, the mean, online accuracies and time an image."""
    dataset = load_dataset(settings.data)
    if settings.held_out:
        kept = len(dataset.train) - len(dataset.test)
        dataset = Dataset(
            dataset.name,
            dataset.train.take(np.arange(kept)),
            dataset.train.take(np.arange(kept, len(dataset.train))),
        )
    scenario = permuted_tasks(dataset, settings.tasks, settings.seed)
    learner = Learner(
        [dataset.train.features, *settings.hidden, dataset.train.classes],
        rule=settings.rule,
        precision=settings.precision,
        feedback=settings.feedback,
        seed=settings.seed,
        backend=settings.backend,
        device=settings.device,
    )
    history = learner.fit(scenario, images=settings.images)
    assert history.accuracy is not None
    last = history.accuracy.values[-1] * 100
    return {
        "settings": {**asdict(settings), "rule": settings.rule.to_dict()},
        "accuracy": history.accuracy.to_dict(),
        "final": [round(float(value), 2) for value in last],
        "mean": round(float(last.mean()), 2),
        "online": [round(100 * value, 2) for value in history.online],
        "saturated": [round(value, 3) for value in saturation(learner)],
        "microseconds_an_image": round(1e6 * history.seconds / history.images, 1),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=[next(iter(ROWS))], help="names of rows, or all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--backend", default="lava", choices=["lava", "kernels", "oracle"])
    parser.add_argument("--tasks", type=int, default=_REFERENCE.tasks)
    parser.add_argument("--images", type=int, default=_REFERENCE.images)
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("results/online_permuted_mnist"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = list(ROWS) if arguments.rows == ["all"] else arguments.rows
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; there are: {'; '.join(ROWS)}")
    results: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        for seed in arguments.seeds:
            settings = replace(
                ROWS[name],
                seed=seed,
                backend=arguments.backend,
                tasks=arguments.tasks,
                images=arguments.images,
                held_out=arguments.held_out,
            )
            result = run(settings)
            results.setdefault(name, []).append(result)
            write_json(arguments.out / "accuracy.json", results)
            print(f"{name:32} seed {seed}  {result['final']}  mean {result['mean']:5.1f}", flush=True)


if __name__ == "__main__":
    main()
