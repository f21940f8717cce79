"""Actors in a process whose children are not this package's alone, and that ends at any time."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import time

import pytest
from interpreters import actors, alive, assert_gone, begin

pytest.importorskip("lava.magma")

import lava_toys as toys
from lava.magma.core.run_configs import Loihi2SimCfg

from lava_meta.errors import RunError
from lava_meta.processes.runtime import Supervised

pytestmark = [pytest.mark.lava, pytest.mark.timeout(120)]

IGNORED = "signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
TAKEN = """
        import threading
        def take():
            while True:
                try:
                    os.waitpid(-1, 0)
                except ChildProcessError:
                    time.sleep(0.001)
        threading.Thread(target=take, daemon=True).start()
"""


@pytest.mark.parametrize("elsewhere", [IGNORED, TAKEN], ids=["SIGCHLD ignored", "children waited for by a thread"])
def test_exit_codes_that_go_elsewhere(elsewhere):
    process = begin(f"""
        {elsewhere}
        _, taker = toys.pair()
        with Supervised(taker, Loihi2SimCfg()) as run:
            announce()
            run.steps(4)
            print(int(taker.total.get()[0]))
        for trouble in ("vanish", "vanish at build", "raise before"):
            try:
                with Supervised(toys.pair(trouble)[1], Loihi2SimCfg()) as run:
                    run.steps(10)
            except RunError as error:
                print(str(error).splitlines()[0])
        print(actors())
    """)
    pids = actors(process)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    if elsewhere == TAKEN:  # where the thread may come too late for an exit code
        output = re.sub("ended with exit code 9.*", "ended in the middle of the run", output)
    assert output.splitlines() == [
        "10",
        "giver (GiverModel) ended in the middle of the run",
        "giver (GiverModel) ended in the middle of the run",
        "giver (GiverModel) failed in time step 3: ArithmeticError: the toy broke on purpose",
        "[]",
    ]
    assert_gone(pids)


def test_the_users_own_list_of_children_has_no_actors():
    _, taker = toys.pair()
    with Supervised(taker, Loihi2SimCfg()) as run:
        run.steps(1)
        assert multiprocessing.active_children() == []


@pytest.mark.parametrize("trouble", ["stopped", "in compiled code"])
def test_an_actor_that_runs_no_python_ends_with_its_parent(trouble):
    process = begin(f"""
        _, taker = toys.pair({trouble!r})
        with Supervised(taker, Loihi2SimCfg()) as run:
            announce()
            run.start(10)
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    pids = actors(process)
    process.wait(timeout=10)
    assert_gone(pids)


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "run.close()"])
def test_what_a_model_has_started_is_its_own_to_end(end):
    process = begin(f"""
        _, taker = toys.pair("workers of its own", at=1)
        with Supervised(taker, Loihi2SimCfg()) as run:
            announce()
            run.start(10**6)
            time.sleep(1)
            {end}
    """)
    pids = actors(process)
    assert process.stdout is not None
    workers = [int(pid) for pid in process.stdout.readline().split()]
    process.wait(timeout=20)
    assert_gone(pids)
    time.sleep(0.2)
    assert all(map(alive, workers))
    for pid in workers:
        os.kill(pid, signal.SIGKILL)


def test_a_text_that_has_no_bytes_keeps_its_traceback():
    _, taker = toys.pair("raise what has no bytes")
    with (
        pytest.raises(RunError, match=r"(?s)ArithmeticError: a lone surrogate: \\udc80.*lava_toys.py"),
        Supervised(taker, Loihi2SimCfg()) as run,
    ):
        run.steps(10)


def test_an_end_waits_for_a_channel_that_is_still_full(monkeypatch):
    """Which may be the case for a moment after the last answer, on a busy machine."""
    _, taker = toys.pair()
    waits = iter([False, False])
    with Supervised(taker, Loihi2SimCfg()) as run:
        run.steps(4)
        (port,) = (port._port for port in run._runtime.runtime_to_service)
        probe = port.probe
        monkeypatch.setattr(port, "probe", lambda: next(waits, True) and probe())
    assert next(waits, True)
    assert multiprocessing.active_children() == []
