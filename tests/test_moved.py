"""Modules that moved are found by their old names, with a warning that names the new one."""

from __future__ import annotations

import importlib
import sys

import pytest

from lava_meta.moved import MOVED


@pytest.mark.parametrize("old", MOVED)
def test_the_old_name_gives_the_same_module(old: str) -> None:
    sys.modules.pop(f"lava_meta.{old}", None)
    with pytest.warns(DeprecationWarning, match=rf"lava_meta\.{old} moved to lava_meta\.{MOVED[old]}"):
        found = importlib.import_module(f"lava_meta.{old}")
    assert found is importlib.import_module(f"lava_meta.{MOVED[old]}")


def test_names_of_the_old_modules_are_there() -> None:
    import lava_meta

    sys.modules.pop("lava_meta.streams", None)
    with pytest.warns(DeprecationWarning, match=r"moved to lava_meta\.data"):
        streams = importlib.import_module("lava_meta.streams")
    assert streams.permuted_tasks is lava_meta.permuted_tasks


def test_names_that_moved_are_found_with_a_warning() -> None:
    import lava_meta

    with pytest.warns(DeprecationWarning, match=r"lava_meta\.online_learning\.online is lava_meta\.converters\.online"):
        from lava_meta.online_learning import online
    assert online is lava_meta.online
    learner = online([6, 3], backend="reference", seed=1, input_mean=0.2)
    with pytest.warns(DeprecationWarning, match=r"Learner\.network is lava_meta\.converters\.convert"):
        network = learner.network()
    assert network.graph.to_bytes() == lava_meta.convert(learner).graph.to_bytes()


def test_a_name_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("lava_meta.nowhere")
