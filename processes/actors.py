"""The actors of one run, and the memory of its channels.

Lava runs every ProcessModel, and the service that keeps them in step, in a process of its own: an *actor*. Lava's own
actors print an exception and leave their parent waiting; they outlive a parent that is killed; and their channels are
files in /dev/shm that a killed parent leaves behind. `Actors` takes their place through Lava's own interface for
message infrastructures, and nothing in Lava is patched: channels lie in anonymous memory, and each actor
(`lava_meta.processes.actor`) shares a board with its parent, on which it writes how far it is, and its traceback if it
fails.
"""

from __future__ import annotations

import signal
import time
from typing import Any

from lava.magma.compiler.channels.interfaces import ChannelType
from lava.magma.compiler.channels.pypychannel import PyPyChannel
from lava.magma.runtime.message_infrastructure.message_infrastructure_interface import (
    MessageInfrastructureInterface,
)

from lava_meta.processes.actor import POLL_SECONDS, Actor
from lava_meta.processes.board import FAILED, STARTING
from lava_meta.processes.shared_memory import AnonymousMemory, semaphore


class Actors(MessageInfrastructureInterface):
    """The actors of one run. `labels` has the Process's name by the id of its builder."""

    def __init__(self, labels: dict[int, str]) -> None:
        self._labels = labels
        self._actors: list[Actor] = []
        self._wake = semaphore(0)

    # Lava's interface.

    def start(self) -> None:
        """Nothing is to be prepared."""

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
        actor = Actor(self._labels.get(id(builder), "Lava's runtime service"), builder, self._wake)
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
        if all(actor.board.state != STARTING for actor in self._actors):
            return True
        self._wake.acquire(timeout=wait)
        return False

    def progress(self) -> tuple[int, ...]:
        """The time step each actor is in."""
        return tuple(actor.board.step for actor in self._actors)

    def failure(self) -> str | None:
        """What went wrong, with the traceback of the model that failed, or None."""
        for actor in self._actors:
            if actor.board.state == FAILED:
                where = f" in time step {actor.board.step}" if actor.board.step else ""
                return f"{actor.label} failed{where}: {actor.board.text.rstrip()}"
        for actor in self._actors:
            if actor.ended() and actor.exitcode:
                return f"{actor.label} {_ending(actor.exitcode)}"
        return None

    def departed(self) -> str | None:
        """Which actor has ended in order, as far as is known, or None. After a failure Lava's service does."""
        for actor in self._actors:
            if actor.ended():
                return f"{actor.label} {_ending(actor.exitcode)} in the middle of the run"
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
            actor.wait(deadline)
        for actor in self._actors:
            actor.kill()
        for actor in self._actors:
            actor.wait()
            actor.close()
        self._actors.clear()


def _ending(exitcode: int | None) -> str:
    if exitcode is None:
        return "ended"
    if exitcode >= 0:
        return f"ended with exit code {exitcode}"
    hint = "; the kernel does this when memory runs out" if exitcode == -signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-exitcode).name}{hint}"
