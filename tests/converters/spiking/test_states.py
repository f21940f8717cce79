"""States that a model keeps itself, tests of values in a forward, and arguments that fit nothing."""

from __future__ import annotations

import numpy as np
import pytest
import spiking_models as models
import torch

import lava_meta
from lava_meta.converters.spiking.reading import read_spiking
from lava_meta.errors import ConversionError

MNIST = {"mean": 0, "std": 1}


class Buffers(models.Dense):
    """One time step, its states in buffers of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mem1", self.lif1.init_leaky())
        self.register_buffer("mem2", self.lif2.init_leaky())

    def forward(self, x):
        spk1, self.mem1 = self.lif1(self.fc1(x), self.mem1)
        spk2, self.mem2 = self.lif2(self.fc2(spk1), self.mem2)
        return spk2


class Frames(Buffers):
    """Frames one after the other; the next call goes on from the last one's states."""

    def forward(self, x):
        return torch.stack([super(Frames, self).forward(frame) for frame in x])


@pytest.mark.parametrize(("build", "time"), [(Buffers, "step"), (Frames, "first")])
def test_states_that_a_model_keeps_begin_at_rest(build, time):
    torch.manual_seed(0)
    model = models.louder(build())
    net = lava_meta.from_snntorch(model, **MNIST)
    assert net.parity.exact
    assert model.mem1.numel() == 0
    assert read_spiking(model, **MNIST).time == time
    x = np.random.default_rng(0).integers(0, 256, (9, 5, 64))
    frames = torch.from_numpy(x / 255).float()
    with torch.no_grad():
        wanted = torch.stack([model(frame) for frame in frames]) if time == "step" else model(frames)
        again = torch.stack([model(frame) for frame in frames]) if time == "step" else model(frames)
    assert not torch.equal(wanted, again)  # from the states that were left
    found = net.graph.spikes(x)[net.graph.output]
    assert np.array_equal(found, wanted.numpy())
    assert 0.02 < found.mean() < 0.9
    with pytest.raises(ConversionError, match=r"lif1 \(Leaky\) begins with a mem that is not 0.*keeps to 0 before"):
        lava_meta.from_snntorch(model, **MNIST)


class Checking(models.Dense):
    """A test in every step, which bounds decide, or not."""

    def __init__(self, most: float) -> None:
        super().__init__()
        self.most = most

    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes = []
        for _ in range(6):
            current = self.fc1(x)
            if current.max() > self.most:
                current = current * 2
            spk1, mem1 = self.lif1(current, mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
        return torch.stack(spikes)


def test_tests_of_values_are_taken_if_their_bounds_decide_them():
    torch.manual_seed(0)
    assert lava_meta.from_snntorch(Checking(1e3).eval(), **MNIST).parity.exact
    with pytest.raises(ConversionError, match=r"`if current.max\(\) > self.most:` asks for values of the images"):
        lava_meta.from_snntorch(Checking(1.0).eval(), **MNIST)


class Counted(models.Dense):
    def forward(self, x, num_steps):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        for _ in range(num_steps):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
        return spk2


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"steps": 0}, ValueError, "steps is 0; a forward runs over at least one time step"),
        ({"steps": "ten"}, TypeError, "steps is 'ten'; it is a whole number"),
        ({"max_level": 255.0}, TypeError, "max_level is 255.0"),
        ({"input_shape": 64}, TypeError, r"input_shape is 64; give whole numbers, as \(784,\)"),
    ],
)
def test_arguments_that_are_no_numbers_of_anything_are_refused(options, error, reason):
    with pytest.raises(error, match=reason):
        lava_meta.from_snntorch(models.Dense().eval(), **{**MNIST, **options})


def test_what_a_forward_takes_behind_its_input_are_states():
    with pytest.raises(ConversionError, match=r"takes num_steps behind the input, and gets states at rest.*wrap"):
        lava_meta.from_snntorch(Counted().eval(), **MNIST)
    net = lava_meta.from_snntorch(models.louder(models.Dense()), **MNIST)
    with pytest.raises(ValueError, match="population is 0; it is the number of classes"):
        net.predict(np.zeros((2, 64), int), 3, population=0)
