"""The captured step without a GPU: graphs stood in for by a tape (see tape.py), held to the clear step to the bit."""

from __future__ import annotations

from typing import Any

import pytest
import tape
import torch
from stopping import stopped_after
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from lava_meta.data import Images
from lava_meta.data.scenarios import Scenario
from lava_meta.experiments.common.training import TrainingSettings
from lava_meta.experiments.spiking import SpikingMLP, SpikingSettings
from lava_meta.nn import BinaryConvNet, BinaryLinear, BinaryMLP, FixedNorm, Pixels, RealMLP, Sign, layers, mark_binary
from lava_meta.optim import MetaplasticAdam, MetaplasticSGD
from lava_meta.rule import Consolidation, Constant, Exponential, Linear, Quadratic, Table, Tanh2
from lava_meta.rule.consolidation import _torch_row
from lava_meta.training import TrainSettings, cuda, steps, train
from lava_meta.training.methods import EWC, SI, Beakers, Hooks, Levels, Method, Replay


class Own(Consolidation):
    kind = "own"

    def _of(self, distance: Any, xp: Any) -> Any:
        return 1 / (1 + distance)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind}


class Captured:
    """A factory of captured steps on tapes, with the reference form of the optimizer; keeps the tapes that it made."""

    def __init__(self, *refuses: str) -> None:
        self.refuses, self.tapes = refuses, list[tape.Tape]()

    def __call__(self, model: nn.Module, *, shown: bool) -> steps.CapturedStep:
        self.tapes.append(tape.Tape(self.refuses))
        return steps.CapturedStep(model, self.tapes[-1], fused=False)  # type: ignore[arg-type]


class Rebinding(Hooks, Method):
    """A method that does what none of ours does: it puts other tensors in the places of gradients and weights."""

    kind = "rebinding"

    def start(self, model: nn.Module) -> Hooks:
        self.weights, self.steps = [p for p in model.parameters() if p.dim() >= 2], 0
        return self

    def gradients(self) -> None:
        if self.steps % 3 == 0:
            self.weights[0].grad = self.weights[0].grad * 0.5  # type: ignore[operator]
        if self.steps % 5 == 0:
            self.weights[1].grad = None

    def stepped(self) -> None:
        self.steps += 1
        if self.steps % 8 == 0:
            self.weights[0].data = self.weights[0].data.clone() * 0.5

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind}


def three_parts(shape: tuple[int, ...] = (16,)) -> Scenario:
    """Three parts, the last of the first one's task; batches of 32 leave one of 24."""

    def images(seed: int, name: str) -> Images:
        generator = torch.Generator().manual_seed(seed)
        y = torch.arange(120) % 3
        x = (torch.rand((120, 16), generator=generator) * 100).to(torch.uint8)
        x[torch.arange(120), y * 4 + seed] += 120
        return Images(x.view(120, *shape), y, name, 3)

    parts = (images(0, "a"), images(1, "b"), images(0, "a again"))
    return Scenario("three", parts, parts[:2], (0, 1, 0))


def network(norm: Any) -> nn.Module:
    if norm == "conv":
        return BinaryConvNet((1, 4, 4), [8], 3, pixel_mean=60.0, pixel_std=50.0, seed=0)
    if norm == "real":
        return RealMLP((16, 32, 3), "batch", pixel_mean=60.0, pixel_std=50.0, seed=0, tasks=2)
    if norm == "spiking":
        torch.manual_seed(0)
        spiking = SpikingMLP(SpikingSettings(hidden=(16, 16), steps=3), three_parts().train[0])
        spiking.by_layers = False  # its compiled form is of the CPU; what is captured are torch's operations
        return spiking
    options = {"tasks": 2, "statistics": "stored"} if norm == "batch" else {}
    return BinaryMLP((16, 32, 32, 3), norm, pixel_mean=60.0, pixel_std=50.0, seed=0, **options)


CASES: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "fixed": ("fixed", None, {}),
    "batch": ("batch", None, {}),
    "batch, one optimizer": ("batch", None, {"reset_moments": False}),
    "layer": ("layer", None, {"m": (2.0, 4.0, 1.0)}),
    "conv": ("conv", None, {}),
    "real": ("real", None, {}),
    "spiking": ("spiking", None, {}),
    "sgd": ("fixed", None, {"optimizer": "sgd", "lr": 0.05}),
    "momentum": ("batch", None, {"optimizer": "sgd", "momentum": 0.9, "lr": 0.05}),
    "a table": ("fixed", None, {"consolidation": Table([0, 0.2, 1], [1, 0.3, 0.1])}),
    "a gate of one's own": ("fixed", None, {"consolidation": Own()}),
    "EWC": ("batch", EWC(100.0, images=20), {}),
    "SI": ("fixed", SI(), {}),
    "replay": ("batch", Replay(30), {}),
    "beakers": ("layer", Beakers(), {"m": 0.0}),
    "levels": ("fixed", Levels(6), {"consolidation": Exponential(2.0)}),
}


def run_of(norm: str, method: Any, options: dict[str, Any], **more: Any) -> Any:
    model = network(norm)
    setting = TrainSettings(**{"epochs": 3, "batch_size": 32, "m": 2.0, **options})
    scenario = three_parts((1, 4, 4) if norm == "conv" else (16,))
    result = train(model, scenario, setting, method=method, progress=False, **more)
    return result.history, model.state_dict()


def assert_same(one: Any, two: Any) -> None:
    assert one[0] == two[0]
    for name, value in one[1].items():
        assert torch.equal(value, two[1][name]), name


@pytest.mark.parametrize("case", CASES)
def test_a_captured_run_is_the_clear_one_to_the_bit(case: str) -> None:
    captured = Captured()
    assert_same(run_of(*CASES[case], steps=captured), run_of(*CASES[case]))
    (used,) = captured.tapes
    # Each part: 9 batches of 32, of which 3 warm up, and 3 of 24; each two graphs, unless the gate is one's own.
    graphs = 1 if case == "a gate of one's own" else 2
    assert used.captures == 3 * graphs
    assert used.replays == 3 * 6 * graphs
    assert used.runs == 3 * (9 + 3) * 2 - used.replays


def test_other_tensors_in_the_places_of_weights_and_gradients() -> None:
    captured = Captured()
    assert_same(run_of("batch", Rebinding(), {}, steps=captured), run_of("batch", Rebinding(), {}))
    assert captured.tapes[0].captures > 2
    assert captured.tapes[0].replays > 5


@pytest.mark.parametrize("case", ["EWC", "momentum"])
def test_a_captured_run_resumes_to_the_bit(case: str, tmp_path: Any) -> None:
    with stopped_after(6):  # after the second epoch of the second part
        run_of(*CASES[case], steps=Captured(), out=tmp_path)
    resumed = run_of(*CASES[case], steps=Captured(), out=tmp_path, resume=True)
    assert_same(resumed, run_of(*CASES[case]))


@pytest.mark.parametrize("refused", ["_learn", "step"])
def test_what_cannot_be_captured_runs_as_it_is(refused: str) -> None:
    with pytest.warns(
        UserWarning, match="runs uncaptured, which is slower: operation not permitted when stream is cap"
    ):
        captured = run_of(*CASES["batch"], steps=Captured(refused))
    assert_same(captured, run_of(*CASES["batch"]))


def test_a_small_part_is_never_captured() -> None:
    captured, options = Captured(), {"batch_size": 500, "epochs": 2}
    assert_same(run_of("fixed", None, options, steps=captured), run_of("fixed", None, options))
    assert captured.tapes[0].captures == 0


def test_the_tape_keeps_the_rules_of_graphs() -> None:
    """Nothing is done by a capture; numbers of Python stay; values cannot be looked at."""
    weight, factor = torch.ones(3), 2.0
    made = tape.Tape().capture(lambda: weight.mul_(factor).sum())
    assert torch.equal(weight, torch.ones(3))
    factor = 10.0
    assert made() == 6.0
    weight.fill_(5.0)
    assert made() == 30.0
    with pytest.raises(RuntimeError, match="looks at a value"):
        tape.Tape().capture(lambda: weight.sum().item())
    # So a step that counts on the host is caught: its count is a number of Python.
    parameter = nn.Parameter(torch.ones(2, 2))
    parameter.grad = torch.ones(2, 2)
    counted = MetaplasticAdam([parameter])
    counted.step()
    with pytest.raises(RuntimeError, match="looks at a value"):
        tape.Tape().capture(counted.step)


# --- nothing leaves the device --------------------------------------------------------------------------------------


class Devices(TorchDispatchMode):
    """The devices that operations work on, by operation."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, set[str]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_flatten((args, kwargs, result))[0] if isinstance(leaf, torch.Tensor)]
        self.found.setdefault(str(function), set()).update(tensor.device.type for tensor in tensors)
        return result

    def assert_on_gpu(self) -> None:
        assert "aten._local_scalar_dense.default" not in self.found
        elsewhere = {name: on for name, on in self.found.items() if on != {"cuda"} and not name.startswith("profiler.")}
        assert elsewhere == {}
        assert len(self.found) > 3


@pytest.mark.skipif(torch.version.cuda is None, reason="this torch knows no CUDA")
@pytest.mark.parametrize("norm", ["fixed", "batch", "layer", "conv", "real"])
def test_on_a_gpu_no_operation_would_leave_it(norm: str) -> None:
    """Tensors without content that are said to lie on a GPU: what each operation would be given and give. A value that
    the host looks at, or a tensor that it would send, is seen. (Not the backward pass, which needs a real one.)"""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        model = network(norm)
        shape = (1, 4, 4) if norm == "conv" else (16,)
        x, y = torch.zeros((20, *shape), dtype=torch.uint8), torch.zeros(20, dtype=torch.int64)
        steps.ClearStep(model).loss(x, y)
        with Devices() as devices:
            steps.ClearStep(model).loss(x, y)
        devices.assert_on_gpu()


@pytest.mark.skipif(torch.version.cuda is None, reason="this torch knows no CUDA")
def test_on_a_gpu_no_optimizer_step_would_leave_it() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        h = mark_binary(nn.Parameter(torch.zeros(4, 5)))
        h.grad = torch.zeros(4, 5)
        for f in (Constant(), Tanh2(4.0), Exponential(3.0), Linear(0.5), Quadratic(0.5), Table([0, 1], [1, 0.1])):
            adam = MetaplasticAdam([h], consolidation=f, weight_decay=1e-7, capturable=True)
            sgd = MetaplasticSGD([h], 0.01, consolidation=f, weight_decay=1e-7, momentum=0.9)
            for optimizer in (adam, sgd):
                optimizer.step()
                with Devices() as devices:
                    optimizer.step()
                devices.assert_on_gpu()
    _torch_row.cache_clear()  # it keeps the rows of tables, which have no content here


# --- which models ---------------------------------------------------------------------------------------------------


class Negated(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -x


class Declared(Negated):
    capturable = True


def test_which_models_can_be_captured() -> None:
    for norm in ("fixed", "batch", "layer", "conv", "real", "spiking"):
        assert cuda.can_capture(network(norm))
    assert not cuda.can_capture(nn.Sequential(nn.Linear(4, 4), nn.Dropout()))  # draws at random
    assert not cuda.can_capture(nn.Sequential(nn.Linear(4, 4), Negated()))  # unknown
    assert not cuda.can_capture(nn.Sequential(nn.Sequential(nn.Linear(4, 4), Negated())))
    assert cuda.can_capture(nn.Sequential(nn.Linear(4, 4), Declared()))
    watched = network("fixed")
    watched[2].register_forward_hook(lambda *_: None)  # type: ignore[operator]
    assert not cuda.can_capture(watched)
    model = network("fixed")
    next(model.parameters()).register_hook(lambda gradient: None)
    assert not cuda.can_capture(model)
    model = network("fixed")
    next(model.parameters()).register_post_accumulate_grad_hook(lambda parameter: None)
    assert not cuda.can_capture(model)


def test_fast_is_decided_once() -> None:
    """The step that a model gets on the CPU, and what the step asks of its optimizer."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Dropout(0.1))
    for fast, given, kind in (
        (False, network("fixed"), steps.ClearStep),
        (True, network("fixed"), steps.FastStep),
        (True, network("conv"), steps.ClearStep),  # of which the optimizer alone is fast
        (True, model, steps.ClearStep),
    ):
        step = steps.step_factory(fast=fast)(given, shown=False)
        assert type(step) is kind
        assert step.optimizer_form == {"fused": fast}
        optimizer = TrainSettings(m=0.0).make_optimizer(given, **step.optimizer_form)
        assert (optimizer.defaults["fused"], optimizer.defaults["capturable"]) == (fast, False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_on_a_gpu_a_fast_step_is_captured_if_the_model_allows_it() -> None:
    factory = steps.step_factory(fast=True)
    step = factory(network("fixed").cuda(), shown=False)
    assert type(step) is steps.CapturedStep
    assert step.optimizer_form == {"fused": True, "capturable": True}
    assert type(factory(nn.Sequential(nn.Linear(16, 3), nn.Dropout(0.1)).cuda(), shown=False)) is steps.ClearStep


def test_on_the_cpu_there_are_no_graphs() -> None:
    assert cuda.graphs_on(torch.device("cpu")) is None
    assert TrainingSettings().device == "cpu"


# --- products -------------------------------------------------------------------------------------------------------


def rounded(x: torch.Tensor) -> torch.Tensor:
    """float32 as TF32 reads it: 10 bits after the leading one, to the nearest, ties to even."""
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


MODELS = {
    "fixed": (True, lambda: network("fixed")),
    "batch": (True, lambda: network("batch")),
    "layer": (True, lambda: network("layer")),
    "conv": (True, lambda: network("conv")),
    "raw levels": (True, lambda: nn.Sequential(BinaryLinear(16, 8), FixedNorm(0.1), Sign(), BinaryLinear(8, 3))),
    "real weights": (False, lambda: network("real")),
    "standardized pixels": (False, lambda: nn.Sequential(Pixels.standardize(0.13, 0.31), BinaryLinear(16, 3))),
    "half a level": (False, lambda: nn.Sequential(Pixels(-1500.5), BinaryLinear(16, 3))),
    "many levels": (False, lambda: nn.Sequential(Pixels(30000, max_level=60001), BinaryLinear(16, 3))),
    "no sign between": (False, lambda: nn.Sequential(BinaryLinear(16, 8), FixedNorm(0.3), BinaryLinear(8, 3))),
}


@pytest.mark.parametrize("name", MODELS)
def test_where_tf32_changes_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exact, make = MODELS[name]
    torch.manual_seed(0)
    model = make()
    assert cuda.exact_in_tf32(model) is exact
    x = three_parts((1, 4, 4) if name == "conv" else (16,)).train[0].x.float()
    if name == "many levels":
        x = x * 273 + 1
    logits = model(x)
    linear, conv = nn.functional.linear, nn.functional.conv2d
    monkeypatch.setattr(nn.functional, "linear", lambda x, w, *more: linear(rounded(x), rounded(w), *more))
    monkeypatch.setattr(nn.functional, "conv2d", lambda x, w, *more: conv(rounded(x), rounded(w), *more))
    assert layers.functional is nn.functional
    assert torch.equal(model(x), logits) is exact


def test_tf32_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    matmul = torch.backends.cuda.matmul

    def fails() -> None:
        with cuda.tf32():
            assert matmul.fp32_precision == "tf32" if hasattr(matmul, "fp32_precision") else matmul.allow_tf32
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fails()
    assert matmul.allow_tf32 is False
    with cuda.tf32(on=False):
        assert matmul.allow_tf32 is False

    class Before:  # as torch had it before 2.9
        allow_tf32 = False

    monkeypatch.setattr(torch.backends.cuda, "matmul", Before)
    with cuda.tf32():
        assert Before.allow_tf32 is True
    assert Before.allow_tf32 is False
