"""A `LavaNetwork` gives its graph's integers, in every form, for every batching, and ends what it starts."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from children import actors

pytest.importorskip("lava.magma")

import torch

from lava_meta.converters.lava import LavaNetwork
from lava_meta.errors import RunError
from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.processes import streaming

pytestmark = [pytest.mark.lava, pytest.mark.timeout(120)]

SEED = 8


def random_graph(sizes: tuple[int, ...], max_level: int = 255, centred: bool = False) -> BinaryGraph:
    """Random weights and polarities, thresholds about where the sums lie; the readout inverts one class."""
    rng = np.random.default_rng(SEED)
    layers = []
    for i, (a, b) in enumerate(pairwise(sizes[:-1])):
        spread = a**0.5 * (max_level / 2 if i == 0 else 1) * (b if centred else 1)
        threshold = np.round(rng.normal(size=b) * spread / 2).astype(np.int64)
        polarity = rng.choice(np.array([-1, 1], np.int8), b)
        layers.append(DenseLayer.from_weights(rng.random((b, a)) < 0.5, threshold, polarity, centred=centred))
    scale = np.ones(sizes[-1])
    scale[-1] = -0.5
    readout = Readout.from_weights(rng.random((sizes[-1], sizes[-2])) < 0.5, scale, rng.normal(size=sizes[-1]))
    return BinaryGraph(tuple(layers), readout, max_level, (sizes[0],))


def random_images(graph: BinaryGraph, n: int) -> np.ndarray:
    rng = np.random.default_rng(SEED + 1)
    dtype = np.uint8 if graph.max_level < 256 else np.uint16
    return rng.integers(0, graph.max_level, (n, graph.n_in), dtype=dtype, endpoint=True)


@pytest.fixture(scope="module")
def graph() -> BinaryGraph:
    return random_graph((30, 20, 11, 4))


@pytest.fixture(autouse=True)
def _nothing_runs_afterwards():
    yield
    assert actors() == []


@pytest.mark.parametrize("form", ["packed", "floating_pt", "fixed_pt"])
@pytest.mark.parametrize(
    ("sizes", "max_level", "centred"),
    [((64, 64, 64, 10), 16, False), ((67, 33, 65, 3), 255, True), ((5, 1, 2), 1, False), ((9, 8, 3), 65535, False)],
)
def test_every_layer_equals_the_oracle(sizes, max_level, centred, form):
    graph = random_graph(sizes, max_level, centred)
    images = random_images(graph, 50)
    expected = graph.activations(images)
    net = LavaNetwork(graph, form=form)
    with net:
        assert np.array_equal(net.predict(images, lanes=16), graph.predict(images))
        found = net.activations(images, lanes=16)
    assert list(found) == list(expected)
    for name in expected:
        assert found[name].dtype == expected[name].dtype
        assert np.array_equal(found[name], expected[name]), name


@pytest.mark.parametrize("message", [1, 400, 2**18])
def test_lanes_and_sets_follow_one_another_without_a_restart(graph, message, monkeypatch):
    monkeypatch.setattr(streaming, "MESSAGE_BYTES", message)  # one time step a message, some, all
    images = random_images(graph, 40)
    expected = graph.predict(images)
    with LavaNetwork(graph) as net:
        for lanes in (1, 7, 64):
            pids = set()
            for n in (1, 6, 7, 8, 40):  # less than, exactly and more than one batch, several rings full
                assert np.array_equal(net.predict(images[:n], lanes=lanes), expected[:n])
                pids.add(tuple(actors()))
            assert len(pids) == 1


def test_without_a_block_each_call_starts_and_ends_its_own(graph):
    images = random_images(graph, 5)
    net = LavaNetwork(graph)
    assert np.array_equal(net.sums(images), graph.sums(images))
    assert net.sums(images).dtype == np.int64
    assert actors() == []


def test_one_hidden_layer(graph):
    images = random_images(graph, 5)
    found = LavaNetwork(graph).activations(images, layers=["hidden2", "hidden2"])
    assert list(found) == ["hidden2"]
    assert np.array_equal(found["hidden2"], graph.activations(images)["hidden2"])


@pytest.mark.parametrize(
    "kind",
    [
        lambda x: torch.from_numpy(x),
        lambda x: x.astype(np.int64),
        lambda x: np.asfortranarray(x),
        lambda x: x.reshape(-1, 5, 6),
        lambda x: x[::-1][::-1],
    ],
)
def test_images_of_any_integer_kind(graph, kind):
    images = random_images(graph, 9)
    assert np.array_equal(LavaNetwork(graph).predict(kind(images)), graph.predict(images))


@pytest.mark.parametrize(
    ("images", "error"),
    [
        (np.full((2, 30), 0.5), TypeError),
        (torch.full((2, 30), 0.5), TypeError),
        (np.zeros((2, 29), np.uint8), ValueError),
        (np.zeros(30, np.uint8), ValueError),
        (np.zeros((0, 30), np.uint8), ValueError),
        (np.full((2, 30), 256), ValueError),
        (np.full((2, 30), -1), ValueError),
    ],
)
def test_images_that_do_not_fit(graph, images, error):
    with pytest.raises(error):
        LavaNetwork(graph).predict(images)


@pytest.mark.parametrize(("lanes", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_lanes_that_do_not_fit(graph, lanes, error):
    net = LavaNetwork(graph)
    with pytest.raises(error, match="lanes is"):
        net.predict(random_images(graph, 2), lanes=lanes)
    with pytest.raises(error, match="lanes is"):
        net.process(lanes=lanes)


def test_names_that_do_not_exist(graph):
    with pytest.raises(ValueError, match="hidden1, hidden2, readout"):
        LavaNetwork(graph).activations(random_images(graph, 2), layers=["hidden3"])
    with pytest.raises(ValueError, match="packed, floating_pt, fixed_pt"):
        LavaNetwork(graph, form="bits")


def test_a_dead_actor_is_an_error_and_the_next_call_works(graph):
    images = random_images(graph, 5)
    with LavaNetwork(graph) as net:
        net.predict(images)
        os.kill(actors()[0], signal.SIGKILL)
        with pytest.raises(RunError, match="killed by SIGKILL"):
            net.predict(images)
        assert np.array_equal(net.predict(images), graph.predict(images))


def test_an_interrupt_in_the_middle_leaves_nothing_half_done(graph, monkeypatch):
    from lava_meta.processes.ring import Ring

    monkeypatch.setattr(streaming, "MESSAGE_BYTES", 1)
    images = random_images(graph, 40)
    get, calls = Ring.get, []

    def interrupted(ring, check=None):
        if check is not None:
            calls.append(ring)
            if len(calls) == 3:
                raise KeyboardInterrupt
        return get(ring, check)

    monkeypatch.setattr(Ring, "get", interrupted)
    with LavaNetwork(graph) as net:
        with pytest.raises(KeyboardInterrupt):
            net.predict(images, lanes=2)
        assert actors() == []
        assert np.array_equal(net.predict(images, lanes=2), graph.predict(images))


def test_a_progress_bar_counts_images(graph, capsys):
    LavaNetwork(graph).predict(random_images(graph, 50), lanes=8, progress=True)
    assert "images: 50 of 50 images" in capsys.readouterr().err


@pytest.mark.parametrize("lanes", [1, 3, 64])
def test_a_stream_gives_all_outputs_in_order_whatever_the_parts(graph, lanes):
    images = random_images(graph, 101)
    expected = graph.activations(images) | {"classes": graph.predict(images)}
    sources = [
        images,
        torch.from_numpy(images),
        [images],
        np.split(images, [1, 2, 3, 50, 52, 100]),
        (image[None] for image in images),
    ]
    names = ("classes", "hidden2", "readout")
    with LavaNetwork(graph) as net:
        for source in sources:
            parts = list(net.stream(source, lanes, names))
            for name in names:
                found = np.concatenate([part[name] for part in parts])
                assert found.dtype == expected[name].dtype
                assert np.array_equal(found, expected[name])
    assert [*next(iter(net.stream(images)))] == ["classes"]


def test_a_source_is_read_as_its_images_are_needed(graph):
    """Ten images at a time, without end: each ten are answered before the next are asked for."""
    images = random_images(graph, 10)
    asked = []

    def camera():
        while True:
            asked.append(1)
            yield images

    with LavaNetwork(graph) as net:
        stream = net.stream(camera(), lanes=10)
        for turn in range(1, 30):
            assert np.array_equal(next(stream)["classes"], graph.predict(images))
            assert len(asked) == turn
        stream.close()


def test_a_large_file_passes_in_little_memory(tmp_path):
    graph = random_graph((784, 10, 10))
    file = np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.uint8, (60_000, 784))
    file[::1000] = random_images(graph, 60)
    del file
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    with LavaNetwork(graph) as net:
        net.predict(images[:1], lanes=256)  # what the run itself needs is there
        tracemalloc.start()
        try:
            classes = [part["classes"] for part in net.stream(images, lanes=256)]
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert np.array_equal(np.concatenate(classes)[::1000], graph.predict(images[::1000]))
    assert peak < images.nbytes / 10


def test_a_network_in_the_middle_of_a_stream_does_nothing_else(graph, monkeypatch):
    monkeypatch.setattr(streaming, "MESSAGE_BYTES", 1)
    images = random_images(graph, 40)
    with LavaNetwork(graph) as net:
        stream = net.stream(images, lanes=4)
        next(stream)
        with pytest.raises(RunError, match="in the middle of a stream"):
            net.predict(images)
        assert sum(len(part["classes"]) for part in stream) == 36
        for _ in net.stream(images, lanes=4):
            break
        assert np.array_equal(net.predict(images), graph.predict(images))


@pytest.mark.parametrize(
    ("source", "error", "reason"),
    [
        (np.zeros((0, 30), np.uint8), ValueError, "no images"),
        ([np.zeros((2, 29), np.uint8)], ValueError, r"shape \(2, 29\)"),
        ([np.zeros((2, 30), np.uint8), np.full((2, 30), 0.5)], TypeError, "images are float64"),
        ([(np.zeros((2, 30), np.uint8), np.zeros(2))], TypeError, "yields tuple; it must yield arrays of images"),
    ],
)
def test_sources_that_do_not_fit(graph, source, error, reason):
    with LavaNetwork(graph) as net, pytest.raises(error, match=reason):
        list(net.stream(source))


def test_a_streams_names_and_lanes_are_checked_at_once(graph):
    net = LavaNetwork(graph)
    with pytest.raises(ValueError, match="hidden1, hidden2, readout, classes"):
        net.stream(random_images(graph, 2), layers=["hidden3"])
    with pytest.raises(ValueError, match="lanes is 0"):
        net.stream(random_images(graph, 2), lanes=0)


def test_the_root_logger_keeps_its_handlers(graph):
    before = list(logging.getLogger().handlers)
    LavaNetwork(graph).predict(random_images(graph, 2))
    assert logging.getLogger().handlers == before


def test_the_file_is_the_graphs(graph, tmp_path):
    net = LavaNetwork(graph)
    net.save(tmp_path / "net.safetensors")
    again = LavaNetwork(BinaryGraph.load(tmp_path / "net.safetensors"))
    assert again.graph.summary() == graph.summary()
    assert repr(again) == "LavaNetwork(30-20-11-4)"


def test_wired_to_other_processes(graph):
    """The network between Processes of Lava's own: one image a time step, a hidden layer looked at in passing."""
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.sink import RingBuffer as Recorder
    from lava.proc.io.source import RingBuffer as Player

    from lava_meta.processes.runtime import Supervised

    images = random_images(graph, 12)
    player = Player(data=images[:, None, :].transpose(1, 2, 0).astype(int))
    network = LavaNetwork(graph).process()
    sums, signs = Recorder(shape=network.out.shape, buffer=12), Recorder(shape=network.hidden1.shape, buffer=12)
    player.s_out.connect(network.s_in)
    network.out.connect(sums.a_in)
    network.hidden1.connect(signs.a_in)
    with Supervised(network, Loihi2SimCfg(select_tag="fixed_pt"), timeout=20) as run:
        run.steps(12)
        found = {"readout": sums.data.get(), "hidden1": signs.data.get()}
    for name, value in found.items():
        assert np.array_equal(value[0].T, graph.activations(images)[name])


def test_a_copy_of_a_running_network_does_not_run(graph):
    images = np.zeros((3, *graph.input_shape), np.uint8)
    with LavaNetwork(graph) as net:
        expected = net.predict(images)
        copied = pickle.loads(pickle.dumps(net))
        assert np.array_equal(copied.predict(images), expected)
    assert np.array_equal(copied.predict(images), expected)
