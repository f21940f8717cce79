"""Networks in the layouts of tutorials convert as they are, and their own spikes come out."""

from __future__ import annotations

import numpy as np
import pytest
import snntorch as snn
import spiking_models as models
import torch
from snntorch import functional, spikegen
from torch import nn

import lava_meta
from lava_meta.converters.lava import LavaNetwork
from lava_meta.converters.snntorch import agreement
from lava_meta.converters.spiking.check import observe
from lava_meta.converters.spiking.reading import read_spiking
from lava_meta.errors import ConversionError, FormatError

MNIST = {"mean": 0, "std": 1}  # ToTensor alone
# By name: the model, what converting it needs, what its forward is, and its layers.
LAYOUTS = {
    "dense": (models.Dense, MNIST, "held", ["lif1", "lif2"]),
    "trains": (models.Trains, {}, "first", ["lif1", "lif2"]),
    "batch first": (models.BatchFirst, {}, "second", ["lif1", "lif2"]),
    "one step": (models.OneStep, MNIST, "step", ["lif1", "lif2"]),
    "membrane": (models.Membrane, MNIST, "held", ["lif1", "lif2"]),
    "parts": (models.Parts, MNIST, "held", ["encoder.1", "decoder.1"]),
    "layer by layer": (models.LayerByLayer, MNIST, "held", ["lif1", "lif2"]),
    "readout": (models.Readout, MNIST, "held", ["lif1", "output"]),
    "convolutional": (models.Convolutional, MNIST, "held", ["lif1", "lif2", "lif3"]),
    "branches": (models.Branches, MNIST, "held", ["lif1", "lif2", "lif3"]),
    "binarized": (models.Binarized, MNIST, "held", ["lif1", "lif2"]),
    "sequential": (models.sequential, MNIST, "step", ["2", "4"]),
    "convolutional sequential": (models.conv_sequential, {}, "step", ["1", "5", "8"]),
}


def made(name: str) -> tuple[nn.Module, dict]:
    torch.manual_seed(0)
    build, options, _, _ = LAYOUTS[name]
    model = models.louder(build())
    return model, options | ({"input_shape": (1, 8, 8)} if "conv" in name else {})


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_tutorials(name):
    model, options = made(name)
    read = read_spiking(model, **options)
    assert (read.time, list(read.graph.neurons)) == LAYOUTS[name][2:]
    net = lava_meta.from_snntorch(model, **options)
    assert set(net.parity.spikes) == {layer for layer in LAYOUTS[name][3] if layer != "output"}
    assert min(net.parity.spikes.values()) > 0.999
    assert sum(net.parity.mismatches.values()) == 0 or net.parity.ties
    x = np.random.default_rng(1).integers(0, net.graph.max_level + 1, (20, 64))
    frames = net.graph.frames(x, models.STEPS)
    theirs, ours = observe(read, frames), net.graph.spikes(frames)
    for layer, spikes in theirs.spikes.items():
        assert 0.02 < spikes.mean() < 0.98 or name == "membrane"
        assert (ours[layer] == spikes).mean() > 0.999


def test_the_models_own_answer_is_the_networks():
    """What the user's forward returns, called by the user: spikes, potentials, sums."""
    x = np.random.default_rng(2).integers(0, 256, (30, 64))
    given = torch.from_numpy(x).float() / 255
    model, options = made("dense")
    net = lava_meta.from_snntorch(model, **options)
    with torch.no_grad():
        spikes, potentials = model(given)
    ours, traces = net.graph.traces(x, models.STEPS, potentials=["lif2"])
    assert np.array_equal(ours["lif2"], spikes.numpy())
    np.testing.assert_allclose(traces["lif2"], potentials.numpy(), atol=1e-5)
    model, options = made("readout")
    net = lava_meta.from_snntorch(model, **options)
    assert net.readout == "last"
    with torch.no_grad():
        mean = model(given)
    _, traces = net.graph.traces(x, models.STEPS, potentials=["output"])
    np.testing.assert_allclose(traces["output"][-1] / models.STEPS, mean.numpy(), atol=1e-5)
    assert lava_meta.from_snntorch(made("membrane")[0], **MNIST).readout == "membrane"


@pytest.mark.lava
@pytest.mark.parametrize("name", ["dense", "convolutional", "readout"])
def test_lava_gives_the_references_spikes_and_potentials(name):
    model, options = made(name)
    net = lava_meta.from_snntorch(model, **options)
    x = np.random.default_rng(3).integers(0, 256, (50, *net.graph.input_shape), dtype=np.uint8)
    wanted = net.graph.traces(x, 9, potentials=net.graph.neurons)
    spikes, potentials = net.spikes(x, 9, lanes=32), net.potentials(x, 9, lanes=32)
    for layer in net.graph.neurons:
        assert np.array_equal(spikes[layer], wanted[0][layer])
        assert np.array_equal(potentials[layer], wanted[1][layer])
    if name == "dense":
        counts = wanted[0]["lif2"].sum(axis=0, dtype=np.int64)
        assert np.array_equal(net.predict(x, 9), counts.argmax(axis=1))
        assert np.array_equal(net.predict(x, 9, readout="membrane"), wanted[1]["lif2"].max(axis=0).argmax(axis=1))
        assert np.array_equal(net.predict(x, 9, readout="last"), wanted[1]["lif2"][-1].argmax(axis=1))


@pytest.mark.lava
def test_population_codes_vote_as_snntorchs_loss_counts_them():
    torch.manual_seed(1)
    model = models.louder(models.Dense(outputs=50))
    net = lava_meta.from_snntorch(model, **MNIST)
    x = np.random.default_rng(4).integers(0, 256, (200, 64))
    classes = net.predict(x, models.STEPS, population=10)
    with torch.no_grad():
        spikes, _ = model(torch.from_numpy(x).float() / 255)
    share = functional.accuracy_rate(spikes, torch.from_numpy(classes), population_code=True, num_classes=10)
    assert share == 1.0
    assert len(np.unique(classes)) > 3
    with pytest.raises(ValueError, match="50 neurons do not part into 7"):
        net.predict(x, models.STEPS, population=7)


@pytest.mark.lava
def test_inputs_as_people_have_them():
    """Spikes of spikegen, float zeros and ones; bits; images with their axes; time in front or behind the batch."""
    model, options = made("trains")
    net = lava_meta.from_snntorch(model, **options)
    torch.manual_seed(2)
    trains = spikegen.rate(torch.rand(12, 1, 8, 8), num_steps=6)
    assert trains.is_floating_point()
    with torch.no_grad():
        theirs = model(trains)[0].numpy()
    assert theirs.any()
    for given, first in (
        (trains, True),
        (trains.bool(), True),
        (trains.numpy().astype(np.int16), True),
        (trains.transpose(0, 1), False),
        (trains.reshape(6, 12, 64), True),
    ):
        assert np.array_equal(net.spikes(given, layers=["lif2"], time_first=first)["lif2"], theirs)
    with pytest.raises(ValueError, match=r"shape \(6, 12, 1, 8, 8\): pass steps= .* time_first=True"):
        net.spikes(trains)
    with pytest.raises(TypeError, match="no whole numbers"):
        net.spikes(torch.rand(12, 64), 3)


@pytest.mark.lava
def test_floats_as_the_model_is_fed_them(tmp_path):
    """What ToTensor and Normalize give, held and in frames, from arrays and a DataLoader; of a saved network too."""
    torch.manual_seed(3)
    model, options = made("dense")
    net = lava_meta.from_snntorch(model, **(options | {"mean": 0.1307, "std": 0.3081, "max_level": 255}))
    levels = np.random.default_rng(7).integers(0, 256, (5, 64)).astype(np.uint8)
    wanted = net.counts(levels, 4)
    assert wanted.any()
    scaled = (torch.from_numpy(levels).float() / 255 - 0.1307) / 0.3081
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(scaled, torch.zeros(5)), batch_size=2)
    net.save(tmp_path / "net.safetensors")
    again = lava_meta.load(tmp_path / "net.safetensors")
    for given in (scaled, scaled.double().numpy(), loader, torch.from_numpy(levels).float() / 255):
        assert np.array_equal(again.counts(given, 4), wanted)
    frames = torch.stack([scaled] * 4)
    assert np.array_equal(net.counts(frames, time_first=True), wanted)
    with pytest.raises(TypeError, match="floats that"):
        net.counts(torch.rand(5, 64), 4)


def test_weights_are_rounded_on_request_and_the_agreement_is_measured():
    model, options = made("dense")
    with pytest.raises(ConversionError, match=r"fc1.linear has weights of \d+ bits; .* pass bits=8"):
        lava_meta.from_snntorch(model, form="fixed_pt", **options)
    x = np.random.default_rng(5).integers(0, 256, (100, 64))
    shares = []
    for bits in (8, 4, 2):
        net = lava_meta.from_snntorch(model, bits=bits, form="fixed_pt", **options)
        weights = [node.weight.values for node in net.graph.nodes.values() if node.kind == "linear"]
        assert all(np.abs(values).max() < 2 ** (bits - 1) for values in weights)
        found = agreement(model, net, x, models.STEPS, **options)
        assert found.images == 100
        assert found.fixed_classes is not None
        shares.append(found.spikes["lif1"])
    assert shares[0] > 0.98
    assert shares[0] > shares[1] > shares[2]
    for bits in (0, 9, True, 3.0):
        with pytest.raises(ValueError, match="2 to 8 bits"):
            lava_meta.from_snntorch(model, bits=bits, **options)


class Feedback(models.Dense):
    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), torch.zeros(len(x), 10)
        for _ in range(3):
            spk1, mem1 = self.lif1(self.fc1(x) + mem2.repeat(1, 4), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
        return spk2


class Restarted(models.Dense):
    def forward(self, x):
        mem2 = self.lif2.init_leaky()
        for _ in range(3):
            spk1, _ = self.lif1(self.fc1(x), self.lif1.init_leaky())
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
        return spk2


class Scaled(models.Dense):
    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        for _ in range(3):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2 * 0.5)
        return spk2


class Potentials(models.Dense):
    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        for _ in range(3):
            _, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(mem1), mem2)
        return spk2


class Changing(models.Dense):
    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        for step in range(3):
            spk1, mem1 = self.lif1(self.fc1(x) * (step + 1), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
        return spk2


class Uneven(models.Dense):
    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        for _ in range(3):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
        return self.lif2(self.fc2(spk1), mem2)


class Encoded(models.Dense):
    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        for frame in spikegen.rate(x, num_steps=3):
            spk1, mem1 = self.lif1(self.fc1(frame), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
        return spk2


class Awake(models.Dense):
    def forward(self, x):
        mem1, mem2 = torch.ones(len(x), 40), self.lif2.init_leaky()
        for _ in range(3):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
        return spk2


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (Feedback, "test_layouts.py:.* computes with a potential"),
        (Restarted, r"lif1 \(Leaky\) is set to rest in step 2"),
        (Scaled, r"lif2 \(Leaky\) takes another mem in step 2 than it gave in step 1"),
        (Potentials, "test_layouts.py:.* computes with a potential"),
        (Changing, r"what lif1 \(Leaky\) gets in step 2 is computed otherwise than in step 1"),
        (Uneven, r"lif2 \(Leaky\) is called 1 times in a run, other neurons 3 times"),
        (Encoded, "draws random numbers"),
        (Awake, r"lif1 \(Leaky\) begins with a mem that is not 0"),
    ],
)
def test_what_no_network_of_time_steps_is_is_refused_by_place_and_name(build, reason):
    with pytest.raises(ConversionError, match=reason):
        lava_meta.from_snntorch(build().eval(), **MNIST)


class OneShot(models.Dense):
    def forward(self, x):
        spk1, _ = self.lif1(self.fc1(x), self.lif1.init_leaky())
        return self.lif2(self.fc2(spk1), self.lif2.init_leaky())


def test_a_forward_of_one_step_that_begins_at_rest_is_all_of_its_time():
    read = read_spiking(OneShot().eval(), **MNIST)
    assert (read.time, read.steps, read.fixed) == ("held", 1, True)


def test_statistics_and_times_that_do_not_fit_are_refused():
    model = models.Convolutional()
    model.bn.reset_running_stats()
    with pytest.raises(ConversionError, match=r"bn \(BatchNorm2d\) has no running statistics yet"):
        lava_meta.from_snntorch(model.eval(), input_shape=(1, 8, 8), **MNIST)
    with pytest.raises(ValueError, match="time is 'last'"):
        lava_meta.from_snntorch(models.Dense().eval(), time="last", **MNIST)
    with pytest.raises(ConversionError, match=r"in none of the known forms. given frames \(steps, n, ...\)"):
        lava_meta.from_snntorch(models.Dense().eval(), time="first", **MNIST)
    with pytest.raises(ConversionError, match="pass input_shape="):
        lava_meta.from_snntorch(models.conv_sequential().eval())
    with pytest.raises(ConversionError, match="RSynaptic does not apply"):
        lava_meta.from_snntorch(
            nn.Sequential(nn.Linear(4, 3), snn.RSynaptic(0.9, 0.8, linear_features=3, reset_delay=False)).eval()
        )


@pytest.mark.parametrize("name", ["dense", "convolutional", "readout"])
def test_files_hold_the_network_its_parity_and_its_readout(name, tmp_path):
    model, options = made(name)
    net = lava_meta.from_snntorch(model, bits=8, **options)
    net.save(tmp_path / "net.safetensors")
    again = lava_meta.load(tmp_path / "net.safetensors")
    assert (again.parity, again.readout, repr(again)) == (net.parity, net.readout, repr(net))
    x = np.random.default_rng(6).integers(0, 256, (9, 64))
    for form in ("floating_pt", "fixed_pt"):
        wanted, found = (each.graph.traces(x, 5, form, potentials=each.graph.neurons) for each in (net, again))
        assert all(np.array_equal(found[i][key], wanted[i][key]) for i in (0, 1) for key in wanted[i])
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "net.safetensors").read_bytes()
    with pytest.raises(FormatError, match=r"spiking neurons; expected a converted network\. "):
        LavaNetwork.load(tmp_path / "net.safetensors")


def test_every_neuron_and_recurrence_is_kept_in_a_file(tmp_path):
    rng = np.random.default_rng(7)
    for kind in models.KINDS:
        for _ in range(3):
            model, shape = models.random_network(rng, kind)
            net = lava_meta.from_snntorch(model, input_shape=shape)
            net.save(tmp_path / "net.safetensors")
            again = lava_meta.load(tmp_path / "net.safetensors")
            x = rng.integers(0, 2, (4, int(np.prod(shape))))
            wanted, found = net.graph.spikes(x, 8), again.graph.spikes(x, 8)
            assert list(found) == list(wanted)
            assert all(np.array_equal(found[layer], wanted[layer]) for layer in wanted)


def test_damaged_files_are_refused(tmp_path):
    model, options = made("dense")
    net = lava_meta.from_snntorch(model, **options)
    net.save(tmp_path / "net.safetensors")
    content = bytearray((tmp_path / "net.safetensors").read_bytes())
    content[-7] ^= 1
    (tmp_path / "net.safetensors").write_bytes(content)
    with pytest.raises(FormatError, match=r"net\.safetensors"):
        lava_meta.load(tmp_path / "net.safetensors")
