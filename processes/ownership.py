"""Who may use a running network: the process that started it, and the actors of its run.

A forked child has a copy of every object, but the channels of the run are its parent's: what the child takes out of
them, its parent misses, and the parent's later answers would be wrong.
"""

from __future__ import annotations

import os

from lava_meta.errors import RunError

_actor_of: tuple[int, int] | None = None  # ids of this process, if it is an actor, and of the process that forked it


def become_actor(parent: int) -> None:
    """This process is from now on an actor of the process `parent`."""
    global _actor_of
    _actor_of = (os.getpid(), parent)


class Owner:
    """The process in which this object is made."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def is_here(self) -> bool:
        """Whether that is this process, and not a forked child of it."""
        return os.getpid() == self._pid

    def require(self, action: str, *, actors: bool = False) -> None:
        """Raise `RunError` if this is another process; `actors` says that the owner's actors may do it as well."""
        if self.is_here() or (actors and _actor_of == (os.getpid(), self._pid)):
            return
        raise RunError(
            f"cannot {action} in process {os.getpid()}: this network belongs to process {self._pid}, of which this is "
            "a forked copy, and would give wrong results in both; build the network in the child"
        )
