"""The first thing to run: a network that remembers beside one that forgets, and the first one in Lava.

Two equal binarized networks learn permuted tasks one after the other: one plainly (m = 0), one with metaplastic
synapses. The metaplastic one is converted, classifies the test images of all tasks in Lava's simulator, and is compared
with PyTorch image by image.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import PositiveInt

from lava_meta.converters import LavaNetwork, convert
from lava_meta.data import load_dataset
from lava_meta.data.scenarios import Scenario, permuted_tasks
from lava_meta.errors import FormatError, OutputError, lava_missing
from lava_meta.experiments.common.experiment import Results
from lava_meta.experiments.common.figures import task_curves
from lava_meta.experiments.common.training import measured
from lava_meta.io import config
from lava_meta.io.config import Several
from lava_meta.io.files import read_json, write_json
from lava_meta.nn import BinaryMLP
from lava_meta.optim.threads import torch_threads
from lava_meta.plotting import figures
from lava_meta.training import TrainResult, TrainSettings, train
from lava_meta.training.metrics import AccuracyMatrix, task_name
from lava_meta.training.model_file import save_model
from lava_meta.training.run_folder import SETTINGS, differences

SUMMARY = "summary.json"  # written last: what has it is complete


@dataclass(frozen=True)
class DemoSettings:
    """What the demonstration runs. `hidden` and `training.m`: on held-out images (docs/results/training.md)."""

    data: str = "digits"
    tasks: PositiveInt = 5
    hidden: Several[PositiveInt] = (512, 512)
    norm: Literal["fixed", "layer"] = "fixed"
    activation: Literal["sign", "abs_step"] = "abs_step"
    # Of the metaplastic network; the plain one has m = 0. The seed is that of the permutations and initial weights too.
    # Both are trained with `seeds` seeds from it on, for the figure; what else is shown is of the first.
    seeds: PositiveInt = 3
    training: TrainSettings = TrainSettings(m=23.0, lr=0.0025, fast=True)
    lanes: PositiveInt = 64  # images per Lava time step
    threads: PositiveInt = 1  # of torch: products this small lose more than they gain from a second one

    def __post_init__(self) -> None:
        config.check(self)


PRESETS = {
    "digits": DemoSettings(),
    "mnist": DemoSettings(
        "mnist",
        norm="layer",  # the second layer of larger images would fall out of the window
        training=TrainSettings(epochs=3, batch_size=100, m=5.0, lr=0.0025, fast=True),
        threads=2,
    ),
}


@dataclass(frozen=True, eq=False)
class DemoResult:
    """What came out."""

    results: dict[str, list[TrainResult]]  # "plain" and "metaplastic": one per seed
    network: LavaNetwork
    images: int  # classified in Lava
    mismatches: int  # with PyTorch
    images_per_second: float  # in Lava, once started

    @property
    def plain(self) -> TrainResult:
        """Of the first seed."""
        return self.results["plain"][0]

    @property
    def metaplastic(self) -> TrainResult:
        """Of the first seed, whose network runs in Lava."""
        return self.results["metaplastic"][0]


def run(settings: DemoSettings, out: Path, *, progress: bool = True, overwrite: bool = False) -> DemoResult:
    """Run the demonstration and leave runs, figures, metrics and the network in `out`.

    One of the same settings that was stopped there goes on; a complete one is made again, its own files replaced.
    Raises `OutputError` for a folder with anything else under these names, unless `overwrite`.
    """
    files = ("model.safetensors", "network.safetensors", SUMMARY, "figures", "plain", "metaplastic")
    resume = open_folder(out, settings, files, overwrite=overwrite) and not (out / SUMMARY).exists()
    (out / SUMMARY).unlink(missing_ok=True)
    trained: dict[str, list[tuple[BinaryMLP, TrainResult]]] = {"plain": [], "metaplastic": []}
    for place in range(settings.seeds):
        for name, of_arm in trained.items():
            folder = out / name / f"seed{place + settings.training.seed}" if place else out / name
            of_arm.append(_train(settings, name, place, folder, resume=resume, progress=progress))
    results = {name: [result for _, result in of_arm] for name, of_arm in trained.items()}
    models = {name: of_arm[0][0] for name, of_arm in trained.items()}
    scenario = _tasks(settings, settings.training.seed)
    _draw(settings, results, models, scenario, out / "figures")
    save_model(models["metaplastic"], out / "model.safetensors")
    network = convert(models["metaplastic"])
    network.save(out / "network.safetensors")
    images, mismatches, rate = _compare(network, models["metaplastic"], scenario, settings.lanes)
    result = DemoResult(results, network, images, mismatches, rate)
    write_json(out / SUMMARY, summary(result))
    return result


def _tasks(settings: DemoSettings, seed: int) -> Scenario:
    return permuted_tasks(load_dataset(settings.data), settings.tasks, seed)


def _train(
    settings: DemoSettings, name: str, place: int, folder: Path, *, resume: bool, progress: bool
) -> tuple[BinaryMLP, TrainResult]:
    """One of both networks, "plain" or "metaplastic", with the seed at this place."""
    seed = settings.training.seed + place
    scenario = _tasks(settings, seed)
    training = replace(settings.training, seed=seed, m=0.0 if name == "plain" else settings.training.m)
    options: dict[str, Any] = {"activation": settings.activation, "seed": seed}
    model = BinaryMLP.for_images(scenario.train[0], settings.hidden, settings.norm, **options)
    with torch_threads(settings.threads):
        result = train(model, scenario, training, folder, resume=resume, overwrite=not resume, progress=progress)
    return model.eval(), result


def open_folder(out: Path, settings: Any, files: Sequence[str], *, overwrite: bool, **more: int) -> bool:
    """Make `out` the folder of a demonstration with these settings and `more`; whether it was that already.

    Raises `OutputError` if settings.json names others, or one of `files` is there without it, unless `overwrite`.
    """
    wanted = config.to_dict(settings) | more
    held = [name for name in (SETTINGS, *files) if (out / name).exists()]
    saved = _saved(out / SETTINGS, settings, more)
    if held and saved == wanted:
        return True
    if held and not overwrite:
        told = held if saved is None else list(differences(saved, wanted))
        raise OutputError(
            f"{out} holds something else than this demonstration ({'; '.join(told[:4])}): choose another folder, or "
            "overwrite it (--overwrite)"
        )
    write_json(out / SETTINGS, wanted)
    return False


def _saved(file: Path, settings: Any, more: Mapping[str, int]) -> dict[str, Any] | None:
    """What the file says, as this version would; None if it is not the settings of a demonstration."""
    try:
        saved = read_json(file)
        own = {name: value for name, value in saved.items() if name not in more}
        return config.to_dict(config.changed(settings, own)) | {name: saved.get(name) for name in more}
    except (OSError, FormatError, AttributeError, TypeError, ValueError):
        return None


def summary(result: DemoResult) -> dict[str, Any]:
    """The figures of the run, JSON-ready."""
    assert result.network.parity is not None
    return {
        "plain": _known(result.plain.matrix.summary()),
        "metaplastic": _known(result.metaplastic.matrix.summary()),
        "acc_by_seed": {name: [found.matrix.acc() for found in of_arm] for name, of_arm in result.results.items()},
        "lava": {
            "images": result.images,
            "mismatches": result.mismatches,
            "images_per_second": round(result.images_per_second, 1),
        },
        "self_check": result.network.parity.to_dict(),
    }


def _known(values: dict[str, float]) -> dict[str, float | None]:
    """NaN, as the forgetting of a single task, as null."""
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _draw(
    settings: DemoSettings,
    results: dict[str, list[TrainResult]],
    models: dict[str, BinaryMLP],
    scenario: Scenario,
    folder: Path,
) -> None:
    titles = {"plain": "plain (m = 0)", "metaplastic": f"metaplastic (m = {settings.training.m:g})"}
    runs = Results({titles[name]: [measured(result) for result in of_arm] for name, of_arm in results.items()})
    names = [task_name(task) for task in range(settings.tasks)]
    curves = task_curves(runs, settings.training.epochs, names, chance=1 / scenario.classes)
    figures.save(curves, folder / "accuracy_over_time")
    weights = {
        titles[name]: {layer: module.weight.detach().numpy() for layer, module in model.binary_layers().items()}
        for name, model in models.items()
    }
    figures.save(figures.hidden_weight_histograms(weights), folder / "hidden_weights")
    matrices = {titles[name]: of_arm[0].matrix for name, of_arm in results.items()}
    figures.save(figures.accuracy_matrices(matrices), folder / "accuracy_matrices")


def _compare(network: LavaNetwork, model: BinaryMLP, scenario: Scenario, lanes: int) -> tuple[int, int, float]:
    """Images run, classes that differ from the PyTorch model, and images per second, over the tests of all tasks."""
    images = torch.cat([test.x.flatten(1) for test in scenario.tests])
    with torch.inference_mode():
        expected = model(images).argmax(dim=1).numpy()
    with network:
        network.predict(images[:lanes], lanes=lanes)  # starts Lava's processes
        begin = time.perf_counter()
        classes = network.predict(images, lanes=lanes)
        seconds = time.perf_counter() - begin
    return len(images), int(np.sum(classes != expected)), len(images) / seconds


def side_by_side(matrices: dict[str, AccuracyMatrix]) -> str:
    """Two matrices with their names, beside each other."""
    left, right = ([name, *str(matrix).splitlines()] for name, matrix in matrices.items())
    width = max(map(len, left)) + 6
    return "\n".join(f"{a:<{width}}{b}" for a, b in zip(left, right, strict=True))


def _over_seeds(result: DemoResult) -> str:
    """A line of mean accuracies and their standard deviation; empty for one seed."""
    if len(result.results["plain"]) == 1:
        return ""
    runs = Results({name: [measured(found) for found in of_arm] for name, of_arm in result.results.items()})
    by_arm = "".join(f"   {name} {runs.text(name, 'ACC')}" for name in runs.arms)
    return f"ACC of {len(result.results['plain'])} seeds{by_arm}\n"


def describe(result: DemoResult, out: Path) -> str:
    """What the command line prints."""
    plain, ours = result.plain.matrix, result.metaplastic.matrix
    table = side_by_side({"plain": plain, "metaplastic": ours})
    where = "compiled kernels" if lava_missing() else "Lava"
    return (
        f"Test accuracy (%) on task t after each task:\n\n{table}\n\n"
        f"ACC         plain {100 * plain.acc():5.1f}   metaplastic {100 * ours.acc():5.1f}\n"
        f"forgetting  plain {100 * plain.forgetting():5.1f}   metaplastic {100 * ours.forgetting():5.1f}\n"
        f"{_over_seeds(result)}\n"
        f"self-check: {result.network.parity}\n"
        f"{where}: {result.images} test images of all tasks, {result.images_per_second:,.0f} images/s\n"
        f"mismatches: {result.mismatches}\n\n"
        f"figures, metrics and the network are in {out}"
    )
