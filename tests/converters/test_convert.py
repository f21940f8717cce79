"""`lava_meta.convert` and `lava_meta.load`: the public way from a model to Lava, on real Lava."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

import lava_meta
from lava_meta.converters.chain.folding import prepare
from lava_meta.converters.parity.chain import model_activations
from lava_meta.errors import LAVA_INSTALL, ConversionError
from lava_meta.nn import BinaryMLP, recalibrate


def _trained_norms(norm: str) -> BinaryMLP:
    model = BinaryMLP([64, 50, 37, 10], norm=norm, pixel_mean=90, seed=4)  # type: ignore[arg-type]
    if norm == "batch":
        recalibrate(model, torch.randint(0, 256, (200, 64), generator=torch.Generator().manual_seed(0)))
    return model.eval()


@pytest.mark.lava
@pytest.mark.parametrize("norm", ["fixed", "batch", "layer"])
def test_lava_gives_every_sign_and_class_of_the_float64_model(norm: str) -> None:
    model = _trained_norms(norm)
    net = lava_meta.convert(model)
    images = np.random.default_rng(1).integers(0, 256, (150, 8, 8)).astype(np.uint8)
    expected = model_activations(prepare(model), torch.from_numpy(images).double())
    with net:
        found = net.activations(images, lanes=32)
        classes = net.predict(images, lanes=32)
    assert np.array_equal(found["hidden1"], expected["hidden1"])
    assert np.array_equal(found["hidden2"], expected["hidden2"])
    assert np.array_equal(classes, expected["readout"].argmax(axis=1))


@pytest.mark.lava
def test_a_saved_network_loads_and_runs_alike(tmp_path: Path) -> None:
    net = lava_meta.convert(_trained_norms("fixed"))
    images = np.random.default_rng(1).integers(0, 256, (40, 64)).astype(np.uint8)
    net.save(tmp_path / "net.safetensors")
    loaded = lava_meta.load(tmp_path / "net.safetensors")
    assert np.array_equal(loaded.predict(images), net.graph.predict(images))
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "net.safetensors").read_bytes()


def test_convert_returns_what_its_self_check_saw() -> None:
    net = lava_meta.convert(_trained_norms("fixed"))
    assert net.parity.exact
    assert net.parity.images == 64
    assert net.parity.compared == 64 * (50 + 37 + 1)
    assert net.parity.to_dict()["mismatches"] == {"hidden1": 0, "hidden2": 0, "readout": 0}


def test_a_mismatch_is_refused_unless_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A converter that is wrong by one threshold does not get past its own check."""
    import lava_meta.converters.chain.folding as converter

    search = converter._search

    def wrong(*arguments):  # type: ignore[no-untyped-def]
        threshold, polarity = search(*arguments)
        threshold[0] += 2
        return threshold, polarity

    monkeypatch.setattr(converter, "_search", wrong)
    with pytest.raises(ConversionError, match=r"differs from the model: .*'hidden2': [1-9]"):
        lava_meta.convert(_trained_norms("fixed"))
    assert not lava_meta.convert(_trained_norms("fixed"), strict=False).parity.exact


WITHOUT_LAVA = """
    import sys

    class Block:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "lava":
                raise ImportError(f"{name} is blocked")

    sys.meta_path.insert(0, Block())
    import numpy as np
    import lava_meta

    for name in lava_meta.__all__:
        getattr(lava_meta, name)
    net = lava_meta.convert(lava_meta.BinaryMLP([16, 8, 3], seed=0).eval())
    images = np.random.default_rng(0).integers(0, 256, (200, 16), dtype=np.uint8)
    assert (net.predict(images, lanes=3) == net.graph.predict(images)).all()
    assert (lava_meta.run(net, images) == net.graph.predict(images)).all()
    learner = lava_meta.online([16, 3], seed=0)
    assert learner.backend == "kernels"
    calls = [
        lambda: lava_meta.LavaNetwork(net.graph, form="stock").predict(images),
        lambda: lava_meta.LavaNetwork(net.graph, backend="lava").predict(images),
        lambda: lava_meta.run(net, images, backend="loihi-sim"),
        net.process,
        net.run_config,
        lava_meta.online([16, 3], backend="lava").__enter__,
    ]
    for call in calls:
        try:
            call()
        except lava_meta.LavaMetaError as error:
            assert isinstance(error, ImportError)
            print(type(error).__name__, error)
"""


def test_without_lava_everything_runs_but_lavas_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WITHOUT_LAVA)], capture_output=True, text=True, timeout=200, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 6
    assert all(line.startswith("LavaMissingError") and LAVA_INSTALL in line for line in lines)
    told = "Lava cannot be imported here (not installed: lava-nc): the compiled kernels run instead, with equal results"
    assert done.stderr.splitlines().count(told) == 1
