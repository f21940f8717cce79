"""Shared memory where there is none left: an error that says so, and a run that does not need much."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from interpreters import begin
from namespaces import OWN_MOUNTS, require_own_mounts

pytest.importorskip("lava.magma")

pytestmark = [pytest.mark.lava, pytest.mark.timeout(120)]

RUN = """
import os, sys
import numpy as np
from lava_meta.converters.lava import LavaNetwork
from lava_meta.errors import RunError
from lava_meta.graph import BinaryGraph, Readout
from lava_meta.processes.ring import Ring
from lava_meta.processes.shared_memory import shared_array

net = LavaNetwork(BinaryGraph((), Readout.from_weights(np.array([[1.0] * 8, [-1.0] * 8])), 255, (8,)), backend="lava")
"""


def with_little_shared_memory(code: str) -> str:
    """What `code` prints where /dev/shm has 1 MB."""
    require_own_mounts()
    mounted = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'
    program = [sys.executable, "-c", RUN + textwrap.dedent(code)]
    done = subprocess.run([*OWN_MOUNTS, "sh", "-c", mounted, "sh", *program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_whose_arrays_are_larger_than_dev_shm():
    assert "[0 0 0]" in with_little_shared_memory("""
        wide = shared_array((2**23,), np.int8)
        wide[:] = 1
        print(net.predict(np.ones((3, 8), np.uint8)), int(wide.sum(dtype=np.int64)))
    """)


def test_a_full_dev_shm_says_so():
    answers = with_little_shared_memory("""
        full = os.open("/dev/shm/full", os.O_CREAT | os.O_WRONLY)
        try:
            while True:
                os.write(full, bytes(4096))
        except OSError:
            pass
        for call in (lambda: net.predict(np.ones((3, 8), np.uint8)), lambda: Ring((3,), np.int8)):
            try:
                call()
            except RunError as error:
                print(error)
        os.close(full)
        os.unlink("/dev/shm/full")
        print(net.predict(np.ones((3, 8), np.uint8)))
    """).splitlines()
    assert len(answers) == 3
    assert all("/dev/shm is full" in answer for answer in answers[:2])
    assert answers[2] == "[0 0 0]"


def test_a_start_that_runs_out_of_file_descriptors_leaves_none_and_no_actor():
    process = begin("""
        import gc, resource

        def total():
            _, taker = toys.pair()
            try:
                with Supervised(taker, Loihi2SimCfg()) as run:
                    run.steps(3)
                    return int(taker.total.get()[0])
            except RunError as error:
                assert "Too many open files" in str(error), error
                return -1

        assert total() == 6
        gc.collect()
        begun = os.listdir("/proc/self/fd")
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        answers = []
        for limit in range(len(begun), 60):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
            answers.append(total())
            gc.collect()
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            assert (actors(), os.listdir("/proc/self/fd")) == ([], begun)
        print(*answers)
    """)
    output, errors = process.communicate(timeout=100)
    assert (process.returncode, errors) == (0, "")
    answers = [int(word) for word in output.split()]
    assert set(answers) == {-1, 6}
    assert answers == sorted(answers)  # what is refused, is refused below a limit only
