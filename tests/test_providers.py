"""Upper rooms offer things by name, and lower ones find them without an import."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lava_meta import providers


def test_what_was_provided_is_found_as_an_object_or_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_PROVIDED", {})
    providers.provide("colour", "own", [1, 2])
    providers.provide("colour", "named", "string:digits")
    assert providers.find("colour", "own") == [1, 2]
    assert providers.find("colour", "named") == "0123456789"


def test_an_unknown_name_gets_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"backend is 'loihi'; choose one of lava, kernels, oracle$"):
        providers.find("backend", "loihi")


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys, lava_meta.online_learning as o; o.Learner([64, 10], backend='lava');"
        "print([m for m in sys.modules if m.split('.')[0] == 'lava' or m.startswith('lava_meta.converters')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
