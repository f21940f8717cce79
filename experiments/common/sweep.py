"""The runs of an experiment on the workers of a Dask cluster, without a shared folder.

    client (here)   keeps the run folders; submits as many jobs as there are slots, each with its newest checkpoint
    scheduler       hands them to workers, and again to others if a worker dies
    worker          runs a stretch (`lava_meta.experiments.common.worker`) and returns the run's files

Nothing lives in the cluster alone for longer than a stretch. When a worker dies, the scheduler gives the same stretch
to another; when the scheduler is lost, the client waits for it and submits what was under way again. Only workers that
have this version of the package get jobs: the client asks each that joins and gives it slots, which the scheduler knows
as a resource.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from queue import Empty, Queue
from typing import Any
from uuid import uuid4

import dask
from distributed import Client, Future, KilledWorker

from lava_meta.errors import ClusterError
from lava_meta.experiments.common.jobs import RESULT, Job, remove_checkpoint
from lava_meta.experiments.common.worker import SLOTS, read_files, stretch, take_slots, write_files
from lava_meta.training.run_folder import CHECKPOINT, SETTINGS

PACKAGE = "lava-meta"
LOOK = 1.0  # seconds between two looks at who is there
PATIENCE_AT_FIRST, PATIENCE = 10.0, 600.0  # seconds to wait for a scheduler: to join it, and when it is gone
ORDER = {SETTINGS: 0, CHECKPOINT: 2, RESULT: 3}  # of a run's files; 1 for others
LARGE = {"distributed.admin.large-graph-warning-threshold": "1 GiB"}  # a job with a checkpoint is no mistake


class Sweep:
    """Jobs that wait, jobs under way, and the workers that may have them."""

    def __init__(self, address: Any, jobs: list[Job[Any]], hand_over: float, say: Callable[[str], None]) -> None:
        self.address, self.hand_over, self.say = address, hand_over, say
        self.where = address if isinstance(address, str) else address.scheduler_address
        self.waiting = deque(jobs)
        self.under_way: dict[Future, Job[Any]] = {}
        self.done: Queue[Future] = Queue()
        self.threads = max(1, jobs[0].settings.threads)
        self.version = metadata.version(PACKAGE)
        self.known: set[str] = set()  # workers that were looked at
        self.slots: dict[str, int] = {}  # of those that may have jobs
        self.state = ""  # as told last
        self.client = self._connected(PATIENCE_AT_FIRST)
        self._meet()

    def run(self) -> Iterator[tuple[Job[Any], str]]:
        """Each job once its files are here."""
        looked = time.monotonic()
        while self.waiting or self.under_way:
            while self.waiting and len(self.under_way) < sum(self.slots.values()) and self.client.status == "running":
                self._submit(self.waiting.popleft())
            with suppress(Empty):
                yield from self._ended(self.done.get(timeout=LOOK))
            if time.monotonic() - looked > LOOK:
                self._meet()
                looked = time.monotonic()

    def close(self) -> None:
        """Cancel what is under way: the workers end its processes."""
        with suppress(Exception):  # the cluster may be gone
            self.client.cancel(list(self.under_way), reason="stopped", msg="the sweep was stopped")
        self.client.close()

    def _submit(self, job: Job[Any]) -> None:
        arguments = job.to_dict(), read_files(job.folder), self.hand_over, CHECKPOINT
        key = f"{job.experiment.name} {job}-{uuid4()}"
        with dask.config.set(LARGE):
            future = self.client.submit(stretch, *arguments, key=key, pure=False, resources={SLOTS: 1})
        self.under_way[future] = job
        future.add_done_callback(self.done.put)

    def _ended(self, future: Future) -> Iterator[tuple[Job[Any], str]]:
        """Keep the files of a stretch. A job that is not complete, or was lost with the cluster, goes on first."""
        job = self.under_way.pop(future, None)
        if job is None:
            return  # taken back before
        try:
            found = future.result()
        except CancelledError:  # with the scheduler
            self.waiting.appendleft(job)
            return
        except KilledWorker as error:
            raise ClusterError(f"{job}: {error}") from error
        # In an order in which the run goes on wherever this is stopped.
        write_files(job.folder, dict(sorted(found.files.items(), key=lambda file: ORDER.get(Path(file[0]).name, 1))))
        if job.result.exists():
            remove_checkpoint(job)
            yield job, found.worker
        else:
            self.waiting.appendleft(job)

    def _connected(self, patience: float) -> Client:
        begin = time.monotonic()
        while True:
            try:
                return Client(self.address, timeout=5)
            except (OSError, TimeoutError) as error:
                if time.monotonic() - begin > patience:
                    raise ClusterError(f"no scheduler answers at {self.where}: {error}") from None
                time.sleep(LOOK)

    def _meet(self) -> None:
        """Give slots to workers that are new, unless they have another version; forget those that are gone."""
        if self.client.status == "closed":
            self.say(f"the scheduler at {self.where} is gone; waiting for it")
            self.client = self._connected(PATIENCE)
            self._take_back(list(self.under_way))
        self._take_back([future for future in self.under_way if future.cancelled()])
        try:
            there = set(self.client.nthreads())
            self._admit(sorted(there - self.known))
        except (OSError, TimeoutError):
            return  # the scheduler is gone, or a worker while it was asked: the next look tells
        self.known = there
        self.slots = {worker: slots for worker, slots in self.slots.items() if worker in there}
        state = "" if self.slots else "waiting for workers"
        if state and state != self.state:
            self.say(f"{state} at {self.where}")
        self.state = state

    def _admit(self, workers: list[str]) -> None:
        if not workers:
            return
        versions = self.client.run(metadata.version, PACKAGE, workers=workers, on_error="return")
        for worker, version in versions.items():
            if isinstance(version, OSError):
                raise version
            if version != self.version:
                has = f"has no {PACKAGE}" if isinstance(version, Exception) else f"has {PACKAGE} {version}"
                self.say(f"worker {worker} is refused: it {has}; here is {self.version}")
        fitting = [worker for worker, version in versions.items() if version == self.version]
        if fitting:
            self.slots |= self.client.run(take_slots, self.threads, workers=fitting)
            self._call_back()

    def _take_back(self, futures: list[Future]) -> None:
        self.waiting.extendleft(self.under_way.pop(future) for future in futures)

    def _call_back(self) -> None:
        """Take back what no worker has: a scheduler that lost all workers does not look at resources given later."""
        assigned = {key for keys in self.client.processing().values() for key in keys}
        lost = [future for future in self.under_way if not future.done() and future.key not in assigned]
        self.client.cancel(lost)
        self._take_back(lost)
