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
from lava_meta.converters.calling import floats_in


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
    if np.allclose(np.exp(theirs).sum(axis=1), 1):  # a log-softmax: the network's values are those before
        values = torch.log_softmax(torch.from_numpy(values), 1).numpy()
    # Signs within the bound of a threshold may fall to the other side: counted as ties, and rare.
    close = np.abs(values - theirs).max(axis=1) <= 1e-5 * (1 + np.abs(theirs).max(axis=1))
    assert close.sum() >= len(levels) - 1
    assert (values.argmax(axis=1) == theirs.argmax(axis=1))[close].all()
    net.save(tmp_path / "net.safetensors")
    loaded = lava_meta.load(tmp_path / "net.safetensors")
    assert isinstance(loaded, lava_meta.LavaNetwork)
    assert np.array_equal(loaded.graph.sums(levels[:5]), net.graph.sums(levels[:5]))


def test_the_table_of_forms() -> None:
    assert PAGE.read_text(encoding="utf-8") == table(), "run python tests/support/forms_table.py"
