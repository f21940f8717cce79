"""SI, replay, beakers and levels: each against its equation written out, bad settings, and stopped runs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lava_meta.data import Dataset, Images, load_dataset
from lava_meta.data.scenarios import all_together, permuted_tasks
from lava_meta.nn import BinaryLinear, BinaryMLP, RealMLP
from lava_meta.rule import Exponential, metaplastic_update, sign
from lava_meta.training import TrainSettings, train
from lava_meta.training.methods import SI, Beakers, Levels, Replay

DIGITS = load_dataset("digits")
SMALL = Dataset("small", DIGITS.train.take(range(110), "train"), DIGITS.test.take(range(50), "test"))
SCENARIO = permuted_tasks(SMALL, 2, seed=0)
QUICK = TrainSettings(epochs=2, m=8.0)  # three steps an epoch


def net(seed=1):
    return BinaryMLP.for_images(SMALL.train, [16], seed=seed)


def weight_of(model):
    return model[2].weight


def put_gradient(model, gradient):
    for parameter in model.parameters():
        parameter.grad = None
    weight_of(model).grad = gradient.clone()


# SI.


@pytest.mark.parametrize("anchor", ["hidden", "binary"])
def test_si_is_its_equation(anchor):
    generator = torch.Generator().manual_seed(0)
    model = net()
    method = SI(strength=0.7, damping=0.01, anchor=anchor)
    paths = method.start(model)
    weight = weight_of(model)

    def anchored():
        return (weight.detach() if anchor == "hidden" else sign(weight.detach())).double()

    start, omega = anchored().clone(), torch.zeros(weight.shape, dtype=torch.float64)
    for part in range(3):
        path = torch.zeros_like(omega)
        for _ in range(4):
            gradient = torch.randn(weight.shape, generator=generator)
            put_gradient(model, gradient)
            paths.gradients()
            want = gradient.double() + 2 * 0.7 * omega * (anchored() - start)
            torch.testing.assert_close(weight.grad.double(), want, rtol=1e-3, atol=1e-3)
            before = anchored().clone()
            with torch.no_grad():
                weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
            paths.stepped()
            path -= gradient.double() * (anchored() - before)
        paths.end_part(part, SMALL.train)
        omega += path.clamp(min=0) / ((anchored() - start) ** 2 + 0.01)
        start = anchored().clone()
    assert omega.max() > 1
    torch.testing.assert_close(paths.tensors()["omega.2.weight"].double(), omega, rtol=1e-3, atol=1e-3)


def test_si_keeps_the_first_task():
    data = permuted_tasks(DIGITS, 2, seed=0)
    kept = {}
    for strength in (0.0, 10.0):
        model = BinaryMLP.for_images(DIGITS.train, [64], seed=0)
        settings = TrainSettings(epochs=4, m=0.0, evaluate="task")
        kept[strength] = train(model, data, settings, method=SI(strength), progress=False).matrix.values[2, 0]
    assert kept[10.0] > kept[0.0] + 0.1


# Replay.


def labelled(count, first):
    """Images whose every pixel is their number."""
    numbers = torch.arange(first, first + count)
    x = numbers.to(torch.uint8)[:, None].expand(-1, 4).contiguous()
    return Images(x, numbers % 10, f"from {first}", 10)


def test_the_memory_is_a_uniform_sample_of_what_has_ended():
    counts = np.zeros(120)
    rounds = 400
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(rounds):
            hooks = Replay(capacity=20).start(net())
            for part, (size, first) in enumerate([(5, 0), (45, 5), (70, 50)]):
                hooks.end_part(part, labelled(size, first))
                kept = hooks.tensors()
                assert len(kept["y"]) == min(20, first + size)
                assert (kept["x"].long() % 10 == kept["y"][:, None]).all()  # images keep their labels
            numbers = kept["x"][:, 0].numpy()
            assert len(set(numbers)) == 20  # none twice
            counts[numbers] += 1
    # Binomial(400, 1/6): 66.7 +- 7.5; the mean over each part is much closer.
    assert abs(counts - rounds / 6).max() < 5 * 7.5
    for part in (slice(0, 5), slice(5, 50), slice(50, 120)):
        assert counts[part].mean() == pytest.approx(rounds / 6, rel=0.12)


def test_a_batch_is_joined_by_as_many_from_the_memory():
    hooks = Replay(capacity=7).start(net())
    x, y = labelled(5, 100).x, labelled(5, 100).y
    assert hooks.batch(x, y)[0] is x  # nothing has ended yet
    hooks.end_part(0, labelled(30, 0))
    both, labels = hooks.batch(x, y)
    assert both.shape == (10, 4)
    assert torch.equal(both[:5], x)
    memory = set(hooks.tensors()["x"][:, 0].tolist())
    assert set(both[5:, 0].tolist()) <= memory
    assert torch.equal(labels[5:], both[5:, 0].long() % 10)


def test_replay_keeps_the_first_task():
    data = permuted_tasks(DIGITS, 2, seed=0)
    kept = {}
    for method in (None, Replay(capacity=300)):
        model = BinaryMLP.for_images(DIGITS.train, [64], seed=0)
        settings = TrainSettings(epochs=4, m=0.0, evaluate="task")
        kept[method] = train(model, data, settings, method=method, progress=False).matrix.values[2, 0]
    assert kept[Replay(capacity=300)] > kept[None] + 0.1


# Beakers.


def test_beakers_flow_as_written():
    method = Beakers(pipes=(0.1, 0.05, 0.02), areas=(1.0, 2.0, 4.0), m=3.0, feedback=0.01)
    model = net()
    hooks = method.start(model)
    weight = weight_of(model)
    u = [weight.detach().double().numpy().copy() for _ in range(3)]
    generator = np.random.default_rng(0)
    for _ in range(30):
        step = generator.normal(0, 0.1, u[0].shape)
        with torch.no_grad():
            weight.add_(torch.from_numpy(step))
        hooks.stepped()
        u[0] = u[0] + step
        into_last = 0.05 / 4 * (u[1] - u[2])
        gate = np.where(np.where(u[2] >= 0, 1, -1) * into_last < 0, 1 - np.tanh(3.0 * u[2]) ** 2, 1.0)
        up = u[2] - u[0]
        u = [
            u[0] + 0.1 * (u[1] - u[0]) + 0.01 * np.where(np.sign(u[2]) * up > 0, up, 0),
            u[1] + 0.1 / 2 * (u[0] - u[1]) + 0.05 / 2 * (u[2] - u[1]),
            u[2] + gate * into_last + 0.02 / 4 * (0 - u[2]),
        ]
    tensors = hooks.tensors()
    for got, want in zip((weight.detach(), tensors["1.2.weight"], tensors["2.2.weight"]), u, strict=True):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-4, atol=1e-6)


def test_water_is_neither_made_nor_lost_but_for_the_leak():
    """Without metaplasticity and feedback the content, sum of C_k u_k, falls by the last pipe's flow alone."""
    method = Beakers(pipes=(0.1, 0.05, 0.0), areas=(1.0, 2.0, 4.0), m=0.0, feedback=0.0)
    model = net()
    hooks = method.start(model)
    with torch.no_grad():
        weight_of(model).normal_(0, 1, generator=torch.Generator().manual_seed(0))

    def content():
        deep = hooks.tensors()
        levels = [weight_of(model).detach(), deep["1.2.weight"], deep["2.2.weight"]]
        return sum(c * level.double() for c, level in zip(method.areas, levels, strict=True))

    before = content()
    for _ in range(50):
        hooks.stepped()
    torch.testing.assert_close(content(), before, rtol=1e-4, atol=1e-5)
    assert (weight_of(model).detach() - hooks.tensors()["1.2.weight"]).abs().max() < 0.5  # they do even out


# Levels.


def test_levels_move_with_the_gated_probability():
    """The mean move of a synapse is the step of the metaplastic rule, and each move one whole level."""
    d, u, h0, m = 1 / 7, 0.02, 3 / 7, 2.0
    rule = Exponential(m)
    model = BinaryLinear(100, 400)
    hooks = Levels(bits=4, limit=1.0).start(model)
    for step in (u, -u):
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)
            h = torch.full_like(model.weight, h0)
            model.weight.copy_(metaplastic_update(h, torch.full_like(h, step), rule))
            hooks.stepped()
        moves = ((model.weight.detach() - h0) / d).round()
        want = u * (np.exp(-m * h0) if step > 0 else 1.0) / d
        assert set(moves.unique().tolist()) == ({-1.0, 0.0} if step > 0 else {0.0, 1.0})
        assert moves.abs().mean().item() == pytest.approx(want, abs=5 * (want / 40_000) ** 0.5)
    torch.testing.assert_close(model.weight.detach() * 7, (model.weight.detach() * 7).round(), rtol=0, atol=1e-5)


def test_to_the_nearest_short_steps_are_lost():
    model = BinaryLinear(3, 1)
    hooks = Levels(bits=3, limit=1.5, rounding="nearest").start(model)  # levels 0.5 apart
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.7, -0.8, 9.0]]))
    hooks.stepped()
    assert model.weight.tolist() == [[0.5, -1.0, 1.5]]


# All of them.


METHODS = [SI(strength=1.0), Replay(capacity=30), Beakers(), Levels(bits=5)]


class Stop(Exception):
    pass


class StopsAfter(torch.nn.Module):
    def __init__(self, steps):
        super().__init__()
        self.net, self.steps = net(), steps

    def forward(self, x):
        if self.training:
            self.steps -= 1
            if self.steps < 0:
                raise Stop
        return self.net(x)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.kind)
def test_a_stopped_run_goes_on_to_the_same_result(method, tmp_path):
    def run(model, out, **options):
        return train(model, SCENARIO, QUICK, out, method=method, progress=False, **options)

    want = run(StopsAfter(10**9), tmp_path / "whole")
    with pytest.raises(Stop):
        run(StopsAfter(10), tmp_path / "stopped")
    again = StopsAfter(10**9)
    with torch.no_grad():
        weight_of(again.net).zero_()
    got = run(again, tmp_path / "stopped", resume=True)
    assert got.history == want.history
    files = ("checkpoint.safetensors", "metrics.csv", "settings.json")
    assert all((tmp_path / "stopped" / f).read_bytes() == (tmp_path / "whole" / f).read_bytes() for f in files)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: SI(strength=-1), ValueError, "strength"),
        (lambda: SI(damping=0), ValueError, "damping"),
        (lambda: SI(anchor="sign"), ValueError, "anchor"),
        (lambda: Replay(capacity=0), ValueError, "capacity"),
        (lambda: Replay(capacity=2.5), TypeError, "capacity"),
        (lambda: Beakers(pipes=(0.1,)), ValueError, "1 pipes and 4 areas"),
        (lambda: Beakers(pipes=(2.0, 0, 0, 0)), ValueError, "beaker 0"),
        (lambda: Beakers(areas=(1.0, 2.0, "4", 8.0)), TypeError, "areas"),
        (lambda: Beakers(pipes=0.1), TypeError, "pipes"),
        (lambda: Beakers(m=-1), ValueError, "m"),
        (lambda: Levels(bits=1), ValueError, "bits"),
        (lambda: Levels(bits=17), ValueError, "bits"),
        (lambda: Levels(limit=0), ValueError, "limit"),
        (lambda: Levels(rounding="up"), ValueError, "rounding"),
    ],
)
def test_names_what_is_wrong(make, error, says):
    with pytest.raises(error, match=says):
        make()


# What the comparisons also need.


def test_all_together_has_the_images_of_every_part():
    joint = all_together(SCENARIO)
    assert len(joint.train) == 1
    assert torch.equal(joint.train[0].x, torch.cat([part.x for part in SCENARIO.train]))
    assert torch.equal(joint.train[0].y, torch.cat([part.y for part in SCENARIO.train]))
    assert joint.tests == SCENARIO.tests
    model = BinaryMLP.for_images(DIGITS.train, [64], seed=0)
    data = all_together(permuted_tasks(DIGITS, 2, seed=0))
    result = train(model, data, replace(QUICK, epochs=10, m=0.0, evaluate="task"), progress=False)
    assert (result.matrix.values[-1] > 0.8).all()  # one network serves both


def test_the_real_network_is_its_equation_and_learns():
    model = RealMLP.for_images(DIGITS.train, [32], seed=3, statistics="stored")
    x = DIGITS.train.x[:40]
    a = (x.flatten(1).double() - DIGITS.train.mean_level) / DIGITS.train.std_level
    weights = [p.detach().double() for p in model.parameters() if p.dim() == 2]
    for i, weight in enumerate(weights):
        a = a @ weight.T
        a = (a - a.mean(0)) / torch.sqrt(a.var(0, unbiased=False) + 1e-5)
        a = a.clamp(min=0) if i == 0 else a
    torch.testing.assert_close(model.train()(x).detach().double(), a, rtol=1e-3, atol=1e-4)
    data = permuted_tasks(DIGITS, 1, seed=0)
    settings = TrainSettings(epochs=3, m=1.0, evaluate="task")
    assert train(model, data, settings, progress=False).matrix.values[-1, 0] > 0.9
    with pytest.raises(ValueError, match="fixed"):
        RealMLP((4, 2), norm="fixed")
