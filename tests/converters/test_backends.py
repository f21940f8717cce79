"""Where a network runs: which Processes and configuration are chosen, and what is refused before a start."""

from __future__ import annotations

import importlib.machinery
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from children import actors

pytest.importorskip("lava.magma")

from lava.magma.core import run_configs
from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.run_configs import Loihi2HwCfg, Loihi2SimCfg
from lava.proc.io.sink import RingBuffer as Recorder
from lava.proc.io.source import RingBuffer as Player

sys.path.insert(0, str(Path(__file__).parent / "chip"))
import chip_adapters

import lava_meta
from lava_meta.converters.lava import LavaNetwork
from lava_meta.converters.spiking.network import SpikingNetwork
from lava_meta.errors import ConversionError, LavaMissingError
from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.graph.bits import pack
from lava_meta.graph.spiking import LIFLayer, SpikingGraph
from lava_meta.processes.binary_dense.process import BinaryDense, BinaryReadout
from lava_meta.processes.binary_network.process import BinaryNetwork
from lava_meta.processes.runtime import Supervised

pytestmark = [pytest.mark.lava, pytest.mark.timeout(120)]


@pytest.fixture(autouse=True)
def _nothing_runs_afterwards():
    yield
    assert actors() == []


@pytest.fixture(scope="module")
def net() -> LavaNetwork:
    rng = np.random.default_rng(3)
    hidden = DenseLayer.from_weights(rng.normal(size=(12, 20)), rng.integers(-900, 900, 12), rng.choice([-1, 1], 12))
    readout = Readout.from_weights(rng.normal(size=(4, 12)), np.array([1, 0.5, -1, 2]), np.arange(4.0))
    return LavaNetwork(BinaryGraph((hidden,), readout, 255, (20,)))


@pytest.fixture(scope="module")
def too_wide() -> LavaNetwork:
    hidden = DenseLayer.from_weights(np.ones((1, 17_000)), np.zeros(1))
    return LavaNetwork(BinaryGraph((hidden,), Readout.from_weights(np.ones((2, 1))), 255, (17_000,)))


def images(n: int) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (n, 20), dtype=np.uint8)


@pytest.mark.parametrize("backend", ["cpu", "loihi-sim"])
def test_classes_are_equal_on_every_backend(net, backend):
    assert np.array_equal(lava_meta.run(net, images(15), backend=backend), net.graph.predict(images(15)))


def test_every_layer_of_sets_that_follow_one_another_in_a_pipeline(net):
    """Layers answer after one, three and four steps; signs enter as spikes."""
    rng = np.random.default_rng(6)
    centred = DenseLayer.from_weights(rng.normal(size=(6, 12)), np.zeros(6), centred=True)
    readout = Readout.from_weights(rng.normal(size=(3, 6)))
    first = DenseLayer.from_weights(rng.normal(size=(12, 20)), rng.integers(-3, 4, 12))
    graph = BinaryGraph((first, centred), readout, 1, (20,), min_level=-1, signs=True)
    stock = LavaNetwork(graph, form="stock")
    with stock:
        for n in (1, 3, 2):
            signs = rng.choice([-1, 1], (n, 20))
            found, expected = stock.activations(signs), graph.activations(signs)
            assert list(found) == list(expected)
            for name in expected:
                assert found[name].dtype == expected[name].dtype
                assert np.array_equal(found[name], expected[name]), name


def test_run_configs_are_lavas_own(net):
    cpu, simulated = net.run_config("cpu"), net.run_config("loihi-sim")
    assert type(cpu) is type(simulated) is Loihi2SimCfg
    assert (cpu.select_tag, cpu.select_sub_proc_model) == ("fixed_pt", False)
    assert (simulated.select_tag, simulated.select_sub_proc_model) == ("fixed_pt", True)


def test_the_process_runs_as_stock_processes(net):
    """Wired by hand, as a user does it; every Process that has a model of its own is Lava's."""
    pixels = images(6)
    player, network = Player(data=film_of(pixels, 2)), net.process()
    recorder, hidden = Recorder(shape=network.out.shape, buffer=8), Recorder(shape=network.hidden1.shape, buffer=8)
    player.s_out.connect(network.s_in)
    network.out.connect(recorder.a_in)
    network.hidden1.connect(hidden.a_in)
    with Supervised(network, net.run_config("loihi-sim")) as run:
        run.steps(8)
        sums, spikes = recorder.data.get()[0].T, hidden.data.get()[0].T
        kinds = {type(process).__module__ for process in network.runtime._executable.proc_builders}
    assert all(kind.startswith("lava.proc.") for kind in kinds)
    assert np.array_equal(sums[2:], net.graph.sums(pixels))
    assert np.array_equal(np.where(spikes[1:7] > 0, 1, -1), net.graph.activations(pixels)["hidden1"])


def film_of(pixels: np.ndarray, late: int) -> np.ndarray:
    """Images (n, pixels) as Lava's source takes them, the last one again while its answer is on its way."""
    return np.concatenate([pixels, *[pixels[-1:]] * late]).astype(int).T[None]


def run_part(part: AbstractProcess, out: OutPort, pixels: np.ndarray, late: int) -> np.ndarray:
    """What a Process in its stock form sends for pixels (n, n_in), (n, n_out)."""
    steps = len(pixels) + late
    player, recorder = Player(data=film_of(pixels, late)), Recorder(shape=out.shape, buffer=steps)
    player.s_out.connect(part.s_in)
    out.connect(recorder.a_in)
    with Supervised(part, Loihi2SimCfg(select_tag="fixed_pt", select_sub_proc_model=True)) as run:
        run.steps(steps)
        return recorder.data.get()[0].T[late:]


@pytest.mark.parametrize(("output", "late"), [("readout", 2), ("hidden1", 1)])
def test_the_packed_process_has_a_stock_form_too(net, output, late):
    network = BinaryNetwork(graph=net.graph, output=output)
    found = run_part(network, network.out, images(4), late)
    expected = net.graph.activations(images(4))[output]
    assert np.array_equal(found if output == "readout" else np.where(found > 0, 1, -1), expected)


def test_layers_have_stock_forms_of_their_own(net):
    """Spikes 0 and 1 in, the readout's sums out; and for the first layer pixels in."""
    spikes = np.random.default_rng(5).integers(0, 2, (5, 12))
    readout = BinaryReadout(layer=net.graph.readout)
    assert np.array_equal(run_part(readout, readout.s_out, spikes, 1), net.graph.readout.sums(2 * spikes - 1))
    hidden = BinaryDense(layer=net.graph.layers[0], max_level=255)
    found = run_part(hidden, hidden.s_out, images(5), 1)
    assert np.array_equal(np.where(found > 0, 1, -1), net.graph.activations(images(5))["hidden1"])


# Refused before anything starts.


def test_unknown_backends(net):
    for call in (lambda: lava_meta.run(net, images(1), backend="gpu"), lambda: net.run_config("gpu")):
        with pytest.raises(ValueError, match=r"backend is 'gpu'; choose one of cpu, kernels, loihi-sim, loihi"):
            call()


def test_other_kinds_of_networks(net):
    layer = LIFLayer(pack(np.ones((2, 3), bool)), 3, np.ones(2, np.float32), np.ones(2, np.float32))
    for other, reason in (
        (net.graph, "not a BinaryGraph"),
        (SpikingNetwork(SpikingGraph((layer,), 1, 0, (3,))), r"not a SpikingNetwork; .* form='stock'"),
    ):
        with pytest.raises(TypeError, match=reason):
            lava_meta.run(other, images(1))


def test_networks_beyond_loihis_ranges(too_wide):
    dark = np.zeros((1, 17_000), np.uint8)
    for call in (
        lambda: LavaNetwork(too_wide.graph, form="stock"),
        lambda: too_wide.run_config("loihi-sim"),
        lambda: lava_meta.run(too_wide, dark, backend="loihi-sim"),
    ):
        with pytest.raises(ConversionError, match=r"hidden1: the sum of neurons .* Take fewer inputs"):
            call()
    assert np.array_equal(lava_meta.run(too_wide, dark), too_wide.graph.predict(dark))


def test_classes_of_the_packed_process(net):
    network = BinaryNetwork(graph=net.graph, output="classes")
    with pytest.raises(lava_meta.errors.RunError, match="stock Processes find no argmax: take the output 'readout'"):
        Supervised(network, net.run_config("loihi-sim")).__enter__()


def test_several_lanes(net):
    network = net.process(lanes=2)
    with pytest.raises(lava_meta.errors.RunError, match="2 lanes; stock Processes take one image a time step"):
        Supervised(network, net.run_config("loihi-sim")).__enter__()


def test_a_chip_without_intels_extension(net):
    for call in (lambda: lava_meta.run(net, images(1), backend="loihi"), lambda: net.run_config("loihi")):
        with pytest.raises(
            LavaMissingError, match=r"Intel's extension of Lava \(lava-loihi.*'loihi-sim' runs the same"
        ):
            call()


# A stand-in for Intel's extension: modules of its names, and adapters that hand on what they get, on the CPU.


@pytest.fixture
def extension(monkeypatch):
    names = [
        "lava.magma.core.model.nc",
        "lava.magma.core.model.c",
        "lava.proc.embedded_io",
        "lava.proc.embedded_io.spike",
    ]
    for name in names:
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        module.__path__ = []
        monkeypatch.setitem(sys.modules, name, module)
    for adapter in (chip_adapters.PyToNxAdapter, chip_adapters.NxToPyAdapter):
        setattr(sys.modules[names[-1]], adapter.__name__, adapter)
    monkeypatch.setattr(run_configs, "CLoihiProcessModel", type("CLoihiProcessModel", (), {}), raising=False)
    chip_adapters.Relay.made.clear()
    return monkeypatch


@pytest.mark.usefixtures("extension")
def test_with_the_extension_the_hardware_configuration_is_chosen(net, too_wide):
    config = net.run_config("loihi")
    assert type(config) is Loihi2HwCfg
    assert (config.select_tag, config.select_sub_proc_model) == ("fixed_pt", True)
    with pytest.raises(ConversionError, match="hidden1"):
        lava_meta.run(too_wide, np.zeros((1, 17_000), np.uint8), backend="loihi")
    assert chip_adapters.Relay.made == []


def test_a_part_of_the_extension_is_not_enough(net, extension):
    extension.delitem(sys.modules, "lava.proc.embedded_io.spike")
    with pytest.raises(LavaMissingError, match=r"lava\.proc\.embedded_io\.spike is not installed"):
        net.run_config("loihi")


@pytest.mark.usefixtures("extension")
def test_with_the_extension_the_network_runs_between_its_adapters(net):
    """The models found are Lava's for the CPU, since the stand-in has none for a chip; wiring and timing are real."""
    assert np.array_equal(lava_meta.run(net, images(5), backend="loihi"), net.graph.predict(images(5)))
    assert chip_adapters.Relay.made == ["PyToNxAdapter(20,)", "NxToPyAdapter(4,)"]
