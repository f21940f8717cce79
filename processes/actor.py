"""One forked process: how it starts, how its end is noticed, and how it ends with its parent.

An actor is forked by itself and not through `multiprocessing`'s list of children: that list is the user's, other
threads change it, and daemonic workers of a pool may have no children on it. `multiprocessing` prepares the child all
the same, so that a ProcessModel may start workers of its own; they are the model's, and no end of an actor kills them.

*Its end* is read from a file descriptor of the process (pidfd), which says it even if `SIGCHLD` is ignored, or another
part of the program waits for all children and takes the exit code; and a signal through it reaches no other process
that got the same id since.

*Its parent's end* is told by a pipe, the actor's lifeline, whose write end only the parent has. It closes when the
parent ends, in whatever way. On Linux the kernel then kills the actor, also one that is stopped or inside compiled code
(`F_SETSIG`; `PR_SET_PDEATHSIG` would do so when the *thread* ends that forked it, and a run may outlive that thread).
Elsewhere a thread of the actor looks at the pipe.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
import traceback
import warnings
from multiprocessing import util
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import FrameType
from typing import Any

from lava.magma.compiler.channels import pypychannel

from lava_meta.processes.board import FAILED, READY, Board, report
from lava_meta.processes.ownership import become_actor

POLL_SECONDS = 0.05  # how often a parent looks at its actors, and an actor at its parent
_LAVA = str(Path(pypychannel.__file__).parents[3])
_PYTHON = str(Path(threading.__file__).parent)

# Write ends of the lifelines of this process. A fork that is not an actor (a data loader's worker, say) must not keep
# the actors alive after their parent has died, nor one actor another, so every fork closes them.
_lifelines: set[int] = set()


def _close_lifelines() -> None:
    for end in _lifelines:
        os.close(end)
    _lifelines.clear()


os.register_at_fork(after_in_child=_close_lifelines)


class Actor:
    """One ProcessModel, or the runtime service, in a process of its own. `label` names it in error messages.

    `wake` is released when the model is built or has failed. `exitcode` is None while the process runs, and if someone
    else has taken it.
    """

    def __init__(self, label: str, builder: Any, wake: Any) -> None:
        self.label = label
        self.board = Board()
        self.exitcode: int | None = None
        self._builder = builder
        self._wake = wake
        self._model: Any = None
        self._ended = False
        watched, held = os.pipe()
        _lifelines.add(held)
        try:
            self.pid = self._fork(watched)
        except BaseException:
            self._close_lifeline(held)
            raise
        finally:
            os.close(watched)
        self._lifeline = held
        self._pidfd = _pidfd(self.pid)

    def _fork(self, lifeline: int) -> int:
        process = ForkProcess(target=self._run, args=(lifeline, os.getpid()), name=self.label, daemon=False)
        util._flush_std_streams()  # type: ignore[attr-defined]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # since Python 3.12 for every fork beside a thread
            pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = process._bootstrap(parent_sentinel=lifeline)  # type: ignore[attr-defined]
            finally:
                os._exit(code)
        return pid

    # In the parent.

    def ended(self) -> bool:
        """Whether the process has ended."""
        if not self._ended and (self._pidfd is None or _readable(self._pidfd, 0)):
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # someone else, or the kernel, was told of the end
                self._ended = True
            else:
                if pid:
                    self.exitcode = os.waitstatus_to_exitcode(status)
                self._ended = pid != 0 or self._pidfd is not None
        return self._ended

    def wait(self, deadline: float | None = None) -> None:
        """Wait for the end of the process, until `time.monotonic()` is `deadline` at most."""
        while not self.ended() and (deadline is None or time.monotonic() < deadline):
            time.sleep(0.001)

    def kill(self) -> None:
        """End the process now, if it has not ended."""
        if not self.ended():
            with contextlib.suppress(ProcessLookupError):
                if self._pidfd is None:
                    os.kill(self.pid, signal.SIGKILL)
                else:
                    signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Give back the file descriptors of a process that has ended."""
        self._close_lifeline(self._lifeline)
        if self._pidfd is not None:
            os.close(self._pidfd)

    @staticmethod
    def _close_lifeline(end: int) -> None:
        _lifelines.discard(end)
        os.close(end)

    # In the actor.

    def _run(self, lifeline: int, parent: int) -> None:
        """Build the model and serve Lava's commands until told to stop; put any exception on the board."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent answers it
        become_actor(parent)
        if sys.platform == "linux":
            _kill_when_closed(lifeline)
        if "torch" in sys.modules:
            # The parent's OpenMP threads do not exist here: a parallel region would wait for them for ever.
            sys.modules["torch"].set_num_threads(1)
        threading.Thread(target=self._attend, args=(lifeline, threading.get_ident()), daemon=True).start()
        try:
            self._model = self._builder.build()
            self.board.state = READY
            self._wake.release()
            self._model.start()
        except BaseException as error:
            self.board.step = self._step()
            self.board.text = report(error)
            self.board.state = FAILED
            self._wake.release()
            sys.exit(1)

    def _step(self) -> int:
        return int(getattr(self._model, "time_step", 0))

    def _attend(self, lifeline: int, main_thread: int) -> None:
        """Report the time step, answer the parent's question, and end this process when the parent has ended."""
        while not _readable(lifeline, POLL_SECONDS):
            self.board.step = self._step()
            if self.board.asked:
                self.board.text = _own_frames(sys._current_frames()[main_thread])
                self.board.asked = False
        os.kill(os.getpid(), signal.SIGKILL)


def _pidfd(pid: int) -> int | None:
    """A file descriptor of a child, or None if this system has none."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux; an old kernel, a sandbox, or a child that is gone already
        return None


def _readable(descriptor: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor)
    return bool(poll.poll(seconds * 1000))


def _kill_when_closed(pipe: int) -> None:
    """Have the kernel kill this process, and none that it forks, when the other end of `pipe` closes."""
    import fcntl

    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)


def _own_frames(frame: FrameType) -> str:
    """The last frames, three at most, that are the model's own: below this file, not Lava's and not Python's."""
    stack = traceback.extract_stack(frame)
    start = max(i for i, entry in enumerate(stack) if entry.filename == __file__)
    own = [
        entry
        for entry in stack[start + 1 :]
        if not entry.filename.startswith(_LAVA)
        and (not entry.filename.startswith(_PYTHON) or "site-packages" in entry.filename)
    ]
    return "".join(traceback.format_list(own[-3:])) or "  waits for Lava"
