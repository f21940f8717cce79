"""The operating system's side of a run: forked actors, and memory that cannot be left behind.

Lava runs every ProcessModel, and the service that keeps them in step, in a process of its own: an *actor*. Lava's own
actors print an exception and leave their parent waiting; they outlive a parent that is killed; and their channels are
files in /dev/shm that a killed parent leaves behind. `Actors` takes their place through Lava's own interface for
message infrastructures, and nothing in Lava is patched:

- channels lie in anonymous memory, which children inherit and the kernel frees with the last of them: it has no name,
  so no way of ending can leak it;
- each actor shares a small *board* with its parent, on which it writes how far it is, and its traceback if it fails;
- all actors hold the read end of one pipe, the *lifeline*, whose write end only the parent has. It closes when the
  parent ends, in whatever way, and then the actors end themselves.
"""

from __future__ import annotations

import math
import mmap
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
import traceback
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from lava.magma.compiler.channels import pypychannel
from lava.magma.compiler.channels.interfaces import ChannelType
from lava.magma.compiler.channels.pypychannel import PyPyChannel
from lava.magma.runtime.message_infrastructure.message_infrastructure_interface import (
    MessageInfrastructureInterface,
)

POLL_SECONDS = 0.05  # how often a parent looks at its actors, and an actor at its parent
_TEXT_BYTES = 1 << 16  # room for a traceback
_STARTING, _READY, _FAILED = 0, 1, 2
_LAVA = str(Path(pypychannel.__file__).parents[3])
_PYTHON = str(Path(threading.__file__).parent)

# Write ends of the lifelines of this interpreter. A fork that is not an actor (a data loader's worker, say) must not
# keep the actors alive after their parent has died, so every fork closes them.
_lifelines: set[int] = set()


def _close_lifelines() -> None:
    for end in _lifelines:
        os.close(end)
    _lifelines.clear()


os.register_at_fork(after_in_child=_close_lifelines)


class AnonymousMemory:
    """`size` bytes that a process shares with the children it forks from now on; freed with the last of them."""

    def __init__(self, size: int) -> None:
        self.buf = memoryview(mmap.mmap(-1, max(1, size)))


def shared_array(shape: tuple[int, ...], dtype: type | np.dtype) -> np.ndarray:
    """An array of zeros in `AnonymousMemory`: what a ProcessModel writes into it, its parent reads, and vice versa.

    Make it before the run starts and pass it to the Process by `proc_params`. Nothing guards it: read and write it
    between runs of steps, or send batches through a `lava_meta.processes.ring.Ring`.
    """
    memory = AnonymousMemory(math.prod(shape) * np.dtype(dtype).itemsize)
    return np.frombuffer(memory.buf, dtype, math.prod(shape)).reshape(shape)


class _Board:
    """What an actor tells its parent: four integers and a text, in shared memory, read without waiting."""

    def __init__(self) -> None:
        memory = AnonymousMemory(4 * 8 + _TEXT_BYTES).buf
        self._numbers = np.frombuffer(memory, np.int64, count=4)  # state, step, question, length of the text
        self._text = memory[4 * 8 :]

    @property
    def state(self) -> int:
        return int(self._numbers[0])

    @state.setter
    def state(self, value: int) -> None:
        self._numbers[0] = value

    @property
    def step(self) -> int:
        return int(self._numbers[1])

    @step.setter
    def step(self, value: int) -> None:
        self._numbers[1] = value

    @property
    def asked(self) -> bool:
        """Whether the parent wants to know where the actor is."""
        return bool(self._numbers[2])

    @asked.setter
    def asked(self, value: bool) -> None:
        self._numbers[2] = value

    @property
    def text(self) -> str:
        return bytes(self._text[: int(self._numbers[3])]).decode(errors="replace")

    @text.setter
    def text(self, value: str) -> None:
        data = value.encode()[:_TEXT_BYTES]
        self._text[: len(data)] = data
        self._numbers[3] = len(data)


class Actor(ForkProcess):
    """One ProcessModel, or the runtime service, in a process of its own. `label` names it in error messages."""

    def __init__(self, label: str, builder: Any, lifeline: int, wake: Any) -> None:
        super().__init__(name=label)
        self.label = label
        self.board = _Board()
        self._builder = builder
        self._lifeline = lifeline
        self._wake = wake
        self._model: Any = None

    def run(self) -> None:
        """Build the model and serve Lava's commands until told to stop; put any exception on the board."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent answers it
        if "torch" in sys.modules:
            # The parent's OpenMP threads do not exist here: a parallel region would wait for them for ever.
            sys.modules["torch"].set_num_threads(1)
        threading.Thread(target=self._attend, args=(threading.get_ident(),), daemon=True).start()
        try:
            self._model = self._builder.build()
            self.board.state = _READY
            self._wake.release()
            self._model.start()
        except BaseException as error:
            self.board.step = self._step()
            summary = traceback.format_exception_only(error)[-1].strip()
            self.board.text = f"{summary[:1000]}\n\n{traceback.format_exc()[-_TEXT_BYTES // 8 :]}"
            self.board.state = _FAILED
            self._wake.release()
            sys.exit(1)

    def _step(self) -> int:
        return int(getattr(self._model, "time_step", 0))

    def _attend(self, main_thread: int) -> None:
        """Report the time step, answer the parent's question, and end this process when the parent has ended."""
        poll = select.poll()
        poll.register(self._lifeline)
        while not poll.poll(POLL_SECONDS * 1000):
            self.board.step = self._step()
            if self.board.asked:
                self.board.text = _own_frames(sys._current_frames()[main_thread])
                self.board.asked = False
        os.kill(os.getpid(), signal.SIGKILL)


class Actors(MessageInfrastructureInterface):
    """The actors of one run, and the memory of its channels."""

    def __init__(self, labels: dict[int, str]) -> None:
        self._labels = labels  # id of a builder -> the Process's name
        self._actors: list[Actor] = []
        self._wake = multiprocessing.get_context("fork").Semaphore(0)
        self._lifeline: tuple[int, int] | None = None

    # Lava's interface.

    def start(self) -> None:
        """Open the lifeline."""
        self._lifeline = os.pipe()
        _lifelines.add(self._lifeline[1])

    @property
    def actors(self) -> list[Actor]:
        """All actors, in the order in which they were started."""
        return self._actors

    @property
    def smm(self) -> Actors:
        """Lava asks this for the memory of a channel."""
        return self

    def create_shared_memory(self, size: int) -> AnonymousMemory:
        """Memory for one channel."""
        return AnonymousMemory(size)

    def build_actor(self, target_fn: Any, builder: Any, exception_q: Any = None) -> Actor:
        """Fork an actor. Lava's own target function and queue are not used: the board replaces them."""
        assert self._lifeline is not None
        label = self._labels.get(id(builder), "Lava's runtime service")
        actor = Actor(label, builder, self._lifeline[0], self._wake)
        actor.start()
        self._actors.append(actor)
        return actor

    def channel_class(self, channel_type: ChannelType) -> type[PyPyChannel]:
        """Python channels only: the CPU simulator has no others."""
        if channel_type is not ChannelType.PyPy:
            raise NotImplementedError(f"a supervised run has channels between Python models only, not {channel_type}")
        return PyPyChannel

    def stop(self) -> None:
        """End all actors now."""
        self.end(0.0)

    # The supervisor's interface.

    def ready(self, wait: float) -> bool:
        """Whether all actors have built their models; waits `wait` seconds for news if they have not."""
        if all(actor.board.state != _STARTING for actor in self._actors):
            return True
        self._wake.acquire(timeout=wait)
        return False

    def progress(self) -> tuple[int, ...]:
        """The time step each actor is in."""
        return tuple(actor.board.step for actor in self._actors)

    def failure(self) -> str | None:
        """What went wrong, with the traceback of the model that failed, or None."""
        for actor in self._actors:
            if actor.board.state == _FAILED:
                where = f" in time step {actor.board.step}" if actor.board.step else ""
                return f"{actor.label} failed{where}: {actor.board.text.rstrip()}"
        for actor in self._actors:
            if actor.exitcode:
                return f"{actor.label} {_ending(actor.exitcode)}"
        return None

    def departed(self) -> str | None:
        """Which actor has ended in order, or None. After a failure Lava's service does, maybe before the traceback."""
        for actor in self._actors:
            if actor.exitcode == 0:
                return f"{actor.label} {_ending(0)} in the middle of the run"
        return None

    def whereabouts(self) -> str:
        """For a run that hangs: the time step of every actor, and the model's own lines that it is in."""
        for actor in self._actors:
            actor.board.asked = True
        deadline = time.monotonic() + 40 * POLL_SECONDS
        while time.monotonic() < deadline and any(actor.board.asked for actor in self._actors):
            time.sleep(POLL_SECONDS / 5)
        reports = []
        for actor in self._actors:
            answer = "  does not answer: in compiled code, or stopped" if actor.board.asked else actor.board.text
            reports.append(f"{actor.label}, time step {actor.board.step}:\n{answer.rstrip()}")
        return "\n".join(reports)

    def end(self, grace: float) -> None:
        """Leave no actor: wait up to `grace` seconds for those that were told to stop, then kill. Repeatable."""
        deadline = time.monotonic() + grace
        for actor in self._actors:
            actor.join(max(0.0, deadline - time.monotonic()))
        for actor in self._actors:
            actor.kill()
        for actor in self._actors:
            actor.join()
            actor.close()
        self._actors.clear()
        if self._lifeline is not None:
            _lifelines.discard(self._lifeline[1])
            for end in self._lifeline:
                os.close(end)
            self._lifeline = None


def _ending(exitcode: int) -> str:
    if exitcode >= 0:
        return f"ended with exit code {exitcode}"
    hint = "; the kernel does this when memory runs out" if exitcode == -signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-exitcode).name}{hint}"


def _own_frames(frame: FrameType) -> str:
    """The last frames, three at most, that are the model's own: below this file, not Lava's and not Python's."""
    stack = traceback.extract_stack(frame)
    start = max(i for i, entry in enumerate(stack) if entry.filename == __file__)
    own = [
        entry
        for entry in stack[start:]
        if entry.filename != __file__
        and not entry.filename.startswith(_LAVA)
        and (not entry.filename.startswith(_PYTHON) or "site-packages" in entry.filename)
    ]
    return "".join(traceback.format_list(own[-3:])) or "  waits for Lava"
