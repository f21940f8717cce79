"""The ends of a run that take its parent with them; each in an interpreter of its own."""

from __future__ import annotations

import os
import signal
import time

import pytest
from interpreters import actors, assert_gone, begin

pytest.importorskip("lava.magma")

pytestmark = [pytest.mark.lava, pytest.mark.timeout(120)]


@pytest.mark.parametrize("trouble", ["", "spin", "sleep"])
def test_control_c_to_the_whole_group(trouble):
    process = begin(f"""
        _, taker = toys.pair({trouble!r}, at=50)
        with Supervised(taker, Loihi2SimCfg()) as run:
            announce()
            run.steps(10**6)
    """)
    pids = actors(process)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == -signal.SIGINT  # Python's own end after an unhandled KeyboardInterrupt
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert errors.count("Traceback") == 1  # the parent's only
    assert_gone(pids)


@pytest.mark.parametrize("start", ["run.__enter__()", "threading.Thread(target=run.__enter__).start()"])
def test_control_c_that_the_parent_answers_otherwise_does_not_disturb_the_run(start):
    process = begin(f"""
        import threading
        signal.signal(signal.SIGINT, lambda *arguments: print("heard", flush=True))
        _, taker = toys.pair("slow", at=-1)
        run = Supervised(taker, Loihi2SimCfg())
        {start}
        while len(actors()) < 3:
            time.sleep(0.1)
        announce()
        time.sleep(0.5)
        run.steps(4)
        print(int(taker.total.get()[0]))
        run.close()
    """)
    pids = actors(process)
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (0, "heard\n10\n", "")
    assert_gone(pids)


def test_control_c_at_any_moment_of_the_start():
    for delay in (0.0, 0.02, 0.06):
        process = begin("""
            _, taker = toys.pair()
            print("begun", flush=True)
            with Supervised(taker, Loihi2SimCfg()) as run:
                run.steps(10**6)
        """)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=10)  # returns once no child holds the pipe any more
        assert process.returncode == -signal.SIGINT
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)


# Python prints and drops an exception that leaves a weak reference's callback (every import runs one), `__del__` or a
# callback of the garbage collector; Ctrl-C raises its own there if that is what the main thread is doing.
def test_control_c_that_python_drops_while_the_network_compiles():
    process = begin("""
        class Dropping:
            def __del__(self):
                signal.raise_signal(signal.SIGINT)

        class Config(Loihi2SimCfg):
            def select(self, *arguments):
                Dropping()
                return super().select(*arguments)

        _, taker = toys.pair()
        with Supervised(taker, Config()) as run:
            run.steps(10**6)
    """)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert "Exception ignored in: <function Dropping.__del__" in errors


def test_control_c_that_python_drops_while_steps_run():
    process = begin("""
        import gc, threading

        def drop(phase, info):
            if threading.current_thread() is threading.main_thread():
                signal.raise_signal(signal.SIGINT)

        _, taker = toys.pair()
        with Supervised(taker, Loihi2SimCfg()) as run:
            run.start(10**6)
            gc.callbacks.append(drop)
            gc.set_threshold(1)
            try:
                run.wait()
            finally:
                gc.callbacks.clear()
    """)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert "Exception ignored in: <function drop" in errors


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("trouble", ["", "spin"])
def test_a_parent_that_is_killed_takes_its_actors_along(signum, trouble):
    process = begin(f"""
        _, taker = toys.pair({trouble!r}, at=50)
        with Supervised(taker, Loihi2SimCfg()) as run:
            announce()
            run.steps(10**6)
    """)
    pids = actors(process)
    time.sleep(0.3)
    process.send_signal(signum)
    process.wait(timeout=10)
    assert_gone(pids)
    process.communicate()


def test_another_fork_does_not_keep_the_actors_alive():
    process = begin("""
        _, taker = toys.pair()
        with Supervised(taker, Loihi2SimCfg()) as run:
            announce()
            if os.fork() == 0:
                os.close(1), os.close(2)
                time.sleep(8)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    pids = actors(process)
    process.wait(timeout=10)
    assert_gone(pids)
    process.communicate()


@pytest.mark.parametrize("steps", ["run.steps(5)", "run.start(10**6)"])
def test_an_interpreter_that_ends_without_a_stop(steps):
    process = begin(f"""
        _, taker = toys.pair()
        run = Supervised(taker, Loihi2SimCfg()).__enter__()
        announce()
        {steps}
    """)
    pids = actors(process)
    assert process.communicate(timeout=10)[1] == ""
    assert process.returncode == 0
    assert_gone(pids)


def test_a_child_of_multiprocessing_that_ends_without_a_stop():
    process = begin("""
        def work():
            _, taker = toys.pair()
            run = Supervised(taker, Loihi2SimCfg()).__enter__()
            announce()
            run.start(10**6)
        worker = multiprocessing.Process(target=work)
        worker.start()
        worker.join()
        sys.exit(worker.exitcode)
    """)
    pids = actors(process)
    assert process.communicate(timeout=10)[1] == ""
    assert process.returncode == 0
    assert_gone(pids)


def test_torch_with_two_threads_before_the_fork_and_in_a_model():
    process = begin(
        """
        import torch
        torch.set_num_threads(2)
        torch.randn(700, 700) @ torch.randn(700, 700)
        _, taker = toys.pair("torch", taker_trouble="torch")
        with Supervised(taker, Loihi2SimCfg(), timeout=10) as run:
            announce()
            run.steps(5)
        print(torch.get_num_threads())
        """,
        OMP_NUM_THREADS="2",
    )
    pids = actors(process)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "2\n"), errors
    assert_gone(pids)
