"""A running network in a forked child: refused there, unharmed in the parent; and networks of the child's own."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

pytest.importorskip("lava.magma")

import lava_toys as toys
import torch
from lava.magma.core.run_configs import Loihi2SimCfg

from lava_meta.converters.lava import LavaNetwork
from lava_meta.data import Images
from lava_meta.graph import BinaryGraph, Readout
from lava_meta.online_learning import Learner
from lava_meta.processes.ring import Ring
from lava_meta.processes.runtime import Supervised

pytestmark = [pytest.mark.lava, pytest.mark.timeout(120), pytest.mark.usefixtures("nothing_left")]
FORK = multiprocessing.get_context("fork")


def in_a_fork(work: Callable[[], object]) -> str:
    """What `work` raises in a forked child, or what it returns."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = repr(work())
        except BaseException as error:
            answer = "".join(traceback.format_exception_only(error))
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return answer


def network() -> LavaNetwork:
    weights = np.where(np.arange(24).reshape(3, 8) % 5 < 2, 1.0, -1.0)
    return LavaNetwork(BinaryGraph((), Readout.from_weights(weights), 255, (8,)), backend="lava")


IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8), dtype=np.uint8)


def predict_elsewhere(_: int = 0) -> list[int]:
    """In a worker: with a network of its own."""
    return network().predict(IMAGES, lanes=4).tolist()


def test_a_fork_does_not_use_its_parents_run():
    _, taker = toys.pair()
    with Supervised(taker, Loihi2SimCfg()) as run:
        run.steps(2)
        for work in (
            lambda: run.steps(1),
            lambda: run.start(1),
            run.wait,
            run.check,
            taker.total.get,
            lambda: taker.total.set(np.zeros(3)),
        ):
            answer = in_a_fork(work)
            assert "RunError" in answer
            assert "build the network in the child" in answer
        assert in_a_fork(run.close) == "None"
        run.steps(2)
        assert taker.total.get()[0] == 10


def test_a_fork_does_not_use_its_parents_network():
    net = network()
    expected = net.graph.predict(IMAGES).tolist()
    with net:
        assert net.predict(IMAGES[:4], lanes=4).tolist() == expected[:4]
        assert "build the network in the child" in in_a_fork(lambda: net.predict(IMAGES, lanes=4))
        assert in_a_fork(predict_elsewhere) == str(expected)
        assert net.predict(IMAGES, lanes=4).tolist() == expected


def test_a_fork_in_the_middle_of_a_stream_does_not_read_it():
    net = network()
    with net:
        stream = net.stream((IMAGES[i : i + 4] for i in range(0, 40, 4)), lanes=4)
        first = next(stream)["classes"]
        assert "build the network in the child" in in_a_fork(lambda: list(stream))
        rest = [part["classes"] for part in stream]
    assert np.concatenate([first, *rest]).tolist() == net.graph.predict(IMAGES).tolist()


def test_a_fork_does_not_teach_its_parents_learner():
    labels = torch.arange(40) % 3
    images = Images(torch.from_numpy(IMAGES), labels, "toy", 3)
    others = Images(torch.from_numpy(255 - IMAGES), labels, "others", 3)
    alone, shared = (Learner([8, 3], lanes=4, seed=1, backend=backend) for backend in ("kernels", "lava"))
    with alone, shared:
        for learner in (alone, shared):
            learner.fit(images)
        assert "build the network in the child" in in_a_fork(lambda: shared.fit(others))
        for learner in (alone, shared):
            learner.fit(images)
    spikes = alone.encode(IMAGES)
    assert shared.graph().sums(spikes).tolist() == alone.graph().sums(spikes).tolist()


def test_a_fork_neither_fills_nor_empties_a_ring():
    ring = Ring((1,), np.int64)
    ring.put(np.array([1]))
    assert "cannot read from the ring" in in_a_fork(ring.get)
    assert "cannot write to the ring" in in_a_fork(lambda: ring.put(np.array([2])))
    assert ring.get().tolist() == [1]


# Workers with networks of their own, beside a network of the parent's.


def pool_of_multiprocessing() -> list[list[int]]:
    with FORK.Pool(2) as pool:  # its workers are daemonic
        return pool.map(predict_elsewhere, range(4), chunksize=1)


def pool_of_futures() -> list[list[int]]:
    with ProcessPoolExecutor(2, FORK) as pool:
        return list(pool.map(predict_elsewhere, range(4)))


class Predictions(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor(predict_elsewhere())


def workers_of_a_data_loader() -> list[list[int]]:
    loader = torch.utils.data.DataLoader(Predictions(), batch_size=None, num_workers=2, multiprocessing_context="fork")
    return [row.tolist() for row in loader]


@pytest.mark.parametrize("workers", [pool_of_multiprocessing, pool_of_futures, workers_of_a_data_loader])
def test_workers_run_networks_of_their_own(workers):
    net = network()
    expected = net.graph.predict(IMAGES).tolist()
    with net:
        assert net.predict(IMAGES, lanes=4).tolist() == expected
        assert workers() == [expected] * 4
        assert net.predict(IMAGES, lanes=4).tolist() == expected


def test_an_error_names_both_processes():
    _, taker = toys.pair()
    with Supervised(taker, Loihi2SimCfg()) as run:
        answer = in_a_fork(lambda: run.steps(1))
        assert f"belongs to process {os.getpid()}" in answer
