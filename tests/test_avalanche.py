"""Our rules in Avalanche's strategies, and Avalanche's benchmarks and metrics beside ours.

Avalanche asks for versions of its own: these tests run in an environment that has it, and are skipped elsewhere.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("avalanche")

from avalanche.benchmarks import PermutedMNIST
from avalanche.evaluation.metrics import accuracy_metrics, bwt_metrics, forgetting_metrics
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from torch import nn

from lava_meta.avalanche import MetaplasticPlugin, accuracy_matrix, benchmark
from lava_meta.data import Images, from_avalanche, load_dataset
from lava_meta.data.scenarios import Scenario, permuted_tasks, split_classes, stream_of_subsets
from lava_meta.nn import BayesianMLP, BinaryMLP
from lava_meta.optim import MESUOptimizer, MetaplasticAdam
from lava_meta.training import TrainSettings, evaluate, train
from lava_meta.training.methods import EWC, MESU, SI, Beakers, Levels, Method, Replay
from lava_meta.training.random_numbers import order_of_images

DIGITS = load_dataset("digits")
TASKS = permuted_tasks(DIGITS, 3, seed=0)
SETTINGS = TrainSettings(m=(1.0, 2.0), lr=0.01, epochs=2, batch_size=50)


def naive(model: nn.Module, method: Method | None = None, *, metrics: bool = True) -> Any:
    """The strategy without anything against forgetting, with our plugin."""
    found = (accuracy_metrics(experience=True, stream=True), forgetting_metrics(stream=True), bwt_metrics(stream=True))
    return Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=SETTINGS.batch_size,
        eval_mb_size=1000,
        train_epochs=SETTINGS.epochs,
        plugins=[MetaplasticPlugin(SETTINGS, method)],
        evaluator=EvaluationPlugin(*(found if metrics else ()), loggers=[]),
    )


def accuracies(model: Any) -> list[float]:
    """Those that our own evaluation finds."""
    found = []
    for task, test in enumerate(TASKS.tests):
        model.select_task(task)
        found.append(evaluate(model, test))
    return found


@pytest.mark.parametrize(
    "method", [None, EWC(10.0), SI(), Replay(100), Beakers(), Levels()], ids=lambda m: type(m).__name__
)
def test_our_matrix_is_avalanches_on_the_same_run(method: Method | None) -> None:
    torch.manual_seed(0)
    model = BinaryMLP.for_images(TASKS.train[0], (32,), "batch", tasks=3, seed=0)
    strategy, data = naive(model, method), benchmark(TASKS)
    results, own = [strategy.eval(data.test_stream)], [accuracies(model)]
    for experience in data.train_stream:
        strategy.train(experience)
        results.append(strategy.eval(data.test_stream))
        own.append(accuracies(model))
    matrix = accuracy_matrix(results)
    assert np.array_equal(matrix.values, own)
    assert matrix.acc() > 0.3
    theirs = {key.split("/")[0]: value for key, value in results[-1].items() if "Stream" in key}
    assert matrix.acc() == pytest.approx(theirs["Top1_Acc_Stream"], abs=1e-12)
    assert matrix.bwt() == pytest.approx(theirs["StreamBWT"], abs=1e-12)
    # Avalanche's forgetting is from the accuracy just after a task, ours from the best.
    assert -matrix.bwt() == pytest.approx(theirs["StreamForgetting"], abs=1e-12)
    assert matrix.forgetting() >= theirs["StreamForgetting"] - 1e-12


@pytest.mark.parametrize("method", [None, SI()], ids=["rule", "rule and SI"])
def test_a_strategy_and_our_loop_come_to_the_same_weights(method: Method | None) -> None:
    """With the same images in the same batches: each experience is laid out as our loop draws it, epoch by epoch."""
    order = order_of_images(SETTINGS.seed)
    once = TrainSettings(m=(1.0, 2.0), lr=0.01, epochs=1, batch_size=50)
    laid = []
    for images in TASKS.train:
        laid.append(images.take(torch.randperm(len(images), generator=order)))
    ours = BinaryMLP.for_images(TASKS.train[0], (32,), "fixed", seed=0)
    theirs = BinaryMLP.for_images(TASKS.train[0], (32,), "fixed", seed=0)
    train(ours, TASKS, once, method=method, progress=False, threads=1)
    strategy = naive(theirs, method, metrics=False)
    for experience in benchmark(Scenario("laid out", tuple(laid), TASKS.tests, TASKS.task_of)).train_stream:
        strategy.train_epochs = 1
        strategy.train(experience, shuffle=False)
    for name, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name]), name


def test_a_method_brings_its_own_optimizer_and_draws() -> None:
    torch.manual_seed(0)
    model = BayesianMLP.for_images(TASKS.train[0], (32,), "gaussian", draws=2, seed=0)
    strategy = naive(model, MESU(lr=1.6, lr_deviation=2.0, prior=0.3, clip=0.4), metrics=False)
    strategy.train(next(iter(benchmark(TASKS).train_stream)))
    assert type(strategy.optimizer) is MESUOptimizer
    assert evaluate(model, TASKS.tests[0]) > 0.8


@pytest.mark.parametrize(
    "original",
    [TASKS, split_classes(DIGITS, [(0, 1, 2), (3, 4, 5, 6)]), stream_of_subsets(DIGITS, 3, seed=1)],
    ids=lambda one: one.name.split("(")[0],
)
def test_there_and_back(original: Scenario) -> None:
    back = from_avalanche(benchmark(original), scale=(0, 255))
    assert back.checksum() == original.checksum()
    assert back.task_of == original.task_of
    for images, others in zip(original.train, back.train, strict=True):
        assert torch.equal(images.x, others.x)
        assert torch.equal(images.y, others.y)


def mnist_files(folder: Any, images: Images) -> str:
    """`images` as torchvision keeps MNIST: big-endian sizes, then bytes."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train", "t10k"):
        head = b"".join(n.to_bytes(4, "big") for n in (0x803, len(images), 28, 28))
        (raw / f"{name}-images-idx3-ubyte").write_bytes(head + images.x.numpy().tobytes())
        head = b"".join(n.to_bytes(4, "big") for n in (0x801, len(images)))
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(head + images.y.to(torch.uint8).numpy().tobytes())
    return str(folder)


def labelled(x: torch.Tensor, y: torch.Tensor) -> dict[bytes, int]:
    """The label of each image, in whatever order they lie."""
    return {image.numpy().tobytes(): int(label) for image, label in zip(x, y, strict=True)}


def test_its_permuted_mnist_as_a_scenario(tmp_path: Any) -> None:
    draw = torch.Generator().manual_seed(0)
    images = Images(
        torch.randint(0, 256, (40, 1, 28, 28), dtype=torch.uint8, generator=draw), torch.arange(40) % 10, "", 10
    )
    data = PermutedMNIST(n_experiences=2, seed=7, dataset_root=mnist_files(tmp_path, images))
    mean, std = 0.1307, 0.3081  # of its transform
    found = from_avalanche(data, scale=(-mean / std, (1 - mean) / std), name="permuted")
    assert found.classes == 10
    assert found.task_of == (0, 1)
    draws = np.random.RandomState(7)
    for experience in found.train:
        order = torch.from_numpy(draws.permutation(784))
        assert labelled(experience.x, experience.y) == labelled(images.x.flatten(1)[:, order], images.y)
    model = BinaryMLP((784, 32, 10), pixel_mean=33, pixel_std=79, seed=0)
    with pytest.raises(ValueError, match=r"experience 1: a method needs raw levels.*lava_meta\.from_avalanche"):
        naive(model, Replay(10), metrics=False).train(data.train_stream[0])


def test_the_plugin_gives_the_strategy_its_optimizer() -> None:
    model = BinaryMLP.for_images(TASKS.train[0], (32,), "fixed", seed=0)
    strategy, data = naive(model, metrics=False), benchmark(TASKS)
    strategy.train(data.train_stream[0])
    first = strategy.optimizer
    assert isinstance(first, MetaplasticAdam)
    assert [group["m"] for group in first.param_groups if group.get("m")] == [1.0, 2.0]
    strategy.train(data.train_stream[1])
    assert strategy.optimizer is not first


def test_the_page_runs() -> None:
    page = (Path(__file__).parents[1] / "docs" / "avalanche.md").read_text()
    names: dict[str, Any] = {}
    for block in re.findall(r"```py\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "avalanche.md", "exec"), names)
    assert len(names["results"]) == 3


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"settings have no m.*give m \(0 is plain\)"):
        MetaplasticPlugin(TrainSettings())
    with pytest.raises(ValueError, match=r"accuracy_metrics\(experience=True\)"):
        accuracy_matrix([{"Top1_Acc_Stream/eval_phase/test_stream": 0.5}])
    one = {"Top1_Acc_Exp/eval_phase/test_stream/Exp000": 0.5}
    with pytest.raises(ValueError, match="4 results for 1 experiences"):
        accuracy_matrix([one] * 4)
