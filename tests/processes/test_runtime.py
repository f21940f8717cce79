"""Every way in which a run of Lava can end, and that nothing is left after any of them."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

import numpy as np
import pytest

pytest.importorskip("lava.magma")

import lava_toys as toys
from children import actors
from lava.magma.core.process.process import ProcessServer
from lava.magma.core.run_conditions import RunContinuous, RunSteps
from lava.magma.core.run_configs import Loihi2HwCfg, Loihi2SimCfg
from shared_memory import named

from lava_meta.errors import LavaMissingError, RunError, RunTimeout
from lava_meta.processes.runtime import Supervised

pytestmark = [pytest.mark.lava, pytest.mark.timeout(60), pytest.mark.usefixtures("nothing_left")]


def supervised(process, timeout: float = 20.0) -> Supervised:
    return Supervised(process, Loihi2SimCfg(), timeout=timeout)


# A result.


def test_steps_run_and_vars_are_read_and_written():
    _, taker = toys.pair()
    with supervised(taker) as run:
        run.steps(4)
        assert taker.total.get().tolist() == [10, 10, 10]
        taker.total.set(np.array([1, 2, 3]))
        run.steps(2)  # sends 5 and 6
        assert taker.total.get().tolist() == [12, 13, 14]


def test_lavas_own_calls_are_supervised_too():
    _, taker = toys.pair("raise before", at=3)
    with supervised(taker):
        taker.run(RunSteps(num_steps=2))
        with pytest.raises(RunError, match="broke on purpose"):
            taker.run(RunSteps(num_steps=2))
        taker.stop()


def test_a_slow_run_that_makes_progress_is_not_given_up():
    _, taker = toys.pair("slow", at=-1)  # 0.3 s a step
    with supervised(taker, timeout=0.8) as run:
        run.steps(6)


def test_time_in_which_nobody_waits_does_not_count():
    _, taker = toys.pair("slow", at=-1)
    with supervised(taker, timeout=0.8) as run:
        run.start(2)
        time.sleep(1.2)
        run.wait()
        time.sleep(1.0)
        run.steps(1)


def test_channels_are_memory_without_a_name():
    _, taker = toys.pair()
    with supervised(taker) as run:
        run.steps(1)
        for pid in ["self", *actors()]:
            assert not named(pid)


def test_processes_and_log_handlers_are_not_kept():
    before = list(logging.getLogger("lava.magma.compiler.compiler").handlers)
    giver, taker = toys.pair()
    with supervised(taker) as run:
        run.steps(1)
    assert logging.getLogger("lava.magma.compiler.compiler").handlers == before
    assert giver not in ProcessServer().processes
    assert taker not in ProcessServer().processes


# An error.


@pytest.mark.parametrize("side", ["giver", "taker"])
@pytest.mark.parametrize("trouble", ["raise before", "raise after"])
def test_an_exception_carries_the_models_traceback(side, trouble):
    _, taker = toys.pair(trouble) if side == "giver" else toys.pair(taker_trouble=trouble)
    with pytest.raises(RunError) as caught, supervised(taker) as run:
        run.steps(10)
    first, _, rest = str(caught.value).partition("\n")
    assert first == (
        f"{side} ({side.capitalize()}Model) failed in time step 3: ArithmeticError: the toy broke on purpose"
    )
    assert "lava_toys.py" in rest
    assert 'raise ArithmeticError("the toy broke on purpose")' in rest


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("exit", "SystemExit: the toy left"),
        ("vanish", r"giver \(GiverModel\) ended with exit code 7"),
        ("vanish quietly", r"giver \(GiverModel\) ended with exit code 0"),
        ("killed", r"giver \(GiverModel\) was killed by SIGKILL"),
        ("build", "ArithmeticError: the toy could not be built"),
        ("vanish at build", r"giver \(GiverModel\) ended with exit code 9"),
    ],
)
def test_an_actor_that_ends_ends_the_run(trouble, message):
    _, taker = toys.pair(trouble)
    with pytest.raises(RunError, match=message), supervised(taker) as run:
        run.steps(10)


@pytest.mark.parametrize("trouble", ["asks to stop", "asks to pause"])
def test_a_model_that_asks_for_what_a_supervised_run_does_not_do(trouble):
    _, taker = toys.pair(trouble)
    with pytest.raises(RunError, match="asked Lava to pause or stop"), supervised(taker) as run:
        run.steps(10)


@pytest.mark.parametrize(
    ("trouble", "error", "message"),
    [
        (
            "raise before",
            RunError,
            "loner (LonerModel) failed in time step 3: ArithmeticError: the toy",
        ),
        ("killed", RunError, "loner (LonerModel) was killed by SIGKILL"),
        ("spin", RunTimeout, "while True:"),
    ],
)
def test_a_model_of_the_asynchronous_protocol(trouble, error, message):
    loner = toys.Loner(trouble=trouble, at=3, name="loner")
    with supervised(loner, timeout=1.0) as run:
        run.steps(2)
        assert loner.count.get().tolist() == [2]
        with pytest.raises(error, match=re.escape(message)):
            run.steps(2)


def test_an_actor_killed_between_runs_is_noticed():
    _, taker = toys.pair()
    with supervised(taker) as run:
        run.steps(1)
        os.kill(actors()[0], signal.SIGKILL)
        with pytest.raises(RunError, match="killed by SIGKILL"):
            run.steps(1)


def test_an_exception_in_the_body_is_the_users():
    _, taker = toys.pair()

    def body() -> None:
        with supervised(taker) as run:
            run.steps(1)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        body()


@contextlib.contextmanager
def control_c_in(function: str) -> Iterator[None]:
    """Inside the block, the first call of a function of this name is interrupted."""
    before, interrupted = sys.gettrace(), []

    def interrupt(frame: FrameType, event: str, argument: object) -> None:
        if frame.f_code.co_name == function and not interrupted:
            interrupted.append(frame)
            raise KeyboardInterrupt

    sys.settrace(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        sys.settrace(before)
    assert interrupted


def test_control_c_in_the_first_line_of_the_end():
    _, taker = toys.pair()
    run = supervised(taker).__enter__()
    run.steps(1)
    with control_c_in("_end"):
        run.close()
    assert actors() == []


def test_control_c_in_the_middle_of_a_var():
    _, taker = toys.pair()
    with supervised(taker) as run:
        run.steps(2)
        with control_c_in("recv"):
            taker.total.get()
        with pytest.raises(RunError, match="interrupted when it was to read a Var"):
            taker.total.get()


def test_an_exception_in_the_body_while_steps_run():
    _, taker = toys.pair("spin", at=2)

    def body() -> None:
        with supervised(taker) as run:
            run.start(10)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        body()


def test_a_network_that_does_not_compile():
    with pytest.raises(RunError, match=r"could not compile.*Unmodelled"):
        supervised(toys.Unmodelled()).__enter__()


def test_hardware_without_intels_extension():
    _, taker = toys.pair()
    with pytest.raises(LavaMissingError, match="Intel's Loihi extension"):
        Supervised(taker, Loihi2HwCfg()).__enter__()


# No progress.


@pytest.mark.parametrize("trouble", ["spin", "sleep", "hang at build"])
def test_a_run_that_hangs_is_given_up_and_says_where(trouble):
    _, taker = toys.pair(trouble)
    begun = time.monotonic()
    with pytest.raises(RunTimeout) as caught, supervised(taker, timeout=0.5) as run:
        run.steps(10)
    assert time.monotonic() - begun < 10
    line = {"spin": "while True:", "sleep": "time.sleep(1000)", "hang at build": "time.sleep(1000)"}[trouble]
    assert "no progress for 0.5 s" in str(caught.value)
    assert line in str(caught.value)


def test_a_wait_for_something_else_is_given_up_too():
    _, taker = toys.pair("sleep")

    def look(run: Supervised) -> None:
        while True:
            time.sleep(0.01)
            run.check()

    with supervised(taker, timeout=0.5) as run:
        run.start(10)
        with pytest.raises(RunTimeout):
            look(run)


# What Lava would answer with a crash or silence.


def test_a_network_runs_once():
    giver, taker = toys.pair()
    run = supervised(taker)
    with run:
        run.steps(1)
    for call in (
        lambda: run.steps(1),
        run.wait,
        run.check,
        lambda: taker.run(RunSteps(num_steps=1)),
        lambda: taker.total.get(),
        lambda: taker.total.set(np.zeros(3)),
        supervised(giver).__enter__,
        run.__enter__,
    ):
        with pytest.raises(RunError, match="build a new one"):
            call()
    run.close()
    taker.stop()


def test_before_the_start_nothing_runs():
    _, taker = toys.pair()
    with pytest.raises(RunError, match="not been started"):
        supervised(taker).steps(1)


def test_what_lava_hangs_on_is_refused():
    _, taker = toys.pair()
    with supervised(taker) as run:
        with pytest.raises(RunError, match="RunSteps"):
            taker.run(RunContinuous())
        with pytest.raises(RunError, match="paused"):
            taker.pause()
        run.steps(1)


def test_vars_are_refused_while_steps_run():
    _, taker = toys.pair("slow", at=-1)
    with supervised(taker) as run:
        run.start(2)
        with pytest.raises(RunError, match="while steps are running"):
            taker.total.get()
        with pytest.raises(RunError, match="while steps are running"):
            run.start(1)
        run.wait()
        assert taker.total.get()[0] == 3


@pytest.mark.parametrize("number", [0, -1])
def test_a_run_has_steps(number):
    _, taker = toys.pair()
    with supervised(taker) as run, pytest.raises(ValueError, match="at least one time step"):
        run.steps(number)


def test_settings_are_checked():
    _, taker = toys.pair()
    with pytest.raises(ValueError, match="timeout"):
        Supervised(taker, Loihi2SimCfg(), timeout=0)
    with pytest.raises(ValueError, match="watchdog"):
        Supervised(taker, Loihi2SimCfg(), compile_config={"use_watchdog": True})


def test_a_run_outlives_the_thread_that_started_it():
    _, taker = toys.pair()
    run = supervised(taker)
    thread = threading.Thread(target=run.__enter__)
    thread.start()
    thread.join()
    time.sleep(0.3)
    run.steps(3)
    assert taker.total.get()[0] == 6
    run.close()
