"""Training on a GPU; and, so that the tests themselves are tested where there is none, the same on the CPU.

There a tape stands in for the graphs (see tape.py), and what only a GPU has (waiting, its memory) is not looked at.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import tape
import torch
from stopping import stopped_after
from torch import nn

from lava_meta.data import load_dataset
from lava_meta.data.scenarios import permuted_tasks
from lava_meta.experiments.common.training import TrainingSettings
from lava_meta.nn import BinaryMLP, mark_binary
from lava_meta.optim import MetaplasticAdam, MetaplasticSGD, gpu, parameter_groups
from lava_meta.rule import Constant, Exponential, Linear, Quadratic, Table, Tanh2
from lava_meta.training import TrainSettings, cuda, train
from lava_meta.training.methods import EWC, SI, Replay
from lava_meta.training.steps import CapturedStep, ClearStep
from lava_meta.training.torch_device import usable_device

HAS_GPU = torch.cuda.is_available()
on_gpu = pytest.mark.skipif(not HAS_GPU, reason="there is no GPU here")
GPU = pytest.param("cuda", marks=on_gpu)
everywhere = pytest.mark.parametrize("device", ["cpu", GPU])
slow_on_the_cpu = pytest.mark.parametrize("device", [pytest.param("cpu", marks=pytest.mark.slow), GPU])
FUNCTIONS = [Constant(), Tanh2(4.0), Exponential(3.0), Linear(0.5), Quadratic(0.5), Table([0, 0.2, 1], [1, 0.3, 0.1])]


def batches(device: str, steps: int, n: int = 50) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Digits, drawn again for each step; every tenth batch is smaller."""
    images = load_dataset("digits").train
    generator = torch.Generator().manual_seed(1)
    for step in range(1, steps + 1):
        index = torch.randint(0, len(images), (n if step % 10 else n // 2,), generator=generator)
        yield images.x[index].to(device), images.y[index].to(device)


class Learner:
    """A network, its step, captured or clear, and its optimizer."""

    def __init__(self, device: str, norm: Any, *, captured: bool, fused: bool = False, hidden: int = 128) -> None:
        self.model = BinaryMLP((64, hidden, hidden, 10), norm, pixel_mean=4.9, pixel_std=6.0, seed=0).to(device)
        graphs: Any = cuda.Graphs(torch.device(device)) if device == "cuda" else tape.Tape()
        self.step = CapturedStep(self.model, graphs) if captured else ClearStep(self.model)
        self.begin(fused=fused)

    def begin(self, *, fused: bool) -> None:
        groups = parameter_groups(self.model, 4.0)
        self.optimizer = MetaplasticAdam(groups, weight_decay=1e-7, capturable=True, fused=fused)
        self.step.begin_part()

    def learn(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        loss = self.step.loss(x, y).clone()
        self.step.backward()
        self.step.update(self.optimizer)
        return loss


@contextmanager
def nothing_waits(device: str) -> Iterator[None]:
    """Inside, an operation for which the host waits for the GPU is an error."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")


@slow_on_the_cpu
@pytest.mark.parametrize("fused", [False, pytest.param(True, marks=on_gpu)])
@pytest.mark.parametrize("norm", ["fixed", "batch", "layer"])
def test_captured_steps_are_the_clear_ones_to_the_bit(norm: str, fused: bool, device: str) -> None:
    """In TF32 too: the forward pass is exact in it, and the backward pass is not done in it."""
    results = []
    for captured in (False, True):
        learner = Learner(device, norm, captured=captured, fused=fused)
        losses = []
        for part in range(2):
            learner.begin(fused=fused)
            losses += [learner.learn(x, y) for x, y in batches(device, 15 + part)]
        results.append((torch.stack(losses), learner.model.state_dict()))
    (clear, expected), (captured_losses, found) = results
    assert torch.equal(captured_losses, clear)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@slow_on_the_cpu
@pytest.mark.parametrize("norm", ["fixed", "batch"])
def test_the_host_never_waits_in_a_step(norm: str, device: str) -> None:
    learner = Learner(device, norm, captured=True, fused=device == "cuda")
    method = SI().start(learner.model)
    stored = Replay(100).start(learner.model)
    stored.end_part(0, load_dataset("digits").train.to(device))
    given = [stored.batch(x, y) for x, y in batches(device, 20)]
    for i, (x, y) in enumerate(given):
        if i < 12:  # warm-up, capture, and once a batch of another size
            learner.learn(x, y)
            continue
        with nothing_waits(device):
            stored.batch(x, y)
            learner.step.loss(x, y)
            learner.step.backward()
            method.gradients()
            learner.step.update(learner.optimizer)
            method.stepped()


@everywhere
@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.kind)
def test_the_host_never_waits_in_an_optimizer_step(f: Any, device: str) -> None:
    for fused in (False, True):
        h = mark_binary(nn.Parameter(torch.rand(40, 50, device=device) - 0.5))
        h.grad = torch.randn_like(h)
        both = (
            MetaplasticAdam([h], consolidation=f, weight_decay=1e-7, capturable=True, fused=fused),
            MetaplasticSGD([h], 0.01, consolidation=f, momentum=0.9, fused=fused),
        )
        for optimizer in both:
            optimizer.step()
            with nothing_waits(device):
                optimizer.step()


@slow_on_the_cpu
def test_memory_stays_flat(device: str) -> None:
    learner = Learner(device, "batch", captured=True, fused=device == "cuda", hidden=512 if device == "cuda" else 32)
    levels = []
    for _ in range(4):  # experiences: each captures again
        learner.begin(fused=device == "cuda")
        for i, (x, y) in enumerate(batches(device, 200 if device == "cuda" else 12)):
            learner.learn(x, y)
            if i in (10, 199):
                levels.append(torch.cuda.memory_allocated() if device == "cuda" else 0)
    assert max(levels[2:]) <= levels[1] + 2**20  # the first part's beginning is warm-up for libraries too


@slow_on_the_cpu
@pytest.mark.parametrize("method", [None, EWC(100.0, images=50), Replay(50)], ids=["plain", "EWC", "replay"])
def test_a_run_resumes_to_the_bit(method: Any, device: str, tmp_path: Any) -> None:
    digits = load_dataset("digits")
    some = type(digits)("digits", digits.train.take(range(330)), digits.test.take(range(100)))
    scenario, setting = permuted_tasks(some, 2, 0), TrainSettings(epochs=3, m=4.0, fast=True)

    def fresh() -> BinaryMLP:
        return BinaryMLP.for_images(scenario.train[0], [64], "batch", seed=0, tasks=2).to(device)

    whole = fresh()
    result = train(whole, scenario, setting, method=method, progress=False)
    with stopped_after(6):  # after the second epoch of the second part
        train(fresh(), scenario, setting, tmp_path, method=method, progress=False)
    again = fresh()
    resumed = train(again, scenario, setting, tmp_path, method=method, resume=True, progress=False)
    assert resumed.history == result.history
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


@slow_on_the_cpu
@pytest.mark.parametrize("norm", ["fixed", "batch", "layer"])
@pytest.mark.parametrize("method", [None, EWC(100.0, images=50)], ids=["plain", "EWC"])
def test_a_fast_run_learns_as_the_clear_one_on_the_cpu(norm: Any, method: Any, device: str) -> None:
    scenario = permuted_tasks(load_dataset("digits"), 2, 0)
    options = {"tasks": 2} if norm == "batch" else {}
    found = []
    for fast, place in ((False, "cpu"), (True, device)):
        model = BinaryMLP.for_images(scenario.train[0], [64], norm, seed=0, **options).to(place)
        result = train(model, scenario, TrainSettings(epochs=3, m=4.0, fast=fast), method=method, progress=False)
        found.append((result.matrix.acc(), [record.loss for record in result.history[1:]]))
    # One seed each: the spread of ACC over seeds is 0.02, and losses of single epochs differ by a few per cent.
    assert abs(found[1][0] - found[0][0]) < 0.1
    assert found[0][0] > 0.5
    torch.testing.assert_close(torch.tensor(found[1][1]), torch.tensor(found[0][1]), rtol=0.2, atol=0.02)


@on_gpu
@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.kind)
@pytest.mark.parametrize("name", ["adam", "sgd", "momentum"])
def test_the_kernels_take_the_clear_steps(name: str, f: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    h = torch.rand((131, 67), generator=generator) - 0.5
    h.view(-1)[:2] = torch.tensor([0.0, -0.0])
    grads = [torch.randn(h.shape, generator=generator).cuda() for _ in range(5)]
    results = []
    for fused in (False, True):
        parameter = mark_binary(nn.Parameter(h.cuda()))
        if name == "adam":
            optimizer: Any = MetaplasticAdam([parameter], consolidation=f, weight_decay=1e-3, fused=fused)
        else:
            momentum = 0.9 if name == "momentum" else 0.0
            optimizer = MetaplasticSGD([parameter], 0.01, consolidation=f, momentum=momentum, fused=fused)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # as of kernels that do not work
            for gradient in grads:
                parameter.grad = gradient
                optimizer.step()
        results.append(parameter.detach())
    assert gpu.gpu_pass(results[0]) is not None
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gpu", "there is no device 'gpu'; choose cpu, or cuda"),
        ("cuda:one", "there is no device 'cuda:one'"),
        ("meta", r"the device 'meta' cannot be used here \(Tensor.item\(\) cannot"),
        pytest.param("cuda", "device is 'cuda', but .*: choose cpu", marks=pytest.mark.skipif(HAS_GPU, reason="GPU")),
        pytest.param("cuda:99", "'cuda:99'", id="beyond the last"),
    ],
)
def test_a_device_that_is_not_there_is_named(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        usable_device(name)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=words):
        TrainingSettings(device=name)
    assert usable_device("cpu") == torch.device("cpu")
