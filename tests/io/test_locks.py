"""Locks: one holder at a time, named to the others, freed by the system."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lava_meta.errors import RunFolderError
from lava_meta.io.locks import HeldError, held


def test_one_holder_who_is_named(tmp_path: Path) -> None:
    named = rf"{tmp_path} is in use by process {os.getpid()} on .* since \d{{4}}-"
    with held(tmp_path / ".lock"):
        with pytest.raises(HeldError, match=named), held(tmp_path / ".lock"):
            pytest.fail("two at once")
        assert issubclass(HeldError, RunFolderError)
    with held(tmp_path / ".lock"):
        pass


def test_a_process_that_is_killed_frees_it(tmp_path: Path) -> None:
    code = "import sys\nfrom lava_meta.io.locks import held\nwith held(sys.argv[1]): print(1, flush=True); input()"
    command = [sys.executable, "-c", code, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(HeldError, match=f"process {other.pid}"), held(tmp_path / ".lock"):
            pytest.fail("two at once")
        other.kill()
        other.wait()
    assert (tmp_path / ".lock").exists()
    with held(tmp_path / ".lock"):
        pass


def test_many_threads_never_hold_it_together(tmp_path: Path) -> None:
    inside, most, taken = 0, 0, 0
    counting = threading.Lock()

    def work() -> None:
        nonlocal inside, most, taken
        for _ in range(200):
            try:
                with held(tmp_path / ".lock"):
                    with counting:
                        inside, taken = inside + 1, taken + 1
                        most = max(most, inside)
                    with counting:
                        inside -= 1
            except HeldError:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert taken > 1


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError), held(tmp_path / ".lock"):  # noqa: PT011 (its text is the system's)
        pytest.fail("followed")
    assert (tmp_path / "victim").read_text() == "precious"
