"""Upper rooms offer things by name, and lower ones find them without an import."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from lava_meta import providers
from lava_meta.data import load_dataset
from lava_meta.errors import FormatError
from lava_meta.online_learning import Learner, load_learner
from lava_meta.online_learning.backend import LocalBackend


def test_what_was_provided_is_found_as_an_object_or_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_PROVIDED", {})
    providers.provide("colour", "own", [1, 2])
    providers.provide("colour", "named", "string:digits")
    assert providers.find("colour", "own") == [1, 2]
    assert providers.find("colour", "named") == "0123456789"


def test_an_unknown_name_gets_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"backend is 'loihi'; choose one of lava, kernels, reference$"):
        providers.find("backend", "loihi")


def test_a_learner_runs_where_a_user_provides_a_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(providers, "_PROVIDED", {kind: dict(names) for kind, names in providers._PROVIDED.items()})
    providers.provide("backend", "mine", LocalBackend(compiled=False))
    images = load_dataset("digits").train
    own, kernels = (Learner([64, 10], backend=backend) for backend in ("mine", "kernels"))
    for learner in (own, kernels):
        learner.fit(images, images=40)
    np.testing.assert_array_equal(own.hidden[0], kernels.hidden[0])
    own.save(tmp_path / "learner.safetensors")
    assert load_learner(tmp_path / "learner.safetensors").backend == "mine"
    del providers._PROVIDED["backend"]["mine"]
    with pytest.raises(FormatError, match="backend is 'mine'; choose one of lava, kernels, reference"):
        load_learner(tmp_path / "learner.safetensors")
    assert load_learner(tmp_path / "learner.safetensors", backend="reference").backend == "reference"


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys, lava_meta.online_learning as o; o.Learner([64, 10], backend='lava');"
        "print([m for m in sys.modules if m.split('.')[0] == 'lava' or m.startswith('lava_meta.converters')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_old_name_of_the_reference_warns_and_loads(tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match='"oracle" is now "reference"'):
        learner = Learner([64, 10], backend="oracle")
    assert learner.backend == "reference"
    learner.backend = "oracle"  # as files of 0.1 have it
    learner.save(tmp_path / "learner.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        assert load_learner(tmp_path / "learner.safetensors").backend == "reference"
