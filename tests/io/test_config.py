"""Settings from text and files: what is read is what was written; errors name setting, value and range."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from lava_meta.errors import FormatError
from lava_meta.io.config import (
    OrNone,
    Several,
    changed,
    check,
    knows,
    lines,
    override,
    read_config,
    to_dict,
    write_config,
)
from lava_meta.rule import Exponential
from lava_meta.training import TrainSettings


@dataclass(frozen=True)
class Die:
    sides: Annotated[int, Field(ge=2)] = 6
    colour: Literal["red", "blue"] = "red"

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Game:
    m: Several[Annotated[float, Field(ge=0)]] = (0.0, 1.0)
    bias: float = 0.5
    loaded: bool = False
    limit: OrNone[Annotated[int, Field(ge=1)]] = None
    on: str = "Sunday"
    die: Die = Die()
    other: Die = Die(sides=20)

    def __post_init__(self) -> None:
        check(self)


def test_values_from_text() -> None:
    got = override(Game(), ["die.sides=8", "bias=2", "loaded=yes", "limit=3", "m=0,1.5", "other.colour=blue"])
    assert got == Game((0.0, 1.5), 2.0, True, 3, die=Die(8), other=Die(20, "blue"))
    assert override(got, ["limit=none", "loaded=off", "bias=1e-7"]) == replace(got, limit=None, loaded=False, bias=1e-7)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("bias", "'bias': give KEY=VALUE"),
        ("sizes=3", "no setting 'sizes'; there are m, bias, .*, die.sides, die.colour"),
        ("sides=3", "sides is a setting of die and of other: give one, as die.sides"),
        ("die=3", "die is '3'; it holds settings: give die.KEY"),
        ("die.sides=six", "sides is 'six'; it must be a valid integer"),
        ("die.sides=1", "sides is '1'; it must be greater than or equal to 2"),
        ("bias=x", "bias is 'x'; it must be a valid number"),
        ("loaded=maybe", "loaded is 'maybe'; it must be a valid boolean"),
        ("limit=some", "limit is 'some'; it must be a valid integer"),
        ("die.colour=green", "colour is 'green'; it must be 'red' or 'blue'"),
        ("m=", "m is ''; it must have at least 1 item"),
        ("m=1,x", r"m\[1\] is 'x'; it must be a valid number"),
        ("m=1,nan", r"m\[1\] is 'nan'; it must be greater"),
    ],
)
def test_a_text_that_does_not_fit_is_named(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        override(Game(), [text])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"limit": 2.5}, "limit is 2.5; it must be a valid integer"),
        ({"limit": True}, "limit is True"),
        ({"limit": "3"}, "limit is '3'"),
        ({"loaded": 1}, "loaded is 1; it must be a valid boolean"),
        ({"die": 3}, "die is 3; it must be an instance of Die"),
    ],
)
def test_in_python_and_in_files_types_are_strict(values: dict[str, Any], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        Game(**values)
    if "die" not in values:
        with pytest.raises(TypeError, match=says):
            changed(Game(), values)


SETTINGS = [
    Game(),
    Game(m=(1e-7, 2.0), limit=3, on="yes", die=Die(4, "blue")),
    TrainSettings(lr=1e-5, m=(2.0, 4.0)),
    TrainSettings(consolidation=Exponential(3.0), weight_decay=0.0),
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_files_give_back_what_was_written(settings: Any, tmp_path: Path) -> None:
    write_config(tmp_path / "run.yaml", settings)
    (tmp_path / "run.json").write_text(json.dumps(to_dict(settings)))
    for file in ("run.yaml", "run.json"):
        assert changed(type(settings)(), read_config(tmp_path / file)) == settings


def test_a_file_by_hand(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("on: off  # a word\nm: [1e-3, 2]\ndie:\n  sides: 12\nother.sides: 8\n")
    got = changed(Game(), read_config(tmp_path / "run.yaml"))
    assert got == Game(m=(0.001, 2.0), on="off", die=Die(12), other=Die(8))
    assert "die.sides = 12" in lines(got)


@pytest.mark.parametrize("text", ["", "- 1\n", "a: [1\n", "a: !!python/object/apply:os.getcwd []\n"])
def test_what_is_no_configuration_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(FormatError, match=r"run\.yaml"):
        read_config(tmp_path / "run.yaml")


def test_which_settings_there_are() -> None:
    known = ["bias", "die.sides", " other.colour"]
    assert [name for name in [*known, "die.size", "sides", "size"] if knows(Game(), name)] == known
