"""Where the runs of an experiment are made: in this process one by one, or on the workers of a Dask cluster.

The same runs to the same bits. A cluster needs no shared folder: `lava_meta.experiments.common.sweep` says how.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lava_meta.errors import require
from lava_meta.experiments.common.jobs import Job


@dataclass(frozen=True)
class Cluster:
    """Where runs are made: workers on this machine, those of a scheduler that runs, or jobs of a queue.

    Args:
        workers: processes to start, each for one run at a time.
        scheduler: the address of a scheduler to join instead, as "tcp://host:8786".
        queue: start workers as jobs of this queue, as "slurm", by dask-jobqueue and its YAML file.
        hand_over: seconds after which a run under way hands over its checkpoint. If its worker dies, what it did since
            the last time is done again.
        say: gets a line for what happens to the cluster.

    Raises:
        PackageMissingError: `distributed`, or dask-jobqueue for a queue, is not installed.
        ValueError: neither or both of `workers` and `scheduler`.
    """

    workers: int | None = None
    scheduler: str | None = None
    queue: str | None = None
    hand_over: float = 120.0
    say: Callable[[str], None] = field(default=lambda line: None, repr=False)

    def __post_init__(self) -> None:
        require("distributed", "A cluster")
        if self.queue is not None:
            require("dask_jobqueue", "A queue")
        if (self.workers is None) == (self.scheduler is None):
            raise ValueError("give the number of workers to start, or the address of a scheduler to join")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers is {self.workers}; it must be at least 1")
        if self.queue is not None and self.workers is None:
            raise ValueError("a queue starts workers: give their number, and no scheduler")

    def __call__(self, jobs: list[Job[Any]]) -> Generator[tuple[Job[Any], str], None, None]:
        """Run the jobs, and give each when its files are here, with its worker's name.

        Ctrl-C, or an error of a run, cancels what is under way.

        Raises:
            ClusterError: the cluster cannot be reached, is lost for good, or has wrong workers only.
            ValueError: an experiment that workers cannot find by its name.
        """
        if not jobs:
            return
        from lava_meta.experiments.common.sweep import Sweep

        for job in jobs:
            Job.from_dict(job.to_dict(), job.folder)  # raises for what another process could not make of it
        with (
            self._address() as address,
            _progress(len(jobs), enabled=jobs[0].progress) as advance,
            closing(Sweep(address, jobs, self.hand_over, self.say)) as sweep,
        ):
            for job, worker in sweep.run():
                advance()
                yield job, f"worker {worker}"

    @contextmanager
    def _address(self) -> Iterator[Any]:
        """What a client connects to; a cluster of our own is there while the block lasts."""
        if self.scheduler is not None:
            yield self.scheduler
            return
        with ExitStack() as stack:
            with _interrupts_blocked():
                cluster = stack.enter_context(self._own())
            self.say(f"dashboard: {cluster.dashboard_link}")
            yield cluster

    def _own(self) -> Any:
        assert self.workers is not None
        if self.queue is None:
            from distributed import LocalCluster

            return LocalCluster(n_workers=self.workers, threads_per_worker=1, silence_logs=logging.ERROR)
        import dask_jobqueue

        name = f"{self.queue.upper()}Cluster"
        if not hasattr(dask_jobqueue, name):
            raise ValueError(f"dask-jobqueue has no queue {self.queue!r}; it has slurm, pbs, sge, lsf and others")
        cluster = getattr(dask_jobqueue, name)()
        cluster.scale(self.workers)
        return cluster


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes started in the block never see a terminal's Ctrl-C; here it waits for the block's end."""
    resource_tracker.ensure_running()  # which it would be in the block, and unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _progress(total: int, *, enabled: bool) -> Iterator[Callable[[], None]]:
    """A bar in a terminal; what is yielded counts a run that is complete."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not enabled) as bar:
        runs = bar.add_task("runs", total=total)
        yield lambda: bar.advance(runs)
