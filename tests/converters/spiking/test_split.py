"""Layers that are applied to all time steps at once, and images that are repeated over time."""

import numpy as np
import pytest
import spiking_models as models
import torch
import torch.nn.functional as F
from snntorch import utils
from torch import nn

import lava_meta


class AllAtOnce(models.Dense):
    """Frames (n, steps, ...); each layer on all of them, one after the other."""

    def forward(self, x):
        for fc, lif in ((self.fc1, self.lif1), (self.fc2, self.lif2)):
            currents, mem, spikes = fc(x), lif.init_leaky(), []
            for step in range(x.shape[1]):
                spk, mem = lif(currents[:, step], mem)
                spikes.append(spk)
            x = torch.stack(spikes, dim=1)
        return x


class Folded(models.Convolutional):
    """Frames (steps, n, 1, rows, columns), folded into the images for what has no state."""

    def forward(self, x):
        utils.reset(self)
        maps = F.max_pool2d(F.relu(self.bn(self.conv1(x.flatten(0, 1)))), 2).unflatten(0, x.shape[:2])
        return torch.stack([self.lif1(step) for step in maps])


class Repeated(models.Dense):
    """Images, repeated along a time axis."""

    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes = []
        for frame in x.unsqueeze(0).repeat(models.STEPS, 1, 1):
            spk1, mem1 = self.lif1(self.fc1(frame), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
        return torch.stack(spikes)


@pytest.mark.parametrize("build", [AllAtOnce, Repeated])
def test_what_is_done_to_all_steps_at_once_is_done_to_each(build):
    torch.manual_seed(0)
    model = models.louder(build())
    for module in model.modules():
        if isinstance(module, nn.Linear):
            models.few_bits(module, np.random.default_rng(0))
    net = lava_meta.from_snntorch(model, input_shape=(64,))
    assert net.parity.exact
    held = build is Repeated
    x = np.random.default_rng(1).integers(0, 2, (20, 64) if held else (20, models.STEPS, 64))
    with torch.no_grad():
        theirs = model(torch.from_numpy(x).float()).numpy()
    frames = net.frames(x, models.STEPS) if held else net.frames(x, time_first=False)
    ours = net.graph.spikes(frames)["lif2"]
    assert 0.02 < theirs.mean() < 0.98
    assert np.array_equal(ours, theirs if held else theirs.swapaxes(0, 1))


def test_convolutions_and_norms_of_frames_that_are_folded_into_the_images():
    torch.manual_seed(0)
    model = models.louder(Folded())
    net = lava_meta.from_snntorch(model, input_shape=(1, 8, 8), time="first")
    x = np.random.default_rng(2).integers(0, 2, (6, 10, 1, 8, 8))
    with torch.no_grad():
        theirs = model(torch.from_numpy(x).float()).reshape(6, 10, -1).numpy()
    assert 0.02 < theirs.mean() < 0.98
    assert (net.graph.spikes(x)["lif1"] == theirs).mean() > 0.999
