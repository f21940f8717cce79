"""What a worker of a cluster does: a stretch of a run, in a process of its own.

    stretch    in the worker: starts the process, ends it when the run is cancelled or is to hand over its checkpoint
    main       the process: `python -m lava_meta.experiments.common.worker FOLDER`, the job on its standard input

A process of its own has torch's generators and threads to itself, whatever else the worker does, and can be ended at
any moment: files are written whole or not at all. It ends by itself with its worker, however that ends, because its
standard input closes then.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lava_meta import errors
from lava_meta.experiments.common.jobs import RESULT, Job, measure
from lava_meta.io.files import write_atomically
from lava_meta.training.run_folder import CHECKPOINT

if TYPE_CHECKING:
    from distributed import Worker

SLOTS = "lava_meta slots"  # the resource that a worker has for runs at once
LOOK = 0.2  # seconds between two looks at the process
_ENDED = "ended"  # what a process writes about an error: kind, message and traceback


class Stretch(NamedTuple):
    """What a worker gives back: the files of the run's folder, by name, and who made them."""

    files: dict[str, bytes]
    worker: str

    @property
    def complete(self) -> bool:
        return RESULT in self.files


async def take_slots(threads: int, dask_worker: Worker) -> int:
    """Let a worker have as many runs at once as its threads allow, each on `threads`. Returns how many."""
    slots = max(1, dask_worker.state.nthreads // threads)
    await dask_worker.set_resources(**{SLOTS: slots})
    return slots


def stretch(job: dict[str, Any], files: Mapping[str, bytes], seconds: float) -> Stretch:
    """Begin a run, or go on with it from `files`, on a worker: to its end, or to the first checkpoint after `seconds`.

    The same arguments give the same files wherever it is done, and nothing else is changed: it may be done again.

    Raises:
        ClusterError: the process was killed; its last lines are in the message.
        LavaMetaError: what the run itself raised, with the worker named.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()  # as the scheduler calls it

    def wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state == "executing"

    with tempfile.TemporaryDirectory(prefix="run-", dir=worker.local_directory) as name:
        folder = Path(name) / "run"
        folder.mkdir()
        write_files(folder, files)
        with open(Path(name) / "log", "w+b") as log, _process(folder, job, log) as process:
            ended = _wait(process, folder, seconds, wanted)
        if ended:
            what = f"{job['arm']}, seed {job['seed']}, on {named(worker.name, worker.address)}"
            _raise_error(Path(name), what, process.returncode)
        return Stretch(read_files(folder), str(worker.name))


def named(name: object, address: str) -> str:
    """A worker as messages name it."""
    return f"worker {address}" if name == address else f"worker {name} at {address}"


def read_files(folder: Path) -> dict[str, bytes]:
    """The files of a run's folder, by their path in it; no hidden ones."""
    found = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file()) if folder.exists() else []
    return {
        path.as_posix(): (folder / path).read_bytes()
        for path in found
        if not any(part.startswith(".") for part in path.parts)
    }


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write what `read_files` gave, the result last. Raises `ClusterError` for a path that leads out of the folder."""
    for name in sorted(files, key=lambda name: name == RESULT):
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise errors.ClusterError(f"a worker sent a file called {name!r}")
        with write_atomically(path) as file:
            file.write(files[name])


@contextmanager
def _process(folder: Path, job: dict[str, Any], log: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The process of a run, while the block lasts. Ctrl-C in the worker's terminal is not for it to answer."""
    command = [sys.executable, "-m", __name__, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)
    assert process.stdin is not None
    try:
        with contextlib.suppress(BrokenPipeError):  # it has ended: the log says why
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
        yield process
    finally:
        process.kill()
        process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _wait(process: subprocess.Popen[bytes], folder: Path, seconds: float, wanted: Callable[[], bool]) -> bool:
    """Wait until the process has ended (True), is not wanted any more, or has written a checkpoint after `seconds`."""
    due = time.time() + seconds
    while process.poll() is None:
        handed_over = time.time() > due and any(file.stat().st_mtime > due for file in folder.rglob(CHECKPOINT))
        if handed_over or not wanted():
            return False
        time.sleep(LOOK)
    return True


def _raise_error(place: Path, what: str, code: int) -> None:
    """Raise what the process says that it ended with, or that it ended without a word."""
    if (place / _ENDED).exists():
        error = json.loads((place / _ENDED).read_text())
        kind = getattr(errors, error["kind"], None)
        if isinstance(kind, type) and issubclass(kind, errors.LavaMetaError):
            raise kind(f"{what}: {error['message']}")
        raise errors.ClusterError(f"{what}: {error['traceback']}")
    if code != 0:
        log = (place / "log").read_text(errors="replace")
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        raise errors.ClusterError(f"{what}: its process ended with exit code {code}{hint}: {log[-2000:]}")


def main() -> None:
    """Run the job on standard input in the folder given; end at once when standard input closes."""
    folder = Path(sys.argv[1])
    job = Job.from_dict(json.loads(sys.stdin.buffer.readline()), folder)

    def end_with_the_worker() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        os._exit(1)

    threading.Thread(target=end_with_the_worker, daemon=True).start()
    try:
        measure(job)
    except Exception as error:
        said = {"kind": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
        (folder.parent / _ENDED).write_text(json.dumps(said))


if __name__ == "__main__":
    main()
