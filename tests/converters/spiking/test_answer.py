"""The classes that a spiking model itself gives are those that its network gives by default, or it asks for them."""

import numpy as np
import pytest
import snntorch as snn
import spiking_models as models
import torch
from torch import nn

import lava_meta
from lava_meta.converters.spiking.network import POTENTIALS, READOUTS

ANSWERS = {
    "sum of spikes": (lambda spikes, mem: spikes.sum(0), "rate"),
    "log of mean spikes": (lambda spikes, mem: torch.log_softmax(spikes.mean(0), 1), "rate"),
    "mean potential": (lambda spikes, mem: mem.mean(0), "mean"),
    "last potential": (lambda spikes, mem: mem[-1], "last"),
    "greatest potential": (lambda spikes, mem: mem.max(0)[0], "membrane"),
    "spikes of the last step": (lambda spikes, mem: spikes[-1], None),
    "some steps": (lambda spikes, mem: spikes[3:].sum(0), None),
    "probabilities": (lambda spikes, mem: torch.softmax(mem, -1).sum(0), None),
    "both": (lambda spikes, mem: spikes.sum(0) + mem.mean(0), None),
}


class Answering(models.Dense):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return self.answer(*super().forward(x))


class Heads(models.Dense):
    """Classes, and a value beside them that is computed last."""

    def __init__(self):
        super().__init__()
        self.fc3, self.lif3 = nn.Linear(40, 2), snn.Leaky(beta=0.5)

    def forward(self, x):
        mem1, mem2, mem3 = self.lif1.init_leaky(), self.lif2.init_leaky(), self.lif3.init_leaky()
        spikes, values = torch.zeros(len(x), 10), []
        for _ in range(models.STEPS):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spk3, mem3 = self.lif3(self.fc3(spk1), mem3)
            spikes += spk2
            values.append(spk3)
        return spikes, torch.stack(values)


def agrees(model, readout):
    model = models.louder(model).eval()
    net = lava_meta.from_snntorch(model, input_shape=(64,))
    assert net.readout == readout
    if readout is None:
        with pytest.raises(ValueError, match="pass readout="):
            net.predict(np.zeros((2, 64), int), steps=models.STEPS)
        return
    x = np.random.default_rng(5).integers(0, 2, (40, 64))
    with torch.no_grad():
        theirs = model(torch.from_numpy(x).float())
    theirs = (theirs[0] if isinstance(theirs, tuple) else theirs).argmax(1).numpy()
    spikes, potentials = net.graph.traces(x, models.STEPS, layers=[net.graph.output], potentials=[net.graph.output])
    read = {**READOUTS, **POTENTIALS}[readout]
    ours = read((spikes if readout in READOUTS else potentials)[net.graph.output])
    assert len({*theirs}) > 1
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("name", ANSWERS)
def test_classes_are_read_as_the_model_reads_them_or_asked_for(name):
    torch.manual_seed(0)
    answer, readout = ANSWERS[name]
    agrees(Answering(answer), readout)


def test_of_several_heads_the_first_that_is_returned_is_read():
    torch.manual_seed(0)
    agrees(Heads(), "rate")
