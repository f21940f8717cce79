"""Connections across time steps that people write by hand: recurrent layers, feedback, delays, differences."""

import numpy as np
import pytest
import spiking_models as models
import torch
from torch import nn

import lava_meta
from lava_meta.errors import ConversionError
from lava_meta.graph.spiking_delays import Delayed
from lava_meta.graph.spiking_graph import SteppedGraph


class Begun(models.Recurrent):
    """Nothing comes back in the first step, not even the bias."""

    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spk1, spikes = None, []
        for _ in range(12):
            current = self.fc1(x) if spk1 is None else self.fc1(x) + self.back(spk1)
            spk1, mem1 = self.lif1(current, mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
        return torch.stack(spikes)


class Differences(models.Dense):
    """Frames (steps, n, ...), each less the one before; the second layer is one step behind the first."""

    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        last, spk1, spikes = torch.zeros_like(x[0]), torch.zeros(x.shape[1], 40), []
        for frame in x:
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spk1, mem1 = self.lif1(self.fc1(frame - last), mem1)
            last = frame
            spikes.append(spk2)
        return torch.stack(spikes)


FORMS = {
    "a recurrent layer": models.Recurrent,
    "its inputs joined": lambda: models.Recurrent(joined=True),
    "feedback of a later layer": lambda: models.Recurrent(source=2, delay=2),
    "nothing in the first step": lambda: Begun(bias=False),
}


def made(build):
    torch.manual_seed(0)
    model = models.louder(build(), 3.0)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            models.few_bits(module, np.random.default_rng(0))
    return model


@pytest.mark.parametrize("name", FORMS)
def test_spikes_of_earlier_steps_go_on_to_later_ones(name, tmp_path):
    model = made(FORMS[name])
    net = lava_meta.from_snntorch(model, input_shape=(64,))
    assert net.parity.exact
    x = np.random.default_rng(6).integers(0, 2, (30, 64))
    with torch.no_grad():
        theirs = model(torch.from_numpy(x).float()).numpy()
    assert 0.02 < theirs.mean() < 0.98
    assert np.array_equal(net.graph.spikes(x, 12)["lif2"], theirs)
    assert np.array_equal(np.stack([spikes["lif2"] for spikes in net.stream([x] * 12)]), theirs)
    net.save(tmp_path / "net.safetensors")
    again = lava_meta.load(tmp_path / "net.safetensors")
    assert np.array_equal(again.graph.spikes(x, 12)["lif2"], theirs)


def test_frames_of_earlier_steps_too():
    model = made(Differences)
    net = lava_meta.from_snntorch(model, input_shape=(64,))
    x = np.random.default_rng(7).integers(0, 2, (12, 20, 64))
    with torch.no_grad():
        theirs = model(torch.from_numpy(x).float()).numpy()
    assert 0.02 < theirs.mean() < 0.98
    assert np.array_equal(net.graph.spikes(x)["lif2"], theirs)


def test_what_no_silence_before_the_first_step_explains_is_refused():
    with pytest.raises(ConversionError, match=r"silence before the first step, what lif1 \(Leaky\) gets in step 1"):
        lava_meta.from_snntorch(made(Begun), input_shape=(64,))
    with pytest.raises(ConversionError, match=r"lif1 \(Leaky\) takes in step 8 of 12 .* over half of a run"):
        lava_meta.from_snntorch(made(lambda: models.Recurrent(delay=7)), input_shape=(64,))


def test_stock_forms_and_nir_name_the_delay():
    model = made(models.Recurrent)
    with pytest.raises(ConversionError, match=r"lif1\.1 step before connects time steps"):
        lava_meta.from_snntorch(model, input_shape=(64,), form="stock", bits=8)
    net = lava_meta.from_snntorch(model, input_shape=(64,))
    with pytest.raises(ConversionError, match=r"lif1\.1 step before \(delayed\) has no node in NIR"):
        lava_meta.to_nir(net, time_step=1e-4)


@pytest.mark.parametrize(
    ("delay", "reason"),
    [
        (Delayed(("lif1",), 1, (7,)), "delays lif1"),
        (Delayed(("fc2.linear",), 1, (10,)), "delays fc2.linear"),
        (Delayed(("nobody",), 1, (40,)), "delays nobody"),
    ],
)
def test_delays_that_do_not_fit_are_refused(delay, reason):
    graph = lava_meta.from_snntorch(made(models.Recurrent), input_shape=(64,)).graph
    with pytest.raises(ValueError, match=reason):
        SteppedGraph({**graph.nodes, "late": delay}, "lif2", 1, (64,))
    with pytest.raises(ValueError, match="0 time steps"):
        Delayed(("lif1",), 0, (40,))
