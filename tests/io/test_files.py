"""Files: whole or not there whoever writes, nothing followed, nothing left; read without waiting."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from lava_meta.errors import FormatError, TooLargeError
from lava_meta.io.files import (
    open_regular,
    read_checked_json,
    read_json,
    reading,
    remove_leftovers,
    write_atomically,
    write_checked_json,
    write_folder_atomically,
    write_json,
    write_text,
)
from lava_meta.io.sealed import GRAPH, read_sealed, write_sealed


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed_while_writing(path: Path) -> str:
    """Name of what a process leaves that is killed in the middle of writing `path`."""
    code = (
        "import os, sys\nfrom lava_meta.io.files import write_atomically\n"
        "with write_atomically(sys.argv[1]) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), 9)\n"
    )
    before = set(path.parent.iterdir())
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    (left,) = {*path.parent.iterdir()} - before
    return left.name


class TestWriting:
    def test_threads_that_save_to_one_place_lose_nothing(self, tmp_path: Path) -> None:
        """Two threads save 100 times each, each a content of its own; a reader beside them sees whole files only."""
        path = tmp_path / "net.safetensors"
        contents = [{"x": np.full(60_000, k, np.int64)} for k in range(2)]
        write_sealed(path, {"format": GRAPH, "version": 1}, contents[0])
        failed: list[str] = []
        done = threading.Event()

        def save(k: int) -> None:
            for _ in range(100):
                try:
                    write_sealed(path, {"format": GRAPH, "version": 1}, contents[k])
                except Exception as error:
                    failed.append(f"save: {error!r}")

        def read() -> None:
            while not done.is_set():
                try:
                    x = read_sealed(path, GRAPH, range(1, 2))[1]["x"]
                    assert (x == x[0]).all()
                except Exception as error:
                    failed.append(f"read: {error!r}")

        reader = threading.Thread(target=read)
        writers = [threading.Thread(target=save, args=(k,)) for k in range(2)]
        for thread in (reader, *writers):
            thread.start()
        for thread in writers:
            thread.join()
        done.set()
        reader.join()
        assert failed == []
        assert names(tmp_path) == ["net.safetensors"]

    def test_a_link_at_the_earlier_temporary_name_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "victim").write_text("precious")
        link = tmp_path / f".net.{os.getpid()}.part"
        link.symlink_to(tmp_path / "victim")
        write_text(tmp_path / "net", "content")
        assert (tmp_path / "victim").read_text() == "precious"
        assert (tmp_path / "net").read_text() == "content"
        assert not (tmp_path / "net").is_symlink()
        remove_leftovers(tmp_path / "net")
        assert link.is_symlink()  # not ours: we leave no links

    def test_a_file_in_the_place_of_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "victim").write_text("precious")
        (tmp_path / "net").symlink_to(tmp_path / "victim")
        write_text(tmp_path / "net", "content")
        assert (tmp_path / "victim").read_text() == "precious"
        assert (tmp_path / "net").read_text() == "content"

    def test_names_are_drawn_anew(self, tmp_path: Path) -> None:
        seen = set()
        for _ in range(20):
            with write_atomically(tmp_path / "net"):
                seen |= set(names(tmp_path)) - {"net"}
        assert len(seen) == 20

    @pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
    def test_the_mode_of_an_ordinary_file(self, umask: int, tmp_path: Path) -> None:
        before = os.umask(umask)
        try:
            write_text(tmp_path / "ours", "x")
            (tmp_path / "ordinary").write_text("x")
            for name in ("ours", "ordinary"):
                assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~umask
            (tmp_path / "ours").chmod(0o640)
            write_text(tmp_path / "ours", "y")  # opening a file that is there leaves its mode
            assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == 0o640
        finally:
            os.umask(before)

    def test_a_failure_leaves_what_was_there_and_nothing_else(self, tmp_path: Path) -> None:
        write_text(tmp_path / "net", "before")

        def half() -> None:
            with write_atomically(tmp_path / "net") as file:
                file.write(b"half")
                raise ValueError("half")

        with pytest.raises(ValueError, match="half"):
            half()
        assert (tmp_path / "net").read_text() == "before"
        assert names(tmp_path) == ["net"]

    def test_what_is_no_file_is_never_replaced(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "folder").mkdir()
        for name, kind in (("pipe", "a pipe"), ("folder", "a folder")):
            with pytest.raises(FileExistsError, match=kind):
                write_text(tmp_path / name, "x")
        with pytest.raises(FileExistsError, match="/dev/null is a device"):
            write_text("/dev/null", "x")
        assert names(tmp_path) == ["folder", "pipe"]


class TestLeftovers:
    def test_of_a_killed_run_go_once_they_are_old(self, tmp_path: Path) -> None:
        left = killed_while_writing(tmp_path / "net")
        write_text(tmp_path / "net", "1")
        assert names(tmp_path) == sorted([left, "net"])  # a moment old: left alone
        long_ago = time.time() - 7200
        os.utime(tmp_path / left, (long_ago, long_ago))
        write_text(tmp_path / "net", "2")
        assert names(tmp_path) == ["net"]

    def test_at_once_for_who_keeps_other_writers_out(self, tmp_path: Path) -> None:
        left = killed_while_writing(tmp_path / "net")
        (tmp_path / ".net.4711.part").write_text("of an earlier version")
        assert names(tmp_path) == sorted([".net.4711.part", left])
        remove_leftovers(tmp_path / "net")
        assert names(tmp_path) == []

    def test_a_writer_at_work_keeps_its_file_however_old(self, tmp_path: Path) -> None:
        with write_atomically(tmp_path / "net") as file:
            (temporary,) = tmp_path.iterdir()
            os.utime(temporary, (0, 0))
            remove_leftovers(tmp_path / "net")
            write_text(tmp_path / "net", "another writer's")
            file.write(b"whole")
        assert (tmp_path / "net").read_text() == "whole"
        assert names(tmp_path) == ["net"]

    def test_other_files_stay(self, tmp_path: Path) -> None:
        others = [
            ".net.part",
            ".net.x.part",
            ".net.b.0123456789abcdef.part",
            ".other.0123456789abcdef.part",
            "net.part",
        ]
        for name in others:
            (tmp_path / name).write_text("keep")
        remove_leftovers(tmp_path / "net")
        assert names(tmp_path) == sorted(others)


class TestFolders:
    def test_whole_or_not_there(self, tmp_path: Path) -> None:
        def half() -> None:
            with write_folder_atomically(tmp_path / "bundle") as folder:
                (folder / "a").write_text("half")
                raise ValueError("half")

        with pytest.raises(ValueError, match="half"):
            half()
        assert names(tmp_path) == []
        for text in ("first", "second"):
            with write_folder_atomically(tmp_path / "bundle") as folder:
                (folder / text).write_text(text)
        assert names(tmp_path) == ["bundle"]
        assert names(tmp_path / "bundle") == ["second"]


class TestReading:
    def test_what_is_no_file_is_refused_without_waiting(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        os.mkfifo(tmp_path / "pipe")
        with socket.socket(socket.AF_UNIX) as end, monkeypatch.context() as patch:
            patch.chdir(tmp_path)  # the path of a socket is a short one
            end.bind("socket")
        places = {"a pipe": tmp_path / "pipe", "a folder": tmp_path, "a socket": tmp_path / "socket"}
        for kind, place in (*places.items(), ("a device", Path("/dev/zero"))):
            with pytest.raises(FormatError, match=f"{place} is {kind}, and not a file"):
                open_regular(place)
        with pytest.raises(FileNotFoundError):
            open_regular(tmp_path / "missing")

    @pytest.mark.parametrize("text", ["", "{", "[" * 200_000, "\udcff", '{"a": 1}x'])
    def test_broken_json(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "file.json").write_text(text, errors="surrogateescape")
        with pytest.raises(FormatError, match=r"file\.json cannot be read"):
            read_json(tmp_path / "file.json")

    def test_every_failure_has_one_name(self, tmp_path: Path) -> None:
        for error in (KeyError("a"), IndexError("b"), ZeroDivisionError("c"), RecursionError("d"), AttributeError("e")):
            with pytest.raises(FormatError, match=r"net\.x"), reading("net.x"):
                raise error
        with pytest.raises(TooLargeError, match=r"net\.x"), reading("net.x"):
            raise MemoryError
        with pytest.raises(PermissionError), reading("net.x"):
            raise PermissionError

    def test_a_checksum_in_json(self, tmp_path: Path) -> None:
        path = tmp_path / "result.json"
        write_checked_json(path, {"ACC": 0.1 + 0.2, "names": ["a", "ö"], "none": None})
        assert read_checked_json(path) == {"ACC": 0.1 + 0.2, "names": ["a", "ö"], "none": None}
        for altered in (path.read_text().replace("0.30000000000000004", "0.9"), json.dumps({"ACC": 0.9})):
            path.write_text(altered)
            with pytest.raises(FormatError, match=r"result\.json .*altered"):
                read_checked_json(path)
        write_json(path, [1])
        with pytest.raises(FormatError, match=r"result\.json"):
            read_checked_json(path)
