"""Methods that attach to the training loop: when each hook is called, EWC against its equation, and resuming."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.nn import functional

from lava_meta.data import Dataset, load_dataset
from lava_meta.data.scenarios import permuted_tasks
from lava_meta.errors import FormatError, RunFolderError
from lava_meta.nn import BinaryConvNet, BinaryMLP
from lava_meta.rule import sign
from lava_meta.training import TrainSettings, train
from lava_meta.training.methods import EWC, Hooks, Method, diagonal_fisher, synapses

DIGITS = load_dataset("digits")
SMALL = Dataset("small", DIGITS.train.take(range(110), "train"), DIGITS.test.take(range(50), "test"))
SCENARIO = permuted_tasks(SMALL, 2, seed=0)
QUICK = TrainSettings(epochs=2, m=8.0)  # three steps an epoch
PIXELS, LABELS = SMALL.train.x[:12].float(), SMALL.train.y[:12]


def net(**options):
    return BinaryMLP.for_images(SMALL.train, [16], seed=1, **options)


def run(model, method, out=None, **options):
    return train(model, SCENARIO, QUICK, out, method=method, progress=False, **options)


@dataclass(frozen=True)
class Recorder(Method):
    """Writes down every call, and what the parameters and gradients were."""

    log: list
    kind: ClassVar[str] = "recorder"

    def start(self, model):
        log = self.log

        class Recording(Hooks):
            def begin_part(self, part, images):
                log.append(("begin", part, len(images)))

            def batch(self, x, y):
                log.append(("batch", x.dtype, len(y)))
                self.before = model[2].weight.detach().clone()
                return x, y

            def gradients(self):
                assert torch.equal(model[2].weight, self.before)
                log.append(("gradients", bool(model[2].weight.grad.any())))

            def stepped(self):
                log.append(("stepped", torch.equal(model[2].weight, self.before)))

            def end_part(self, part, images):
                log.append(("end", part, len(images)))

        return Recording()


def test_when_the_hooks_are_called():
    log = []
    run(net(), Recorder(log))
    step = [("gradients", True), ("stepped", False)]
    epoch = [("batch", torch.uint8, 50), *step, ("batch", torch.uint8, 50), *step, ("batch", torch.uint8, 10), *step]
    assert log == [call for part in range(2) for call in (("begin", part, 110), *epoch, *epoch, ("end", part, 110))]


@pytest.mark.parametrize("norm", ["fixed", "layer", "batch"])
def test_fisher_against_one_image_at_a_time(norm):
    model = net(norm=norm).train()
    if norm == "batch":
        model(PIXELS)  # statistics and gains that are not those of the start
    before = {name: value.clone() for name, value in model.state_dict().items()}
    got = diagonal_fisher(model, PIXELS, LABELS, batch_size=5)

    # The reference writes the network out, with the statistics of the 12 images as constants.
    total = {name: torch.zeros_like(weight) for name, weight in synapses(model).items()}
    constants: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(x):
        pieces = list(model)
        a, used = x, iter(constants)
        for module in pieces:
            if norm == "batch" and type(module).__name__ == "TaskBatchNorm":
                mean, var = next(used)
                a = (a - mean) / torch.sqrt(var + module.eps) * module.gain + module.offset
            else:
                a = module(a)
        return a

    if norm == "batch":
        a = PIXELS
        for module in model:
            if type(module).__name__ == "TaskBatchNorm":
                constants.append((a.mean(0).detach(), a.var(0).detach()))
                mean, var = constants[-1]
                a = (a - mean) / torch.sqrt(var + module.eps) * module.gain + module.offset
            else:
                a = module(a)
    for x, y in zip(PIXELS, LABELS, strict=True):
        log_p = functional.log_softmax(forward(x.unsqueeze(0)), dim=1)[0, y]
        for (name, weight), gradient in zip(
            synapses(model).items(), torch.autograd.grad(log_p, list(synapses(model).values())), strict=True
        ):
            assert gradient.shape == weight.shape
            total[name] += gradient**2 / len(PIXELS)
    assert got.keys() == total.keys()
    for name, value in got.items():
        assert value.max() > 0
        torch.testing.assert_close(value, total[name], rtol=1e-4, atol=1e-10)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_fisher_of_a_convolution():
    model = BinaryConvNet((1, 8, 8), [3, 4], 10, pixel_mean=5, pixel_std=6, max_level=16, seed=0).train()
    got = diagonal_fisher(model, PIXELS, LABELS)
    total = {name: torch.zeros_like(weight) for name, weight in synapses(model).items()}
    for x, y in zip(PIXELS, LABELS, strict=True):
        log_p = functional.log_softmax(model(x.unsqueeze(0)), dim=1)[0, y]
        gradients = torch.autograd.grad(log_p, list(synapses(model).values()))
        for name, gradient in zip(total, gradients, strict=True):
            total[name] += gradient**2 / len(PIXELS)
    for name, value in got.items():
        torch.testing.assert_close(value, total[name], rtol=1e-4, atol=1e-10)


def test_labels_of_the_model_give_the_fisher_information():
    """Drawn many times, the mean tends to the sum over classes weighed by their probability."""
    model, x = net().train(), PIXELS[:1]
    log_p = functional.log_softmax(model(x), dim=1)[0]
    want = sum(
        log_p[c].detach().exp() * torch.autograd.grad(log_p[c], model[2].weight, retain_graph=True)[0] ** 2
        for c in range(10)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        got = diagonal_fisher(model, x.repeat(20_000, 1, 1, 1), batch_size=20_000)["2.weight"]
    assert got.sum().item() == pytest.approx(want.sum().item(), rel=0.05)


def test_fisher_names_a_layer_it_does_not_know():
    with pytest.raises(ValueError, match="grouped"):
        diagonal_fisher(nn.Sequential(nn.Conv2d(2, 2, 3, groups=2)), PIXELS)
    with pytest.raises(ValueError, match=r"0\.weight"):
        diagonal_fisher(nn.Sequential(nn.Embedding(3, 4)), PIXELS)


@pytest.mark.parametrize("anchor", ["hidden", "binary"])
def test_the_springs_are_the_gradient_of_their_energy(anchor):
    model = net()
    method = EWC(strength=3.0, anchor=anchor)
    springs = method.start(model)
    weight = model[2].weight
    anchors, stiffness = [], []
    for part in range(2):
        before = springs.tensors()["stiffness.2.weight"].clone()
        springs.end_part(part, SMALL.train)
        stiffness.append(springs.tensors()["stiffness.2.weight"] - before)
        anchors.append((weight.detach() if anchor == "hidden" else sign(weight.detach())).clone())
        with torch.no_grad():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(part)))
    here = (weight.detach() if anchor == "hidden" else sign(weight.detach())).requires_grad_()
    energy = sum(3.0 / 2 * (f * (here - a) ** 2).sum() for f, a in zip(stiffness, anchors, strict=True))
    want = torch.autograd.grad(energy, here)[0]
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.25)
    springs.gradients()
    assert want.abs().max() > 1e-4
    torch.testing.assert_close(weight.grad - 0.25, want, rtol=1e-3, atol=1e-6)


def test_shuffled_importances_are_the_same_ones_elsewhere():
    plain, shuffled = EWC().start(net()), EWC(shuffle=True).start(net())
    with torch.random.fork_rng():
        for springs in (plain, shuffled):
            torch.manual_seed(0)
            springs.end_part(0, SMALL.train)
    a, b = plain.tensors()["stiffness.2.weight"], shuffled.tensors()["stiffness.2.weight"]
    assert not torch.equal(a, b)
    assert torch.equal(a.flatten().sort().values, b.flatten().sort().values)


def test_a_strong_spring_keeps_the_first_task():
    data = permuted_tasks(Dataset("digits", DIGITS.train, DIGITS.test), 2, seed=0)
    kept = {}
    for strength in (0.0, 1e5):
        model = BinaryMLP.for_images(DIGITS.train, [64], seed=0)
        settings = TrainSettings(epochs=4, m=0.0, evaluate="task")
        kept[strength] = train(model, data, settings, method=EWC(strength), progress=False).matrix.values[2, 0]
    assert kept[1e5] > kept[0.0] + 0.1


class Stop(Exception):
    pass


class StopsAfter(nn.Module):
    def __init__(self, steps):
        super().__init__()
        self.net, self.steps = net(), steps

    def forward(self, x):
        if self.training and len(x) <= 50:
            self.steps -= 1
            if self.steps < 0:
                raise Stop
        return self.net(x)


@pytest.mark.parametrize("steps", [2, 7, 10])
def test_a_stopped_run_goes_on_to_the_same_result(steps, tmp_path):
    method = EWC(strength=100.0, shuffle=True, images=60)
    want = run(StopsAfter(10**9), method, tmp_path / "whole")
    with pytest.raises(Stop):
        run(StopsAfter(steps), method, tmp_path / "stopped")
    again = StopsAfter(10**9)
    with torch.no_grad():
        again.net[2].weight.zero_()
    got = run(again, method, tmp_path / "stopped", resume=True)
    assert got.history == want.history
    for file in ("checkpoint.safetensors", "metrics.csv", "settings.json"):
        assert (tmp_path / "stopped" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_another_method_is_another_run(tmp_path):
    run(net(), EWC(), tmp_path)
    with pytest.raises(RunFolderError, match="method"):
        run(net(), None, tmp_path, resume=True)
    with pytest.raises(RunFolderError, match=r"method\.strength is 5000"):
        run(net(), EWC(strength=1.0), tmp_path, resume=True)


def test_a_checkpoint_without_the_methods_state(tmp_path):
    from lava_meta.training.checkpoint import read_checkpoint, write_checkpoint

    run(net(), EWC(), tmp_path)
    tensors, state = read_checkpoint(tmp_path / "checkpoint.safetensors")
    del tensors["method.parts"]
    write_checkpoint(tmp_path / "checkpoint.safetensors", tensors, state)
    with pytest.raises(FormatError, match=r"parts"):
        run(net(), EWC(), tmp_path, resume=True)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"strength": -1.0}, ValueError, "strength"),
        ({"strength": float("nan")}, ValueError, "strength"),
        ({"strength": "much"}, TypeError, "strength"),
        ({"anchor": "sign"}, ValueError, "anchor"),
        ({"images": 0}, ValueError, "images"),
        ({"images": 1.5}, TypeError, "images"),
        ({"labels": "true"}, ValueError, "labels"),
        ({"shuffle": 1}, TypeError, "shuffle"),
    ],
)
def test_names_what_is_wrong(options, error, says):
    with pytest.raises(error, match=says):
        EWC(**options)
