"""The on-line demonstration: five tasks of digits learned inside Lava, one image at a time, with the gate and without.

lava-meta demo --online
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lava_meta.experiments.common.experiment import Measurement, Results, Run
from lava_meta.experiments.common.online import part_curves
from lava_meta.experiments.common.settings import changed
from lava_meta.experiments.demo import open_folder, side_by_side
from lava_meta.experiments.online import DIGITS, permuted
from lava_meta.io.files import write_json
from lava_meta.online_learning import load_learner
from lava_meta.optim.threads import torch_threads
from lava_meta.plotting import figures
from lava_meta.training.metrics import AccuracyMatrix


@dataclass(frozen=True, eq=False)
class OnlineDemoResult:
    """What came out: measurements and matrices by arm, and the metaplastic network in Lava beside the reference."""

    measurements: dict[str, Measurement]
    matrices: dict[str, AccuracyMatrix]
    images: int  # classified in Lava by the network that was learned
    mismatches: int  # with the reference implementation of its integers


def run(
    out: Path, seed: int = 0, *, overwrite: bool = False, progress: bool = False, **changes: object
) -> OnlineDemoResult:
    """Learn both ways, and leave learners, figures and metrics in `out`, replacing those of the same settings.

    Raises `OutputError` for a folder with anything else under these names, unless `overwrite`.
    """
    settings = changed(DIGITS.scales["small"], **changes)
    arms = DIGITS.arms(settings)
    open_folder(out, settings, ("metrics.json", "figures", *arms), overwrite=overwrite, seed=seed)
    with torch_threads(settings.threads):
        measurements = {label: DIGITS.measure(Run(arm, seed, out / label, progress)) for label, arm in arms.items()}
    write_json(out / "metrics.json", {label: dict(found.metrics) for label, found in measurements.items()})
    results = Results({label: [found] for label, found in measurements.items()})
    figures.save(part_curves(results), out / "figures" / "accuracy_after_each_task")
    tasks = permuted(settings, seed)
    names = tuple(test.name for test in tasks.tests)
    matrices = {
        label: AccuracyMatrix(np.array(found.data["accuracies"], dtype=float), tasks.task_of, names)
        for label, found in measurements.items()
    }
    learner = load_learner(out / "metaplastic" / "learner.safetensors")
    pixels = np.concatenate([test.x.numpy() for test in tasks.tests])
    expected = learner.graph().predict(learner.encode(pixels))
    mismatches = int((learner.predict(pixels) != expected).sum())
    return OnlineDemoResult(measurements, matrices, len(pixels), mismatches)


def describe(result: OnlineDemoResult, out: Path) -> str:
    """What the command line prints."""
    plain, ours = result.matrices["plain"], result.matrices["metaplastic"]
    rate = 1e6 / result.measurements["metaplastic"].metrics["us an image"]
    return (
        "Learned inside Lava, one image at a time, one pass, in integers of 8 bits.\n"
        f"Test accuracy (%) on task t after each task:\n\n{side_by_side({'gate off': plain, 'metaplastic': ours})}\n\n"
        f"ACC         gate off {100 * plain.acc():5.1f}   metaplastic {100 * ours.acc():5.1f}\n"
        f"forgetting  gate off {100 * plain.forgetting():5.1f}   metaplastic {100 * ours.forgetting():5.1f}\n\n"
        f"learning: {rate:,.0f} images/s\n"
        f"Lava: {result.images} test images by the network that it has become, mismatches: {result.mismatches}\n\n"
        f"learners, figures and metrics are in {out}"
    )
