"""The supervised run: every run of a Lava network ends, and in one of three ways.

    with Supervised(process, Loihi2SimCfg(), timeout=60) as run:
        run.steps(1000)
        potential = process.v.get()

It ends with the result, with a `RunError` that carries the traceback of the ProcessModel that failed, or with a
`RunTimeout` that says where each model was. After any of them, and after Ctrl-C or an exception in the `with` block,
no child process and no shared memory is left; should the parent itself be killed, its actors end by themselves.

`Supervised` compiles the network with Lava's compiler and runs it on Lava's `Runtime`, of which it replaces three
things through subclassing: the actors (`lava_meta.processes.actors`), the start, and every place where the parent
waits for an answer. Lava waits without end; here each wait looks at the actors twenty times a second. Lava's own calls
on the processes (`Var.get`, `Process.run`, `Process.stop`) therefore are supervised too, inside the block.

A network runs once: Lava's processes cannot be started again after a stop (it crashes the interpreter), so a second
start is refused. Build a new network; its Processes are cheap.

Threads may start networks at the same time, and may share a running one, which serves their calls one after the other.
A forked child may not use its parent's (`lava_meta.processes.ownership`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import util
from types import TracebackType
from typing import Any

import numpy as np
from lava.magma.compiler.executable import Executable
from lava.magma.core.process.message_interface_enum import ActorType
from lava.magma.core.process.process import AbstractProcess, ProcessServer
from lava.magma.core.process.variable import VarServer
from lava.magma.core.run_conditions import AbstractRunCondition, RunSteps
from lava.magma.core.run_configs import AbstractLoihiHWRunCfg, RunConfig
from lava.magma.runtime.mgmt_token_enums import MGMT_COMMAND, MGMT_RESPONSE, enum_equal
from lava.magma.runtime.runtime import Runtime

from lava_meta.errors import LavaMissingError, RunError, RunTimeout
from lava_meta.interrupts import interrupts_held, interrupts_kept
from lava_meta.processes.actor import POLL_SECONDS
from lava_meta.processes.actors import Actors
from lava_meta.processes.one_at_a_time import one_at_a_time
from lava_meta.processes.ownership import Owner
from lava_meta.processes.shared_memory import explained

_GRACE_SECONDS = 2.0  # for models that were told to stop; then they are killed
_REPORT_SECONDS = 2.0  # for the traceback of a model that has already said that it failed


class Supervised:
    """A context manager that runs the network to which `process` belongs.

    `timeout` is the time in seconds without progress (no model finishes a time step, or none gets built) after which
    the run is given up; a single time step must be shorter. `compile_config` goes to Lava's compiler.

    Raises `RunError` on entering if the network does not compile or start or has been run before, `LavaMissingError`
    for a hardware run configuration without Intel's extension.
    """

    def __init__(
        self,
        process: AbstractProcess,
        run_config: RunConfig,
        timeout: float = 60.0,
        compile_config: dict[str, Any] | None = None,
    ) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout is {timeout}; it is a positive number of seconds")
        if compile_config and compile_config.get("use_watchdog"):
            raise ValueError("Lava's watchdog has no use in a supervised run: leave out use_watchdog")
        self._process = process
        self._run_config = run_config
        self._timeout = timeout
        self._compile_config = dict(compile_config or {})
        self._runtime: _Runtime | None = None

    def __enter__(self) -> Supervised:
        if self._process.runtime is not None:
            raise RunError("this network has been run before, and Lava cannot start a network twice: build a new one")
        if isinstance(self._run_config, AbstractLoihiHWRunCfg) and not _hardware_support():
            raise LavaMissingError(
                f"{type(self._run_config).__name__} needs Intel's Loihi extension of Lava, which is not installed; "
                "Loihi2SimCfg runs the same network on the CPU"
            )
        try:
            with interrupts_kept():
                self._start()
            return self
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        with loggers_unchanged():
            executable = self._compile()
        runtime = _Runtime(executable, self._timeout)
        executable.assign_runtime_to_all_processes(runtime)
        self._process.runtime = runtime
        self._runtime = runtime
        runtime.initialize()

    def _compile(self) -> Executable:
        try:
            return self._process.compile(self._run_config, self._compile_config)
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise RunError(f"Lava could not compile the network: {reason}") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def steps(self, number: int) -> None:
        """Run `number` time steps and wait for their end. May be called again. Raises `RunError`, `RunTimeout`."""
        with self.calls("run"):
            self.start(number)
            self.wait()

    def start(self, number: int) -> None:
        """Start `number` time steps and return at once; `wait` waits for their end."""
        if number < 1:
            raise ValueError(f"a run has at least one time step; got {number}")
        self._running_network().start(RunSteps(num_steps=int(number), blocking=False))

    def wait(self) -> None:
        """Wait for the end of the steps that were started. Raises `RunError`, `RunTimeout`."""
        self._running_network().wait()

    def calls(self, action: str) -> contextlib.AbstractContextManager[None]:
        """The block has the network to itself among the threads of the process that started it.

        Raises `RunError`, which says what could not be done (`action`), in a forked child of that process.
        """
        return self._running_network().calls(action)

    def check(self) -> None:
        """To be called again and again by who waits for something else than the end of the steps.

        Raises `RunError` if a model failed, `RunTimeout` if the calls have seen no progress for `timeout` seconds.
        """
        self._running_network().check()

    def close(self) -> None:
        """Stop the network: an idle one in order, a running one at once. Repeatable; never raises for its state."""
        if self._runtime is not None:
            try:
                self._runtime.stop()
            except BaseException:  # Ctrl-C, in the lines before the end holds it
                self._runtime.stop()
                raise

    def _running_network(self) -> _Runtime:
        if self._runtime is None:
            raise RunError("the network has not been started: use the run inside its `with` block")
        return self._runtime


class _Runtime(Runtime):
    """Lava's runtime, with supervised actors, start and waits."""

    runtime_to_service: Any
    service_to_runtime: Any
    _is_running: bool

    def __init__(self, executable: Executable, timeout: float) -> None:
        super().__init__(executable, ActorType.MultiProcessing)
        labels = {
            id(builder): f"{process.name} ({builder.proc_model.__name__})"
            for process, builder in executable.proc_builders.items()
        }
        self._actors = Actors(labels)
        self._timeout = timeout
        self._owner = Owner()
        self._calls = threading.RLock()
        self._end_lock = threading.RLock()  # its own: a run is ended while another thread waits for its steps
        self._ended: str | None = None  # why, once it has
        self._seen: tuple[int, ...] = ()
        self._last_look = 0.0
        self._waited = 0.0
        # At the interpreter's exit too, and in children of multiprocessing, which run no `atexit` functions.
        self._finalizer = util.Finalize(self, self._actors.stop, exitpriority=100)

    # The start.

    def _build_message_infrastructure(self) -> None:
        self._messaging_infrastructure = self._actors
        self._actors.start()

    def initialize(self, node_cfg_idx: int = 0) -> None:
        """Fork the actors and wait until each has built its model."""
        try:
            with one_at_a_time(), interrupts_held():
                self._build_watchdog_manager()
                self._build_message_infrastructure()
                self._build_channels()
                self._build_sync_channels()
                self._build_processes()
                self._build_runtime_services()
                self._start_ports()
            self.exception_q.clear()
            self.runtime_to_service = [_SendPort(port, self.check) for port in self.runtime_to_service]
            self.service_to_runtime = [_RecvPort(port, self.check) for port in self.service_to_runtime]
            self._reset_clock()
            while not self._actors.ready(POLL_SECONDS):
                self.check()
            self.check()
        except RunError:
            raise
        except BaseException as error:
            self._end("its start failed")
            if isinstance(error, Exception):
                raise RunError(f"Lava could not start the network: {explained(error)}") from error
            raise
        self._is_initialized = True

    # The run.

    @contextlib.contextmanager
    def calls(self, action: str) -> Iterator[None]:
        self._owner.require(action)
        with self._calls:
            yield

    def start(self, run_condition: AbstractRunCondition) -> None:
        """Start a number of steps."""
        with self.calls("run"):
            self._require_idle("run")
            if not isinstance(run_condition, RunSteps):
                raise RunError("a supervised run takes RunSteps; Lava hangs when a continuous run is paused")
            self._reset_clock()
            super().start(run_condition)

    def _get_resp_for_run(self) -> None:
        with self.calls("wait"):
            if self._ended is not None:
                self._require_idle("wait")
            if not self._is_running:
                return
            for port in self.service_to_runtime:
                answer = port.recv()
                if enum_equal(answer, MGMT_RESPONSE.ERROR):
                    self._report_failure()
                if not enum_equal(answer, MGMT_RESPONSE.DONE):
                    self._fail("a ProcessModel asked Lava to pause or stop the run, which a supervised run does not do")
            self._is_running = False

    def check(self) -> None:
        """Raise `RunError` if an actor failed, `RunTimeout` if calls of this function saw no progress for long."""
        self._owner.require("continue")
        if self._ended is not None:
            self._require_idle("continue")
        failure = self._actors.failure()
        if failure is not None:
            self._fail(failure)
        if self._actors.departed() is not None:
            self._report_failure()
        # Only time that is spent looking counts: the caller may have been busy with other things in between.
        now = time.monotonic()
        self._waited += min(now - self._last_look, 4 * POLL_SECONDS)
        self._last_look = now
        seen = self._actors.progress()
        if seen != self._seen:
            self._seen = seen
            self._waited = 0.0
        elif self._waited > self._timeout:
            where = self._actors.whereabouts()
            reason = f"no progress for {self._timeout:g} s"
            self._end(reason)
            raise RunTimeout(f"{reason}; the run was stopped. Where its models were:\n\n{where}")

    def _reset_clock(self) -> None:
        self._waited = 0.0
        self._last_look = time.monotonic()

    def _report_failure(self) -> None:
        """Lava says that a model failed, or has ended, before that model's traceback is out: wait for it, and raise."""
        deadline = time.monotonic() + _REPORT_SECONDS
        while time.monotonic() < deadline:
            failure = self._actors.failure()
            if failure is not None:
                self._fail(failure)
            time.sleep(POLL_SECONDS / 10)
        self._fail(self._actors.departed() or "Lava reports a failure, but no model left a traceback")

    def _fail(self, reason: str) -> None:
        self._end(reason.splitlines()[0])
        raise RunError(reason)

    # Lava's other calls.

    def pause(self) -> None:
        """Refused: Lava hangs when a paused run goes on."""
        raise RunError("a supervised run cannot be paused: run fewer steps at a time")

    def get_var(self, var_id: int, idx: np.ndarray | None = None) -> np.ndarray:
        """Lava's `Var.get`; refused during a run, where Lava would return None."""
        with self._exchange("read a Var"):
            return super().get_var(var_id, idx)

    def set_var(self, var_id: int, value: np.ndarray, idx: np.ndarray | None = None) -> None:
        """Lava's `Var.set`; refused during a run, where Lava would do nothing."""
        with self._exchange("write a Var"):
            super().set_var(var_id, value, idx)

    @contextlib.contextmanager
    def _exchange(self, action: str) -> Iterator[None]:
        """A message per element: if Ctrl-C stops them half-way, the next answer would be the rest of this one."""
        with self.calls(action):
            self._require_idle(action)
            try:
                yield
            except KeyboardInterrupt:
                self._end(f"it was interrupted when it was to {action}")
                raise

    def _require_idle(self, action: str) -> None:
        if self._ended is not None:
            raise RunError(
                f"cannot {action}: this network has ended ({self._ended}), and Lava cannot start a network twice; "
                "build a new one"
            )
        if self._is_running:
            raise RunError(f"cannot {action} while steps are running: wait for their end")

    # The end.

    def stop(self) -> None:
        """End the run: in order if it is idle, at once if steps are running."""
        self._end("it was stopped")

    def _end(self, reason: str) -> None:
        # A forked child holds a copy of this object; the actors are not its own to stop.
        if not self._owner.is_here():
            return
        with interrupts_held(), self._end_lock:
            if self._ended is not None:
                return
            self._ended = reason
            try:
                idle = self._is_initialized and not self._is_running and self._actors.failure() is None
                told = idle and all(port.offer(MGMT_COMMAND.STOP, _GRACE_SECONDS) for port in self.runtime_to_service)
                self._actors.end(_GRACE_SECONDS if told else 0.0)
            finally:
                self._actors.stop()
                self._finalizer.cancel()
                self.join()
                self._is_running = self._is_started = False
                _forget(self._executable.process_list)


class _RecvPort:
    """A port of the parent whose `recv` watches the actors while it waits."""

    def __init__(self, port: Any, check: Callable[[], None]) -> None:
        self._port = port
        self._check = check
        self._news = threading.Event()
        port.observer = self._news.set

    def recv(self) -> np.ndarray:
        while True:
            with interrupts_kept():
                self._news.clear()
                if self._port.probe():
                    return self._port.recv()
                if not self._news.wait(POLL_SECONDS):
                    self._check()


class _SendPort:
    """A port of the parent whose `send` watches the actors while the channel is full."""

    def __init__(self, port: Any, check: Callable[[], None]) -> None:
        self._port = port
        self._check = check

    def send(self, data: np.ndarray) -> None:
        while not self.offer(data, POLL_SECONDS / 50):
            self._check()

    def offer(self, data: np.ndarray, seconds: float) -> bool:
        """Send if the channel has room within so many seconds, and say whether it had, whatever the actors do."""
        deadline = time.monotonic() + seconds
        while not self._port.probe():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS / 50)
        self._port.send(data)
        return True


def _hardware_support() -> bool:
    return importlib.util.find_spec("lava.magma.core.model.nc") is not None


def _forget(processes: list[AbstractProcess]) -> None:
    """Take the Processes, those that contain them, and their Vars off the lists by which Lava keeps them for ever."""
    ended = set()
    for process in processes:
        while process is not None:
            ended.add(id(process))
            process = process.parent_proc
    # In place and one by one: meanwhile other threads may append theirs.
    for kept in [process for process in ProcessServer().processes if id(process) in ended]:
        ProcessServer().processes.remove(kept)
    for var in [var for var in VarServer().vars if id(var.process) in ended]:
        VarServer().vars.remove(var)


@contextlib.contextmanager
def loggers_unchanged() -> Iterator[None]:
    """Undo what Lava does to the loggers: each Process adds a handler to the root logger, each compiler to its own.

    Threads take turns.
    """
    loggers = [logging.getLogger(), logging.getLogger("lava.magma.compiler.compiler")]
    with one_at_a_time():
        handlers = [list(logger.handlers) for logger in loggers]
        try:
            yield
        finally:
            for logger, before in zip(loggers, handlers, strict=True):
                logger.handlers[:] = before
