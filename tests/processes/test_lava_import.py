"""Lava is adapted while it is imported: only its own modules, and the user's process stays as it was."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import multiprocessing
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lava_meta.processes import lava_import

pytest.importorskip("lava.magma")

RUN = """
    import numpy as np
    from lava_meta.converters.lava import LavaNetwork
    from lava_meta.graph import BinaryGraph, Readout

    net = LavaNetwork(BinaryGraph((), Readout.from_weights(np.array([[1.0] * 8, [-1.0] * 8])), 255, (8,)))
    print(net.predict(np.ones((3, 8), np.uint8)).tolist())
"""


def printed(*parts: str) -> list[str]:
    """The lines that a fresh interpreter prints that runs `parts`."""
    code = "\n".join(textwrap.dedent(part) for part in parts)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of the given text, adapted by the given adaptation, as `toy_module`."""

    def load(text: str, adaptation: lava_import.Adaptation) -> ModuleType:
        (tmp_path / "toy_module.py").write_text(textwrap.dedent(text))
        monkeypatch.setattr(sys, "meta_path", [lava_import._Finder({"toy_module": adaptation}), *sys.meta_path])
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "toy_module", raising=False)
        return importlib.import_module("toy_module")

    return load


class TestTheProcessOfTheUser:
    @pytest.mark.lava
    @pytest.mark.parametrize("method", ["spawn", "forkserver", None])
    def test_its_start_method_stays_as_it_was(self, method: str | None) -> None:
        chosen = f"multiprocessing.set_start_method({method!r})" if method else ""
        now = "print(multiprocessing.get_start_method(allow_none=True))"
        assert printed("import multiprocessing", chosen, RUN, now) == ["[0, 0, 0]", str(method)]

    @pytest.mark.lava
    def test_it_may_choose_a_start_method_after_a_run(self) -> None:
        later = "import multiprocessing; multiprocessing.set_start_method('spawn')"
        assert printed(RUN, later, RUN) == ["[0, 0, 0]"] * 2

    @pytest.mark.lava
    @pytest.mark.timeout(200)
    @pytest.mark.parametrize("method", [pytest.param("spawn", marks=pytest.mark.slow), "forkserver"])
    def test_its_workers_start_as_it_has_chosen_before_and_after_a_run(self, method: str, tmp_path: Path) -> None:
        script = f"""
            import multiprocessing, sys
            from torch.utils.data import DataLoader

            def started(number):
                return number, "lava_meta" in sys.modules  # what a fork of this process would have

            if __name__ == "__main__":
                multiprocessing.set_start_method({method!r})
                numbers = [batch.item() for batch in DataLoader(range(4), num_workers=1)]
                {{run}}
                numbers += [batch.item() for batch in DataLoader(range(4), num_workers=1)]
                with multiprocessing.Pool(1) as pool:
                    print(numbers, pool.map(started, [7]), multiprocessing.get_start_method())
        """
        run = textwrap.indent(textwrap.dedent(RUN), " " * 16).strip()
        file = tmp_path / "main.py"
        file.write_text(textwrap.dedent(script.replace("{run}", run)))
        done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == ["[0, 0, 0]", f"[0, 1, 2, 3, 0, 1, 2, 3] [(7, False)] {method}"]

    def test_the_standard_library_is_as_it_was_after_the_import(self) -> None:
        before = "import dataclasses, multiprocessing; kept = dataclasses.dataclass, multiprocessing.set_start_method"
        after = "print(kept == (dataclasses.dataclass, multiprocessing.set_start_method))"
        assert printed(before, "import lava_meta.processes.runtime", after) == ["True"]

    def test_other_threads_may_set_the_start_method_meanwhile(self, toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[str] = []
        monkeypatch.setattr(multiprocessing, "set_start_method", seen.append)
        toy(
            """
            import multiprocessing as mp, threading
            mp.set_start_method("fork")
            other = threading.Thread(target=mp.set_start_method, args=("spawn",))
            other.start(); other.join()
            class SystemProcess(mp.Process): pass
            """,
            lava_import._no_start_method,
        )
        assert seen == ["spawn"]


class TestAdaptations:
    def test_installing_twice_is_installing_once(self) -> None:
        lava_import.install()
        assert sum(isinstance(finder, lava_import._Finder) for finder in sys.meta_path) == 1

    def test_what_was_imported_before_is_adapted_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clamp = ModuleType("clamp")
        clamp.signed_clamp = lambda x, bits: x.dtype
        clamp.conv = lambda x, groups: (x, type(groups))
        monkeypatch.setitem(sys.modules, "clamp", clamp)
        monkeypatch.setattr(sys, "meta_path", [])
        monkeypatch.setattr(lava_import, "needed", lambda: {"clamp": lava_import._wide_integers})
        lava_import.install()
        assert clamp.signed_clamp(np.zeros(1, np.int8), 24) == np.int32
        assert clamp.conv(1, np.int8(2)) == (1, int)

    def test_only_the_modules_own_dataclasses_get_a_hash(self, toy: Any) -> None:
        loaded = toy(
            """
            import dataclasses
            from dataclasses import dataclass
            @dataclass
            class Inner: x: int = 0
            @dataclass
            class Outer: inner: Inner = Inner()
            class Foreign: pass
            Foreign.__module__ = "elsewhere"
            Foreign = dataclass(Foreign)
            """,
            lava_import._hashable_dataclasses,
        )
        assert loaded.Outer().inner == loaded.Inner(0)
        assert hash(loaded.Inner(1)) == hash(loaded.Inner(1))
        assert loaded.Foreign.__hash__ is None

    @pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.1.0", reason="this numpy has reshape(newshape=)")
    def test_ports_reshape(self) -> None:
        from lava.magma.core.process.ports.ports import ReshapePort

        port = ReshapePort(new_shape=(2, 3), old_shape=(6,))
        assert port.get_transform_func_fwd()(np.arange(6)).tolist() == [[0, 1, 2], [3, 4, 5]]
        assert port.get_transform_func_bwd()(np.zeros((2, 3))).shape == (6,)

    @pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
    def test_sums_of_24_bits_wrap_as_in_numpy_1(self, dtype: type) -> None:
        from lava.proc.conv import utils

        extremes = np.array([np.iinfo(np.int8).min, -1, 0, np.iinfo(np.int8).max], dtype)
        clamped = utils.signed_clamp(extremes, bits=24)
        assert clamped.tolist() == extremes.tolist()
        assert clamped.dtype == np.promote_types(dtype, np.int32)
        assert utils.signed_clamp(np.array([2**23, -(2**23) - 1]), bits=24).tolist() == [-(2**23), 2**23 - 1]

    def test_threads_get_a_number_each(self, toy: Any) -> None:
        loaded = toy(
            """
            import time
            class IdGeneratorSingleton:
                _next_id = 0
                def get_next_id(self):
                    number = self._next_id
                    time.sleep(0.001)
                    self._next_id = number + 1
                    return number
            """,
            lava_import._one_number_each,
        )
        server, numbers = loaded.IdGeneratorSingleton(), []
        threads = [threading.Thread(target=lambda: numbers.append(server.get_next_id())) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(numbers) == list(range(20))

    def test_lava_forks_whatever_the_start_method(self) -> None:
        from lava.magma.compiler.channels import pypychannel
        from lava.magma.runtime import runtime

        context = multiprocessing.get_context("fork")
        assert pypychannel.Semaphore == context.Semaphore
        assert runtime.Queue == context.Queue

    def test_other_names_of_a_module_stay(self, toy: Any) -> None:
        loaded = toy("from queue import Queue\nfrom multiprocessing import Semaphore", lava_import._forking_names)
        assert loaded.Queue.__module__ == "queue"
        assert loaded.Semaphore == multiprocessing.get_context("fork").Semaphore

    def test_reshape_of_a_port_is_by_shape(self) -> None:
        module = SimpleNamespace(ReshapePort=type("ReshapePort", (), {"shape": (2, 1), "old_shape": (2,)}))
        with lava_import._reshape_by_shape(module):
            pass
        forward = module.ReshapePort().get_transform_func_fwd()
        assert isinstance(forward, functools.partial)
        assert forward.keywords == {"shape": (2, 1)}

    def test_a_failing_import_restores_the_standard_library(self, toy: Any) -> None:
        original = dataclasses.dataclass
        with pytest.raises(ZeroDivisionError):
            toy("1 / 0", lava_import._hashable_dataclasses)
        assert dataclasses.dataclass is original
