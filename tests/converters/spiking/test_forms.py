"""Forwards as tutorials write them: a batch size written in, one module at two places; and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import snntorch as snn
import spiking_models as models
import torch
from snntorch import surrogate
from snntorch._neurons.neurons import SpikingNeuron
from torch import nn

import lava_meta
from lava_meta.converters.recording.written_sizes import written_sizes
from lava_meta.converters.spiking.check import observe
from lava_meta.converters.spiking.reading import read_spiking
from lava_meta.errors import ConversionError

MNIST = {"mean": 0, "std": 1}
BATCH = 12
CONFIG = {"batch_size": 12, "rate": 0.1}


class Written(models.Dense):
    """By a constant of the file."""

    def forward(self, x):
        mem1, mem2 = torch.zeros(BATCH, 40), torch.zeros(BATCH, 10)
        spikes = []
        for _ in range(models.STEPS):
            spk1, mem1 = self.lif1(self.fc1(x.view(BATCH, -1)), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
        return torch.stack(spikes)


class Literal(models.Dense):
    """By a number, on frames."""

    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        for frame in x:
            spk1, mem1 = self.lif1(self.fc1(frame.reshape(12, 64)), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
        return spk2


class Attribute(models.Dense):
    """By an attribute of the module, in one time step."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 12

    def forward(self, x, mem1, mem2):
        spk1, mem1 = self.lif1(self.fc1(x.reshape(self.n, -1)), mem1)
        spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
        return spk2, mem1, mem2


class Configured(Written):
    """By an entry of a dictionary, behind convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 5)

    def forward(self, x):
        return super().forward(torch.relu(self.conv(x)).view(CONFIG["batch_size"], -1))


def louder(build: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return models.louder(build())


@pytest.mark.parametrize(
    ("build", "options", "time"),
    [
        (Written, MNIST, "held"),
        (Literal, {}, "first"),
        (Attribute, MNIST, "step"),
        (Configured, MNIST | {"input_shape": (1, 8, 8)}, "held"),
    ],
)
def test_a_forward_with_its_batch_size_written_in(build, options, time):
    model = louder(build)
    read = read_spiking(model, **options)
    assert (read.batch_size, read.time) == (12, time)
    net = lava_meta.from_snntorch(model, **options)
    assert sum(net.parity.mismatches.values()) == 0 or net.parity.ties
    x = np.random.default_rng(1).integers(0, net.graph.max_level + 1, (31, 64))
    frames = net.graph.frames(x, models.STEPS)
    theirs, ours = observe(read, frames), net.graph.spikes(frames)
    for layer, spikes in theirs.spikes.items():
        assert spikes.shape == ours[layer].shape == (models.STEPS, 31, spikes.shape[2])
        assert 0.02 < spikes.mean() < 0.98
        assert (ours[layer] == spikes).mean() > 0.999


def flat(x):
    return x.reshape(12, 64)


class Hidden(models.Dense):
    """In a function that forward calls."""

    def forward(self, x):
        return super().forward(flat(x))


def test_a_batch_size_that_is_nowhere_named_is_given():
    model = louder(Hidden)
    with pytest.raises(ConversionError, match="the model itself fails"):
        lava_meta.from_snntorch(model, **MNIST)
    assert lava_meta.from_snntorch(model, batch_size=12, **MNIST).graph.n_out == 10
    for wrong in (1, 12.0, True):
        with pytest.raises(ValueError, match="batch_size is"):
            lava_meta.from_snntorch(model, batch_size=wrong, **MNIST)


def test_written_sizes_are_those_of_the_users_own_code():
    assert written_sizes(Written())[0] == 12
    assert written_sizes(Configured())[0] == 12
    assert written_sizes(nn.Sequential(nn.Linear(64, 48), snn.Leaky(beta=0.9))) == []


class Twice(models.Dense):
    """One module of neurons at two places, as in a tutorial of snnTorch."""

    def __init__(self, middle: int = 40) -> None:
        super().__init__()
        self.between = nn.Linear(40, middle)
        self.fc2 = nn.Linear(middle, 10)

    def second(self, current, mem):
        return self.lif1(current, mem)

    def forward(self, x):
        mem1, mem2, mem3 = self.lif1.init_leaky(), self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes = []
        for _ in range(models.STEPS):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.second(self.between(spk1), mem2)
            spk3, mem3 = self.lif2(self.fc2(spk2), mem3)
            spikes.append(spk3)
        return torch.stack(spikes)


class Apart(Twice):
    """The same with two modules."""

    def __init__(self) -> None:
        super().__init__()
        self.lif3 = snn.Leaky(beta=0.95)

    def second(self, current, mem):
        return self.lif3(current, mem)


class TwiceAStep(Twice):
    """One time step of it."""

    def forward(self, x, mem1, mem2, mem3):
        spk1, mem1 = self.lif1(self.fc1(x), mem1)
        spk2, mem2 = self.lif1(self.between(spk1), mem2)
        spk3, mem3 = self.lif2(self.fc2(spk2), mem3)
        return spk3, mem1, mem2, mem3


@pytest.mark.parametrize("build", [Twice, TwiceAStep])
def test_one_module_of_neurons_at_two_places_with_states_of_their_own(build):
    twice, apart = louder(build), louder(Apart)
    net, wanted = (lava_meta.from_snntorch(model, **MNIST) for model in (twice, apart))
    assert list(net.graph.neurons) == ["lif1", "lif1.neurons", "lif2"]
    assert set(net.parity.spikes) == {*net.graph.neurons}
    x = np.random.default_rng(2).integers(0, 256, (20, 64))
    ours, theirs = net.graph.spikes(x, 9), wanted.graph.spikes(x, 9)
    for name, other in (("lif1", "lif1"), ("lif1.neurons", "lif3"), ("lif2", "lif2")):
        assert np.array_equal(ours[name], theirs[other])
        assert 0.02 < ours[name].mean() < 0.98


class OneState(nn.Module):
    """Both places go on from one potential."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.between, self.fc2 = nn.Linear(64, 40), nn.Linear(40, 40), nn.Linear(40, 10)
        self.lif1 = snn.Leaky(beta=0.95, init_hidden=True)
        self.lif2 = snn.Leaky(beta=0.95, init_hidden=True)

    def forward(self, x):
        self.lif1.reset_mem()
        self.lif2.reset_mem()
        spikes = []
        for _ in range(models.STEPS):
            spikes.append(self.lif2(self.fc2(self.lif1(self.between(self.lif1(self.fc1(x)))))))
        return torch.stack(spikes)


def test_one_state_at_two_places_is_refused_with_the_reason():
    with pytest.raises(ConversionError, match=r"lif1 \(Leaky\) is called at 2 places a step with one state"):
        lava_meta.from_snntorch(OneState().eval(), **MNIST)


NEURONS = {
    "LeakyParallel": lambda: snn.LeakyParallel(input_size=16, hidden_size=12),
    "DeltaLeaky": lambda: snn.DeltaLeaky(beta=0.9, delta_threshold=0.1),
    "SLSTM": lambda: snn.SLSTM(16, 12),
    "SConv2dLSTM": lambda: snn.SConv2dLSTM(1, 4, 3),
    "StateLeaky": lambda: snn.StateLeaky(beta=0.9, channels=12),
    "LinearLeaky": lambda: snn.LinearLeaky(beta=0.9, in_features=16, out_features=12),
}


@pytest.mark.parametrize("name", NEURONS)
def test_other_neurons_are_refused_by_name_and_place(name, monkeypatch):
    monkeypatch.setattr(SpikingNeuron, "instances", [])  # where snnTorch would keep them to be reset, which some cannot
    model = nn.Sequential(nn.Linear(16, 16), snn.Leaky(beta=0.9, init_hidden=True), nn.ModuleList([NEURONS[name]()]))
    with pytest.raises(ConversionError, match=rf"2\.0 \({name}\) is not supported; the neurons that convert are"):
        lava_meta.from_snntorch(model.eval(), input_shape=(16,))


def small(**options) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(16, 12),
        snn.Leaky(beta=0.8, init_hidden=True, **options),
        nn.Linear(12, 4),
        snn.Leaky(beta=0.8, init_hidden=True, output=True),
    ).eval()


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 0.3, "learn_threshold": True},
        {"threshold": torch.linspace(0.1, 0.8, 12), "learn_threshold": True, "learn_beta": True},
        {"threshold": 0.3, "graded_spikes_factor": 2.5},
        {"threshold": 0.3, "graded_spikes_factor": 0.7, "learn_graded_spikes_factor": True, "reset_delay": False},
        {"threshold": 0.3, "graded_spikes_factor": torch.linspace(-1.1, 2, 12)},
        *(
            {"threshold": 0.3, "spike_grad": getattr(surrogate, name)()}
            for name in ("atan", "fast_sigmoid", "sigmoid", "spike_rate_escape", "straight_through_estimator")
        ),
        *({"threshold": 0.3, "spike_grad": getattr(surrogate, name)()} for name in ("SFS", "triangular")),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_options_of_leaky_neurons(options):
    model = small(**options)
    net = lava_meta.from_snntorch(model, input_shape=(16,))
    assert min(net.parity.spikes.values()) > 0.999
    assert sum(net.parity.mismatches.values()) == 0 or net.parity.ties
    x = np.random.default_rng(3).integers(0, 2, (200, 16))
    assert 0.02 < net.graph.spikes(x, 6)["1"].mean() < 0.98


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"inhibition": True}, "inhibition or state_quant"),
        ({"state_quant": lambda mem: mem.round()}, "inhibition or state_quant"),
        ({"graded_spikes_factor": torch.tensor([1.0, 0.0])}, "a graded_spikes_factor that is 0"),
        ({"graded_spikes_factor": torch.ones(5)}, r"graded_spikes_factor must be one number, or .* \(12,\) neurons"),
        ({"spike_grad": torch.sigmoid}, "a spike_grad whose forward pass is not the step at 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
@pytest.mark.filterwarnings("ignore:Inhibition")
def test_options_without_a_form_are_refused_by_place(options, reason):
    with pytest.raises(ConversionError, match=rf"1 \(Leaky\).* {reason}"):
        lava_meta.from_snntorch(small(**options), input_shape=(16,))


class Measured(models.Dense):
    """Beside its spikes, how many there were in the batch; and pooling along the features of (n, features)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc2 = nn.Linear(20, 10)

    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes, count = [], 0.0
        for frame in x:
            spk1, mem1 = self.lif1(self.fc1(frame), mem1)
            count += spk1.sum()
            spk2, mem2 = self.lif2(self.fc2(nn.functional.max_pool1d(spk1, 2)), mem2)
            count += spk2.sum()
            spikes.append(spk2)
        return torch.stack(spikes), count / x.shape[1]


def test_measures_of_the_batch_are_no_layer_and_features_are_pooled():
    model = louder(Measured)
    net = lava_meta.from_snntorch(model)
    assert net.readout == "rate"
    trains = np.random.default_rng(4).integers(0, 2, (6, 15, 64))
    with torch.no_grad():
        theirs = model(torch.from_numpy(trains).float())[0].numpy()
    assert 0.02 < theirs.mean() < 0.98
    assert (net.graph.spikes(trains)["lif2"] == theirs).mean() > 0.999
