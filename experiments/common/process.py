"""A process that makes runs for a worker of a cluster, one after the other.

It has torch's generators and threads to itself, whatever else the worker does. It lives on for the next run, as
starting one takes seconds, but never longer than its worker, however that ends: its standard input closes then.

    parent   {"job": ..., "folder": ...}, a line on standard input; SIGINT, as Ctrl-C sends it, to stop the run
    child    FOLDER.ended, with the error if there was one
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from lava_meta import errors
from lava_meta.io.files import read_json, write_json

IDLE, MARGIN = 60.0, 10.0  # seconds without a run after which the process ends; before which it gets no more
STOPPING = 20.0  # seconds that a run may take to stop


class RunProcess:
    """The parent's side."""

    def __init__(self, folder: Path) -> None:
        self._log = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed with the process
        # In a session of its own: Ctrl-C in the worker's terminal is the worker's to answer.
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def begin(self, job: dict[str, Any], folder: Path) -> None:
        """Begin a run in `folder`."""
        self._ended = _ended(folder)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, which `running` tells
            self._process.stdin.write(json.dumps({"job": job, "folder": str(folder)}).encode() + b"\n")
            self._process.stdin.flush()

    @property
    def running(self) -> bool:
        """Whether the run is under way."""
        return self._process.poll() is None and not self._ended.exists()

    def stop(self) -> None:
        """Let the run stop as with Ctrl-C; one that does not within `STOPPING` seconds is still `running`."""
        self._process.send_signal(signal.SIGINT)
        last = time.monotonic() + STOPPING
        while self.running and time.monotonic() < last:
            time.sleep(0.01)

    def rest(self) -> None:
        """Let it wait for another run."""
        self._until = time.monotonic() + IDLE - MARGIN

    @property
    def waits(self) -> bool:
        """Whether it waits for another run, and will for some seconds."""
        return self._process.poll() is None and time.monotonic() < self._until

    def check(self, what: str) -> None:
        """Raise what the run that has ended raised, with `what` before it; `ClusterError` if its process was killed."""
        if not self._ended.exists():
            self._log.seek(0)
            log = self._log.read().decode(errors="replace")[-2000:]
            raise errors.ClusterError(f"{what}: its process ended with exit code {self._process.returncode}: {log}")
        error = read_json(self._ended)
        if not error:
            return
        kind = getattr(errors, error["kind"], None)
        if isinstance(kind, type) and issubclass(kind, errors.LavaMetaError):
            raise kind(f"{what}: {error['message']}")
        raise errors.ClusterError(f"{what}: {error['traceback']}")

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        with suppress(BrokenPipeError):
            self._process.communicate()
        self._log.close()


def _ended(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.ended")


def main() -> None:
    """The child's side: make runs until standard input closes, or none comes."""
    orders: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        with open(os.dup(sys.stdin.fileno()), "rb", buffering=0) as lines:
            for line in lines:
                orders.put(line.decode())
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    with suppress(queue.Empty):
        while True:
            _run(**json.loads(orders.get(timeout=IDLE)))


def _run(job: dict[str, Any], folder: str) -> None:
    from lava_meta.experiments.common.jobs import Job, measure  # torch too, which the parent needs not

    error = {}
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            measure(Job.from_dict(job, Path(folder)))
        except Exception as caught:
            error = {"kind": type(caught).__name__, "message": str(caught), "traceback": traceback.format_exc()}
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    write_json(_ended(Path(folder)), error)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # which a worker of our own has blocked
    main()
