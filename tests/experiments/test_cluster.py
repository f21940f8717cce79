"""Experiments on a Dask cluster: real schedulers and workers, which are killed; the same bits as one process gives."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("distributed")

from command_line import lava_meta
from dask_processes import LONGEST, Machine, Network, living, processes_of, wait_for
from hosts import PORT, Hosts, require_own_networks

from lava_meta.errors import ClusterError, DataError
from lava_meta.experiments.common.experiment import find
from lava_meta.experiments.common.jobs import read_measurement
from lava_meta.experiments.common.runner import run_experiment
from lava_meta.experiments.common.scheduling import Cluster
from lava_meta.experiments.common.worker import read_files, write_files
from lava_meta.io.config import override

EXPERIMENT = find("permuted_mnist")
SMALL = ["data=digits", "hidden=16", "tasks=2", "epochs=40", "checkpoint_seconds=0", "rules=metaplastic", "m=0,4"]
SMALL += ["seeds=1"]
SETTINGS = override(EXPERIMENT.scales["small"], SMALL)


def contents(out: Path) -> dict[str, Any]:
    """What an experiment's runs have left, without the time that it took."""
    found: dict[str, Any] = {}
    for file in sorted((out / "runs").rglob("*")):
        if file.is_file() and not file.name.startswith("."):
            name = str(file.relative_to(out))
            measured = file.name == "result.json"
            found[name] = replace(read_measurement(file), seconds=0.0) if measured else file.read_bytes()
    return found


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("serial") / "out"
    run_experiment(EXPERIMENT, SETTINGS, out, scale="small")
    found = contents(out)
    assert len([name for name in found if name.endswith("result.json")]) == 2
    return found


class Sweep(threading.Thread):
    """The experiment on a cluster, in a thread; `lines` are what it says."""

    def __init__(self, out: Path, address: str, hand_over: float) -> None:
        super().__init__(daemon=True)
        self.out, self.lines = out, list[str]()
        self.cluster = Cluster(scheduler=address, hand_over=hand_over, say=self.lines.append)
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            run_experiment(EXPERIMENT, SETTINGS, self.out, scale="small", say=self.lines.append, execute=self.cluster)
        except BaseException as error:
            self.error = error

    def says(self, what: str) -> bool:
        return any(re.search(what, line) for line in self.lines)

    def end(self) -> list[str]:
        """Wait for its end; the lines that tell of runs."""
        self.join(LONGEST)
        assert not self.is_alive(), self.lines
        if self.error is not None:
            raise self.error
        return [line for line in self.lines if re.match(r"\[\d", line)]


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    found = Network(tmp_path / "network")
    yield found
    found.end()


def under_way(machine: Machine) -> list[Path]:
    """Checkpoints of what a worker is at."""
    return list(machine.folder.glob("scratch/**/run/checkpoint.safetensors"))


@pytest.mark.slow
def test_a_worker_killed_in_the_midst(network: Network, tmp_path: Path, serial: dict[str, Any]) -> None:
    """What it had handed over goes on elsewhere; its own processes end with it."""
    first = network.worker("first")
    sweep = Sweep(tmp_path / "out", network.address, hand_over=1.0)
    wait_for(lambda: list(sweep.out.glob("runs/*/*/checkpoint.safetensors")) and processes_of(first.process.pid))
    own = processes_of(first.process.pid)
    first.kill()
    wait_for(lambda: not living(own))
    network.worker("second")
    lines = sweep.end()
    assert [line.split("]")[0] for line in lines] == ["[1/2", "[2/2"]
    assert sweep.says("worker second")
    assert contents(sweep.out) == serial


@pytest.mark.slow
def test_the_scheduler_lost_with_its_worker(network: Network, tmp_path: Path, serial: dict[str, Any]) -> None:
    first = network.worker("first")
    sweep = Sweep(tmp_path / "out", network.address, hand_over=1.0)
    wait_for(lambda: under_way(first))
    network.scheduler.kill()
    first.kill()
    wait_for(lambda: sweep.says("is gone; waiting for it"))
    network.start_scheduler("again")
    network.worker("second")
    assert len(sweep.end()) == 2
    assert contents(sweep.out) == serial


@pytest.mark.slow
def test_a_worker_of_another_version_is_refused_by_name(
    network: Network, tmp_path: Path, serial: dict[str, Any]
) -> None:
    """The worker sees the metadata of an older installation before ours; another one without is given the runs."""
    other = tmp_path / "other" / "lava_meta-0.1.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: lava-meta\nVersion: 0.1.0\n")
    old = network.worker("old", environment={"PYTHONPATH": str(other.parent)})
    sweep = Sweep(tmp_path / "out", network.address, hand_over=60)
    wait_for(lambda: sweep.says(r"worker tcp://127.0.0.1:\d+ is refused: it has lava-meta 0\.1\.0; here is "))
    wait_for(lambda: sweep.says("waiting for workers"))
    network.worker("new")
    lines = sweep.end()
    assert all("worker new" in line for line in lines)
    assert not list(old.folder.glob("scratch/**/run"))
    assert contents(sweep.out) == serial


@pytest.mark.slow
def test_a_worker_without_the_data_is_named(network: Network, tmp_path: Path) -> None:
    network.worker("poor", environment={"LAVA_META_DATA": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)})
    settings = override(SETTINGS, ["data=mnist"])
    with pytest.raises(DataError, match=r"m = 0, seed 0, on worker poor at tcp://.*: .*mnist"):
        run_experiment(EXPERIMENT, settings, tmp_path / "out", execute=Cluster(scheduler=network.address))


def command(*words: str, on: tuple[str, ...] = (), **options: Any) -> subprocess.Popen[str]:
    """`lava-meta WORDS`, which Ctrl-C stops: shells let what they start in the background ignore it."""
    return subprocess.Popen(
        [*on, sys.executable, "-m", "lava_meta", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **options,
    )


def test_a_run_killed_alone_is_named(network: Network, tmp_path: Path) -> None:
    """As the system does where memory runs out; the worker lives."""
    machine = network.worker("first")
    sweep = Sweep(tmp_path / "out", network.address, hand_over=60)
    wait_for(lambda: under_way(machine))
    for process in processes_of(machine.process.pid):
        os.kill(process, signal.SIGKILL)
    with pytest.raises(ClusterError, match=r"m = 0, seed 0, on worker first at tcp://.*: .* ended with exit code -9"):
        sweep.end()


def test_no_file_is_written_outside_a_runs_folder(tmp_path: Path) -> None:
    for name in ("../outside", "/tmp/outside", "a/../../outside"):
        with pytest.raises(ClusterError, match="a worker sent a file called"):
            write_files(tmp_path / "run", {name: b"x"})
    assert list(tmp_path.iterdir()) == []
    write_files(tmp_path / "run", {"a/b": b"x"})
    assert read_files(tmp_path / "run") == {"a/b": b"x"}


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_sweep_leaves_no_process_and_goes_on(
    how: int, network: Network, tmp_path: Path, serial: dict[str, Any]
) -> None:
    """Ctrl-C at the client: the worker ends its run and stays; the same with --resume goes on, in one process."""
    machine = network.worker("first")
    settings = [word for setting in SMALL for word in ("--set", setting)]
    words = ("experiment", "permuted_mnist", *settings, "--out", str(tmp_path / "out"))
    client = command(*words, "--scheduler", network.address, "--hand-over", "1")
    wait_for(lambda: list(tmp_path.glob("out/runs/*/*/checkpoint.safetensors")) and processes_of(machine.process.pid))
    runs = processes_of(machine.process.pid)
    client.send_signal(how)
    said, _ = client.communicate(timeout=LONGEST)
    assert client.returncode == (130 if how == signal.SIGINT else -how), said
    if how == signal.SIGINT:
        assert "the same command with --resume goes on" in said.splitlines()[-1]
    wait_for(lambda: not living(runs))
    assert machine.process.poll() is None
    done = lava_meta(*words, "--resume")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == serial


@pytest.mark.slow
@pytest.mark.parametrize("when", ["workers start", "runs are under way"])
def test_workers_of_our_own_end_with_ctrl_c(when: str, tmp_path: Path) -> None:
    """As a terminal sends it: to the command and its workers at once. One line says so, and nothing follows it."""
    words = ("experiment", "permuted_mnist", "--set", "data=digits", "--set", "epochs=300", "--workers", "2")
    temporary = os.environ | {"TMPDIR": str(tmp_path)}
    client = command(*words, "--out", str(tmp_path / "out"), env=temporary, start_new_session=True)
    if when == "workers start":
        wait_for(lambda: len(processes_of(client.pid)) == 3)  # with Python's own, which tracks resources
    else:
        wait_for(lambda: list(tmp_path.glob("**/run/checkpoint.safetensors")))
    own = processes_of(client.pid)
    os.killpg(client.pid, signal.SIGINT)
    said, _ = client.communicate(timeout=LONGEST)
    assert client.returncode == 130, said
    lines = [line for line in said.splitlines() if not line.startswith("    ")]  # without the settings
    assert [line.split(":")[0] for line in lines[1:]] in (["lava-meta"], ["dashboard", "lava-meta"]), said
    wait_for(lambda: not living(own))


@pytest.mark.slow
def test_hosts_that_share_a_network_and_nothing_else(tmp_path: Path, serial: dict[str, Any]) -> None:
    """Client, scheduler and workers in network namespaces of their own. A worker's cable is pulled in the midst."""
    require_own_networks()
    hosts = Hosts("client", "scheduler", "first", "second")
    machines: list[Machine] = []

    def dask(host: str, *words: str) -> Machine:
        impatient = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s"}  # 30 by default
        machines.append(Machine(tmp_path / host, *words, environment=impatient, on=hosts.on(host)))
        return machines[-1]

    def worker(name: str) -> Machine:
        words = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--name", name)
        return dask(name, "worker", address, *words, "--local-directory", str(tmp_path / name / "scratch"))

    try:
        address = f"tcp://{hosts.address('scheduler')}:{PORT}"
        dask("scheduler", "scheduler", "--host", hosts.address("scheduler"), "--port", str(PORT), "--no-dashboard")
        worker("first")
        settings = [word for setting in SMALL for word in ("--set", setting)]
        words = ("experiment", "permuted_mnist", *settings, "--scheduler", address, "--hand-over", "1")
        client = command(*words, "--out", str(tmp_path / "out"), on=hosts.on("client"))
        wait_for(lambda: list(tmp_path.glob("out/runs/*/*/checkpoint.safetensors")))
        hosts.pull_cable("first")
        worker("second")
        said, _ = client.communicate(timeout=LONGEST)
        assert client.returncode == 0, said
        assert said.count("worker second") == 2
        assert contents(tmp_path / "out") == serial
    finally:
        for machine in machines:
            machine.kill()
        hosts.end()


@pytest.mark.slow
def test_workers_as_jobs_of_a_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serial: dict[str, Any]) -> None:
    """dask-jobqueue writes the script that Slurm would run; here `sbatch` runs it at once."""
    pytest.importorskip("dask_jobqueue")
    import dask

    (tmp_path / "bin").mkdir()
    for name, does in (
        (
            "sbatch",
            f'cp "$1" {tmp_path}/script\n'  # as Slurm does: dask-jobqueue removes its own at once
            f'setsid bash {tmp_path}/script >{tmp_path}/job.log 2>&1 & echo "Submitted batch job $!"',
        ),
        ("scancel", 'kill -- "-$1"'),
    ):
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{does}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    lines: list[str] = []
    slurm = {"cores": 1, "memory": "2GB", "walltime": "00:10:00", "local-directory": str(tmp_path), "interface": "lo"}
    with dask.config.set({"jobqueue.slurm": {**dask.config.get("jobqueue.slurm"), **slurm}}):
        queue = Cluster(workers=1, queue="slurm")
        run_experiment(EXPERIMENT, SETTINGS, tmp_path / "out", scale="small", say=lines.append, execute=queue)
    assert contents(tmp_path / "out") == serial
    assert "#SBATCH -t 00:10:00" in (tmp_path / "script").read_text()


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the number of workers to start, or the address"):
        Cluster()
    with pytest.raises(ValueError, match="the number of workers to start, or the address"):
        Cluster(workers=2, scheduler="tcp://127.0.0.1:1")
    with pytest.raises(ValueError, match="workers is 0; it must be at least 1"):
        Cluster(workers=0)
    with pytest.raises(ClusterError, match=r"no scheduler answers at tcp://127\.0\.0\.1:1"):
        run_experiment(EXPERIMENT, SETTINGS, tmp_path, execute=Cluster(scheduler="tcp://127.0.0.1:1"))
    unknown = replace(EXPERIMENT, name="of_my_own")
    with pytest.raises(ValueError, match="no experiment 'of_my_own'"):
        run_experiment(unknown, SETTINGS, tmp_path / "own", execute=Cluster(scheduler="tcp://127.0.0.1:1"))
