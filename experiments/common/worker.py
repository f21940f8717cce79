"""What a worker of a cluster does for a sweep: it takes slots, and makes stretches of runs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lava_meta.errors import ClusterError
from lava_meta.experiments.common.process import RunProcess
from lava_meta.io.files import write_atomically

if TYPE_CHECKING:
    from distributed import Worker

SLOTS = "lava_meta slots"  # the resource that a worker has for runs at once
LOOK = 0.1  # seconds between two looks at a run
_idle: list[RunProcess] = []  # that made a run and wait for another


class Stretch(NamedTuple):
    """What a worker gives back: the files of the run's folder, by name, and who made them."""

    files: dict[str, bytes]
    worker: str


async def take_slots(threads: int, dask_worker: Worker) -> int:
    """Let a worker have as many runs at once as its threads allow, each on `threads`. Returns how many."""
    slots = max(1, dask_worker.state.nthreads // threads)
    await dask_worker.set_resources(**{SLOTS: slots})
    return slots


def stretch(job: dict[str, Any], files: Mapping[str, bytes], seconds: float, checkpoint: str) -> Stretch:
    """Begin a run, or go on with it from `files`, on a worker: to its end, or to the first checkpoint after `seconds`.

    The same arguments lead to the same result wherever this is done, and however often. The process of a run
    whose task is cancelled is killed. `checkpoint` is the name of the files that runs go on from.

    Raises:
        ClusterError: its process was killed; the last lines that it wrote are in the message.
        LavaMetaError: what the run itself raised, with the worker named.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state == "executing"

    with tempfile.TemporaryDirectory(prefix="run-", dir=worker.local_directory) as name:
        folder = Path(name) / "run"
        folder.mkdir()
        write_files(folder, files)
        with _process(Path(worker.local_directory)) as process:
            process.begin(job, folder)
            if _ended(process, lambda: folder.rglob(checkpoint), seconds, wanted):
                who = worker.name if worker.name == worker.address else f"{worker.name} at {worker.address}"
                process.check(f"{job['arm']}, seed {job['seed']}, on worker {who}")
        return Stretch(read_files(folder), str(worker.name))


def read_files(folder: Path) -> dict[str, bytes]:
    """The files of a run's folder, by their path in it; no hidden ones."""
    found = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file()) if folder.exists() else []
    return {
        path.as_posix(): (folder / path).read_bytes()
        for path in found
        if not any(part.startswith(".") for part in path.parts)
    }


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write what `read_files` gave, one by one. Raises `ClusterError` for a path that leads out of the folder."""
    for name, content in files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ClusterError(f"a worker sent a file called {name!r}")
        with write_atomically(path) as file:
            file.write(content)


@contextmanager
def _process(place: Path) -> Iterator[RunProcess]:
    """A process for one run, an idle one if there is. It is killed if the run is still under way at the end."""
    process = _waiting() or RunProcess(place)
    try:
        yield process
    finally:
        if process.running:
            process.kill()
        else:
            process.rest()
            _idle.append(process)


def _waiting() -> RunProcess | None:
    """An idle process; those that have ended meanwhile are dropped."""
    with suppress(IndexError):
        while True:
            process = _idle.pop()
            if process.waits:
                return process
            process.kill()
    return None


def _ended(
    process: RunProcess, checkpoints: Callable[[], Iterable[Path]], seconds: float, wanted: Callable[[], bool]
) -> bool:
    """Wait until a run has ended (True), is not wanted any more, or is stopped with a checkpoint after `seconds`."""
    due = time.time() + seconds
    while process.running:
        kept = time.time() > due and any(file.stat().st_mtime > due for file in checkpoints())
        if kept:
            process.stop()
        if kept or not wanted():
            return False
        time.sleep(LOOK)
    return True
