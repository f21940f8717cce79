"""The folder of a spiking network runs by itself, and its script finds a spike that differs."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from bundles import run, seal

pytest.importorskip("lava.magma")

import snntorch as snn
import torch
from torch import nn

import lava_meta
from lava_meta.converters.spiking.network import SpikingNetwork
from lava_meta.errors import ConversionError, RunFolderError
from lava_meta.nn import BinaryLinear

pytestmark = [pytest.mark.lava, pytest.mark.timeout(120)]

AT_ONCE = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}


def leaky() -> nn.Sequential:
    """With pooling, so that layers name their senders."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 3),
        snn.Leaky(beta=0.9, **AT_ONCE),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 4),
        snn.Leaky(beta=0.8, output=True, **AT_ONCE),
    )


def recurrent() -> nn.Sequential:
    options = {**AT_ONCE, "threshold": 0.5}
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(36, 9),
        snn.RLeaky(beta=0.9, linear_features=9, **options),
        nn.Linear(9, 4),
        snn.Leaky(beta=0.8, output=True, **options),
    )


def synaptic() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 4), snn.Synaptic(alpha=0.6, beta=0.8, output=True, **AT_ONCE))


def chain() -> nn.Sequential:
    options = {**AT_ONCE, "beta": 0.9}
    return nn.Sequential(
        nn.Flatten(),
        BinaryLinear(36, 9),
        snn.Leaky(threshold=2.0, **options),
        BinaryLinear(9, 4),
        snn.Leaky(threshold=1.0, output=True, **options),
    )


def network(build) -> SpikingNetwork:
    torch.manual_seed(2)
    model = build().eval()
    with torch.no_grad():
        for module in model:
            if isinstance(module, (nn.Linear, nn.Conv2d)) and not isinstance(module, BinaryLinear):
                module.weight.mul_(2)
    bits = None if build is chain else 8
    return lava_meta.from_snntorch(model, bits=bits, form="stock", input_shape=(1, 6, 6))


TRAINS = np.random.default_rng(3).integers(0, 2, (13, 5, 1, 6, 6)).astype(np.uint8)


SLOW = [pytest.param(build, marks=pytest.mark.slow) for build in (leaky, synaptic)]


@pytest.mark.parametrize("build", [recurrent, chain, *SLOW])
def test_the_script_gives_the_expected_spikes_without_this_package(build, tmp_path):
    net = network(build)
    labels = np.arange(13) % 4
    folder = lava_meta.bundle(net, tmp_path / "net", images=TRAINS, time_first=False, labels=labels)
    with np.load(folder / "acceptance.npz") as file:
        expected = dict(file)
    output = net.graph.named_layers()[-1][0]
    wanted = net.graph.spikes(TRAINS[:10].swapaxes(0, 1), form="fixed_pt")[output].swapaxes(0, 1)
    np.testing.assert_array_equal(expected["spikes"], wanted)
    assert 0.02 < wanted.mean() < 0.98
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [
        "10 images of 5 steps in loihi-sim: 0 of 200 spikes and silences differ",
        "0 classes (by rate) differ",
    ]
    assert "accuracy" in done.stdout
    again = lava_meta.load(folder / "network.safetensors")
    found = again.graph.spikes(TRAINS[:10].swapaxes(0, 1), form="fixed_pt")[output]
    np.testing.assert_array_equal(found, wanted.swapaxes(0, 1))


def test_random_trains_and_a_spike_that_differs(tmp_path):
    folder = lava_meta.bundle(network(synaptic), tmp_path / "net", steps=6)
    assert "10 random trains\nof 6 time steps" in (folder / "README.md").read_text()
    with np.load(folder / "acceptance.npz") as file:
        arrays = dict(file)
    arrays["spikes"][1, 2, 3] ^= 1
    np.savez_compressed(folder / "acceptance.npz", **arrays)
    seal(folder, "acceptance.npz")
    done = run(folder, "--images", "2")
    assert done.returncode == 3
    assert "2 images of 6 steps in loihi-sim: 1 of 48 spikes and silences differ" in done.stdout


def test_what_does_not_fit_is_refused_and_leaves_nothing(tmp_path):
    late = lava_meta.from_snntorch(nn.Sequential(nn.Linear(6, 3), snn.Leaky(beta=0.9, init_hidden=True)).eval(), bits=8)
    with pytest.raises(ConversionError, match="1 resets by 'subtract'"):
        lava_meta.bundle(late, tmp_path / "late")
    assert not (tmp_path / "late").exists()
    net = network(synaptic)
    with pytest.raises(ValueError, match="has no rule"):
        lava_meta.bundle(net, tmp_path / "net", rule=lava_meta.rule.Constant())
    with pytest.raises(ValueError, match="pass steps= to hold images"):
        lava_meta.bundle(net, tmp_path / "net", images=TRAINS[:, 0])
    with pytest.raises(ValueError, match="labels are"):
        lava_meta.bundle(net, tmp_path / "net", images=TRAINS, time_first=False, labels=[1, 2])
    lava_meta.bundle(net, tmp_path / "net", steps=2)
    with pytest.raises(RunFolderError, match="holds a bundle"):
        lava_meta.bundle(net, tmp_path / "net", steps=2)
    shutil.rmtree(tmp_path / "net")
