"""A `LavaNetwork` on the compiled kernels, without Lava: the same integers by every method, for every batching."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import lava_meta as command

import lava_meta
from lava_meta.converters.lava import LavaNetwork
from lava_meta.errors import LAVA_INSTALL, LavaMissingError, RunError
from lava_meta.graph import BinaryGraph, ConvLayer, DenseLayer, Readout

SEED = 11


def dense() -> BinaryGraph:
    rng = np.random.default_rng(SEED)
    layers = (
        DenseLayer.from_weights(rng.normal(size=(70, 30)), rng.integers(-900, 900, 70), rng.choice([-1, 1], 70)),
        DenseLayer.from_weights(rng.normal(size=(11, 70)), np.zeros(11), centred=True),
    )
    return BinaryGraph(layers, Readout.from_weights(rng.normal(size=(4, 11)), offset=rng.normal(size=4)), 255, (30,))


def convolutional() -> BinaryGraph:
    rng = np.random.default_rng(SEED)
    conv = ConvLayer.from_weights(rng.normal(size=(3, 1, 3, 3)), (1, 6, 6), np.zeros(3))
    return BinaryGraph((conv,), Readout.from_weights(rng.normal(size=(4, conv.n_out))), 255, (1, 6, 6))


def images(graph: BinaryGraph, n: int) -> np.ndarray:
    return np.random.default_rng(SEED + 1).integers(0, 256, (n, *graph.input_shape), dtype=np.uint8)


@pytest.fixture
def no_lava(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lava cannot be imported, as on a machine without it."""
    monkeypatch.setitem(sys.modules, "lava", None)
    for name in [name for name in sys.modules if name.startswith("lava.")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize("make", [dense, convolutional])
@pytest.mark.parametrize(("n", "lanes"), [(1, 1), (7, 3), (300, 64), (300, 1000)])
def test_every_output_is_the_reference_implementations(make: Callable[[], BinaryGraph], n: int, lanes: int) -> None:
    graph = make()
    net, x = LavaNetwork(graph, backend="kernels"), images(graph, n)
    expected = graph.activations(x)
    with net:
        found = net.activations(x, lanes=lanes)
        assert np.array_equal(net.sums(x, lanes=lanes), expected["readout"])
        assert np.array_equal(net.predict(x, lanes=lanes), graph.predict(x))
    assert {name: array.dtype for name, array in found.items()} == {name: a.dtype for name, a in expected.items()}
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_a_stream_gives_all_in_order_and_refuses_another_meanwhile() -> None:
    graph = dense()
    net, x = LavaNetwork(graph, backend="kernels"), images(dense(), 50)
    stream = net.stream((x[start : start + 7] for start in range(0, 50, 7)), lanes=4, layers=["hidden2", "classes"])
    first = next(stream)
    with pytest.raises(RunError, match="in the middle of a stream"):
        net.predict(x)
    parts = [first, *stream]
    assert np.array_equal(np.concatenate([part["classes"] for part in parts]), graph.predict(x))
    assert np.array_equal(np.concatenate([part["hidden2"] for part in parts]), graph.activations(x)["hidden2"])
    assert np.array_equal(net.predict(x), graph.predict(x))


def test_run_on_kernels() -> None:
    net, x = LavaNetwork(dense()), images(dense(), 9)
    assert np.array_equal(lava_meta.run(net, x, backend="kernels"), net.graph.predict(x))
    with pytest.raises(ValueError, match="no run configuration"):
        net.run_config("kernels")


@pytest.mark.parametrize("form", ["floating_pt", "fixed_pt", "stock"])
def test_what_is_made_of_lavas_processes_has_no_kernels(form: str) -> None:
    with pytest.raises(ValueError, match=f"the form '{form}' is made of Lava's Processes"):
        LavaNetwork(dense(), form=form, backend="kernels")


def test_another_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="backend is 'gpu'"):
        LavaNetwork(dense(), backend="gpu")


class TestWithoutLava:
    @pytest.fixture(autouse=True)
    def _without(self, no_lava: None) -> None: ...

    def test_kernels_run_by_themselves(self) -> None:
        graph = dense()
        with LavaNetwork(graph) as net:
            assert np.array_equal(net.predict(images(graph, 20)), graph.predict(images(graph, 20)))

    @pytest.mark.parametrize("options", [{"backend": "lava"}, {"form": "floating_pt"}, {"form": "stock"}])
    def test_what_is_lavas_own_says_how_to_install_it(self, options: dict[str, Any]) -> None:
        with pytest.raises(LavaMissingError) as caught:
            LavaNetwork(dense(), **options).predict(images(dense(), 1))
        assert LAVA_INSTALL in str(caught.value)

    def test_a_learner_that_learned_in_lava_goes_on(self, tmp_path: Path) -> None:
        path = tmp_path / "learner.safetensors"
        lava_meta.online([16, 3], backend="lava", seed=2).save(path)
        assert lava_meta.load(path).backend == "kernels"

    def test_the_command_line_runs_and_learns(self, tmp_path: Path) -> None:
        graph, x = dense(), images(dense(), 25)
        LavaNetwork(graph).save(tmp_path / "net.safetensors")
        np.save(tmp_path / "x.npy", x)
        done = command("run", "net.safetensors", "x.npy", cwd=tmp_path)
        assert done.returncode == 0
        assert [int(line) for line in done.stdout.split()] == graph.predict(x).tolist()
        learned = command("online", "--data", "digits", "--images", "50", "--hidden", "8", cwd=tmp_path)
        assert learned.returncode == 0
        assert lava_meta.load(tmp_path / "learner.safetensors").backend == "kernels"
        refused = command("run", "net.safetensors", "x.npy", "--backend", "loihi-sim", cwd=tmp_path)
        assert refused.returncode == 1
        assert LAVA_INSTALL in refused.stderr
