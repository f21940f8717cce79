"""Schedulers and workers of Dask as processes of their own, each with a folder that the others do not use."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

LONGEST = 200.0  # seconds, for a machine that is busy


def wait_for(what: Callable[[], object]) -> None:
    """Wait until `what()` is true."""
    begun = time.monotonic()
    while not what():
        assert time.monotonic() - begun < LONGEST
        time.sleep(0.05)


def processes_of(pid: int) -> set[int]:
    """The living descendants of a process."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found |= {int(child)} | processes_of(int(child))
    return found


def living(pids: set[int]) -> set[int]:
    """Those of the processes that have not ended."""
    return {pid for pid in pids if Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text()}


class Machine:
    """A scheduler or a worker as if it were another machine: it has a folder, and an address to be reached at."""

    def __init__(
        self, folder: Path, *words: str, environment: dict[str, str] | None = None, on: tuple[str, ...] = ()
    ) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        with open(folder / "log", "wb") as log:
            self.process = subprocess.Popen(
                [*on, sys.executable, "-m", "dask", *words],
                cwd=folder,
                env=os.environ | {"TMPDIR": str(folder)} | (environment or {}),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def kill(self) -> None:
        """As the machine's loss: `kill -9`."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Network:
    """A scheduler, and the workers that are started for it by their names."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        self.folder, self._all = folder, list[Machine]()
        self.scheduler = self.start_scheduler("scheduler")

    def start_scheduler(self, name: str) -> Machine:
        """A scheduler at the network's address."""
        host, port = self.address.removeprefix("tcp://").split(":")
        words = ("scheduler", "--host", host, "--port", port, "--no-dashboard")
        machine = Machine(self.folder / name, *words)
        self._all.append(machine)
        wait_for(lambda: "Scheduler at" in machine.log())
        return machine

    def worker(self, name: str, *, environment: dict[str, str] | None = None) -> Machine:
        """A worker that is one process."""
        folder = self.folder / name
        words = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--name", name, "--death-timeout", "60")
        words += ("--local-directory", str(folder / "scratch"))
        self._all.append(Machine(folder, "worker", self.address, *words, environment=environment))
        return self._all[-1]

    def end(self) -> None:
        """Kill all."""
        for machine in self._all:
            machine.kill()
