"""Threads with networks of their own, and threads that share one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("lava.magma")

import lava_toys as toys
from lava.magma.core.process.process import ProcessServer
from lava.magma.core.run_configs import Loihi2SimCfg

from lava_meta.converters.lava import LavaNetwork
from lava_meta.errors import RunError
from lava_meta.graph import BinaryGraph, Readout
from lava_meta.processes.runtime import Supervised

pytestmark = [pytest.mark.lava, pytest.mark.timeout(280), pytest.mark.usefixtures("nothing_left")]
THREADS = 4


def together(work: Callable[[int], object]) -> list[object]:
    """What `work` returns in each of four threads that begin at the same time; raises what one of them raises."""
    begin = threading.Barrier(THREADS)

    def begun(number: int) -> object:
        begin.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(begun, range(THREADS)))


def test_four_threads_with_networks_of_their_own():
    def runs(number: int) -> set[int]:
        totals = set()
        for _ in range(8):
            _, taker = toys.pair()
            with Supervised(taker, Loihi2SimCfg()) as run:
                run.steps(number + 1)
                totals.add(int(taker.total.get()[0]))
        return totals

    before = len(ProcessServer().processes)
    assert together(runs) == [{1}, {3}, {6}, {10}]
    assert len(ProcessServer().processes) == before


def test_steps_of_one_network_from_four_threads_are_served_one_after_the_other():
    _, taker = toys.pair()
    with Supervised(taker, Loihi2SimCfg()) as run:
        run.steps(1)

        def calls(_: int) -> bool:
            for _ in range(20):
                run.steps(1)
                total = taker.total.get()
                assert (total == total[0]).all()
            return True

        assert all(together(calls))
        assert taker.total.get()[0] == 81 * 82 // 2


@pytest.mark.parametrize("backend", ["lava", "kernels"])
def test_one_network_answers_four_threads_one_after_the_other(backend):
    rng = np.random.default_rng(0)
    weights = np.where(rng.random((3, 8)) < 0.5, 1.0, -1.0)
    net = LavaNetwork(BinaryGraph((), Readout.from_weights(weights), 255, (8,)), backend=backend)

    def asks(number: int) -> bool:
        images = np.random.default_rng(number).integers(0, 256, (12, 8), dtype=np.uint8)
        expected = net.graph.predict(images).tolist()
        return all(net.predict(images, lanes=4).tolist() == expected for _ in range(20))

    with net:
        assert all(together(asks))


def test_a_thread_ends_what_another_waits_for():
    _, taker = toys.pair("sleep", at=1)
    run = Supervised(taker, Loihi2SimCfg()).__enter__()
    run.start(10)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(run.wait)
        run.close()
        with pytest.raises(RunError, match="it was stopped"):
            waiting.result()
