"""Networks in the forms in which people publish them convert as they are, and compute what PyTorch computes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forms_table import PAGE, table
from published_forms import FORMS, fed, images, made
from torch import Tensor, nn

import lava_meta
from lava_meta.converters.recording.calling import floats_in
from lava_meta.nn import BinaryConv2d, Sign


def outputs(model: nn.Module, name: str, x: Tensor) -> Tensor:
    """What the model gives in float64, of the head that is converted."""
    model = copy.deepcopy(model).double()
    with torch.no_grad(), floats_in(torch.float64):
        found: Any = model(x.clone())
    output = FORMS[name].options.get("output")
    if isinstance(found, dict):
        found = found[output]
    return found if isinstance(found, Tensor) else found[0]


@pytest.mark.parametrize("name", FORMS)
def test_a_published_form(name: str, tmp_path: Path) -> None:
    model, options = made(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    net = lava_meta.convert(model, **options)
    assert net.parity.exact
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    levels = images(name, 300, 7)
    theirs = outputs(model, name, fed(name, levels)).numpy()
    values = net.graph.readout.values(net.graph.sums(levels))
    if theirs.ndim == 2 and np.allclose(
        np.exp(theirs).sum(axis=1), 1
    ):  # a log-softmax: the network's values are those before
        values = torch.log_softmax(torch.from_numpy(values), 1).numpy()
    # Signs within the bound of a threshold may fall to the other side: counted as ties, and rare.
    assert values.shape == theirs.shape
    every = tuple(range(1, theirs.ndim))
    close = np.abs(values - theirs).max(axis=every) <= 1e-5 * (1 + np.abs(theirs).max(axis=every))
    assert close.sum() >= len(levels) - 1
    assert (values.argmax(axis=1) == theirs.argmax(axis=1))[close].all()
    net.save(tmp_path / "net.safetensors")
    loaded = lava_meta.load(tmp_path / "net.safetensors")
    assert isinstance(loaded, lava_meta.LavaNetwork)
    assert np.array_equal(loaded.graph.sums(levels[:5]), net.graph.sums(levels[:5]))


def test_a_map_has_a_class_at_each_place(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), Sign(), BinaryConv2d(4, 3, 3, padding=1))
    levels = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8))
    model((torch.from_numpy(levels).float() / 255 - 0.5) / 0.25)  # statistics
    net = lava_meta.convert(model.eval(), mean=0.5, std=0.25, input_shape=(1, 8, 8))
    with torch.no_grad():
        expected = copy.deepcopy(model).double()((torch.from_numpy(levels).double() / 255 - 0.5) / 0.25).numpy()
    assert len(np.unique(expected.argmax(axis=1))) == 3
    assert np.allclose(net.logits(levels), expected)
    assert np.array_equal(net.predict(levels, lanes=2), expected.argmax(axis=1))
    net.save(tmp_path / "net.safetensors")
    assert np.array_equal(lava_meta.load(tmp_path / "net.safetensors").graph.predict(levels), expected.argmax(axis=1))
    found = net.compare(model, levels)
    assert found.images == found.equal == len(levels)
    wire = lava_meta.to_nir(net.graph)
    assert np.array_equal(lava_meta.from_nir(wire).predict(levels), expected.argmax(axis=1))


def test_the_table_of_forms() -> None:
    assert PAGE.read_text(encoding="utf-8") == table(), "run python tests/support/forms_table.py"


def test_levels_that_are_multiples_of_no_number_are_verified() -> None:
    """Those of 8 bits, behind the gains of a norm and a rectifier, are no curve that is followed."""
    model, options = made("ranges")
    net = lava_meta.convert(model, **options)
    assert net.parity.exact
    assert not net.parity.unverified
