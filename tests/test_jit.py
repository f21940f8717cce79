"""The package's compiled functions in environments that numba alone would refuse or leave in Python."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from namespaces import OWN_MOUNTS, require_own_mounts

ROOT = Path(__file__).parents[1]
USE = """
import numpy as np
import torch
from lava_meta.converters.lava import LavaNetwork
from lava_meta.data import Images
from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.online_learning import Learner

rng = np.random.default_rng(0)
hidden = DenseLayer.from_weights(rng.normal(size=(16, 8)), 100 * rng.normal(size=16))
graph = BinaryGraph((hidden,), Readout.from_weights(rng.normal(size=(3, 16))), 255, (8,))
x = rng.integers(0, 256, (40, 8), dtype=np.uint8)
images = Images(torch.from_numpy(x), torch.arange(40) % 3, "toy", 3)
for backend in BACKENDS:
    assert LavaNetwork(graph, backend=backend).predict(x, lanes=4).tolist() == graph.predict(x).tolist()
predictions = []
for backend in BACKENDS:
    learner = Learner([8, 6, 3], backend=backend, lanes=4, seed=1)
    learner.fit(images)
    predictions.append(learner.predict(x).tolist())
assert all(row == predictions[0] for row in predictions)
print("equal")
"""


def run(code: str, *before: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment, cwd=ROOT, check=False)


@pytest.fixture
def backends() -> str:
    """The code that names them, Lava where it is."""
    try:
        import lava.magma  # noqa: F401
    except ImportError:
        return 'BACKENDS = ("kernels",)'
    return 'BACKENDS = ("kernels", "lava")'


@pytest.mark.lava
@pytest.mark.parametrize("environment", [{"NUMBA_DISABLE_JIT": "1"}, {"PYTHONWARNINGS": "error"}], ids=str)
def test_predictions_and_learning(backends, environment):
    done = run(backends + USE, PATH="/usr/bin:/bin", HOME=str(Path.home()), **environment)
    assert (done.stdout, done.stderr) == ("equal\n", "")


@pytest.mark.slow
@pytest.mark.timeout(290)
def test_an_installation_and_a_home_that_cannot_be_written(backends):
    require_own_mounts()
    read_only = f'mount --bind {ROOT} {ROOT} && mount -o remount,bind,ro {ROOT} && cd {ROOT} && exec "$@"'
    before = [*OWN_MOUNTS, "sh", "-c", read_only, "sh"]
    refused = run(f"open({str(ROOT / 'x')!r}, 'w')", *before, PATH="/usr/bin:/bin", HOME="/proc/none")
    assert "Read-only file system" in refused.stderr
    done = run(backends + USE, *before, PATH="/usr/bin:/bin", HOME="/proc/none")
    assert done.stdout == "equal\n", done.stderr
    assert "set NUMBA_CACHE_DIR" in done.stderr


def test_a_first_call_compiles_what_numba_has_in_python() -> None:
    done = run(
        """
        import numpy as np
        from lava_meta.jit import njit

        total = njit()(lambda x: np.sort(x)[::-1].copy().sum() + np.roll(x, 1)[0])
        print(total(np.arange(5)), total.signatures != [])
        """,
        NUMBA_DISABLE_JIT="1",
    )
    assert done.stdout == "14 True\n", done.stderr


def test_the_switch_of_numba_stays_as_it_was():
    done = run("import numba, lava_meta.graph.packed.loops; print(numba.config.DISABLE_JIT)", NUMBA_DISABLE_JIT="1")
    assert done.stdout == "1\n", done.stderr
