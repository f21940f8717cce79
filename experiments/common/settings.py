"""Settings of experiments: frozen dataclasses whose types are checked, and which take values from text.

lava-meta experiment NAME --set epochs=3 --set hidden=512,512 --set train_images=none
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar, Union

S = TypeVar("S", bound="Settings")


@dataclass(frozen=True)
class Settings:
    """The base of every experiment's settings. Raises `TypeError` or `ValueError` naming the setting that is wrong.

    Fields may be int, float, bool, str, Literal, tuples of one of these (tuple[int, ...]), or any of them or None.
    """

    seeds: int = 3  # the experiment is run with seeds 0 .. seeds - 1

    def __post_init__(self) -> None:
        for name, kind in _kinds(type(self)).items():
            object.__setattr__(self, name, _checked(name, getattr(self, name), kind))
        at_least(self, seeds=1)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def changed(settings: S, **values: Any) -> S:
    """`settings` with other values, checked as new ones are."""
    return replace(settings, **values)


def at_least(settings: Any, **least: float) -> None:
    """Raise `ValueError` naming the first setting (or item of one) that lies below its bound; None passes."""
    for name, bound in least.items():
        value = getattr(settings, name)
        for item in value if isinstance(value, tuple) else (value,):
            if item is not None and not item >= bound:
                raise ValueError(f"{name} is {item}; it must be at least {bound}")


def override(settings: S, texts: Iterable[str]) -> S:
    """`settings` with values from texts such as "epochs=3". Raises `ValueError` naming what cannot be understood."""
    kinds, values = _kinds(type(settings)), {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise ValueError(f"{text!r}: give KEY=VALUE")
        if name not in kinds:
            raise ValueError(f"there is no setting {name!r}; there are {', '.join(kinds)}")
        values[name] = _parsed(name, value.strip(), kinds[name])
    return replace(settings, **values)


def _kinds(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls)}  # type: ignore[arg-type]


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) in (Union, types.UnionType) else (kind,)


def _word(kind: Any) -> str:
    if kind is type(None):
        return "none"
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        return f"several, separated by commas, each {_word(typing.get_args(kind)[0])}"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}[kind]


def _checked(name: str, value: Any, kind: Any) -> Any:
    for one in _alternatives(kind):
        if one is type(None):
            if value is None:
                return None
        elif typing.get_origin(one) is Literal:
            if value in typing.get_args(one):
                return value
        elif typing.get_origin(one) is tuple:
            if isinstance(value, list | tuple):
                if not value:
                    raise ValueError(f"{name} is empty; give {_word(one)}")
                return tuple(_checked(f"{name}[{i}]", v, typing.get_args(one)[0]) for i, v in enumerate(value))
        elif one is float:
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
        elif isinstance(value, one) and (one is bool or not isinstance(value, bool)):
            return value
    words = " or ".join(_word(one) for one in _alternatives(kind))
    raise (ValueError if isinstance(value, str) else TypeError)(f"{name} is {value!r}; it must be {words}")


def _parsed(name: str, text: str, kind: Any) -> Any:
    """`text` as a value for `_checked`, which says what is wrong with one that does not fit."""
    for one in _alternatives(kind):
        if one is type(None) and text.lower() == "none":
            return None
        if typing.get_origin(one) is tuple:
            item = typing.get_args(one)[0]
            return tuple(_parsed(name, piece.strip(), item) for piece in text.split(",") if piece.strip())
        if one is bool and text.lower() in ("true", "yes", "on", "false", "no", "off"):
            return text.lower() in ("true", "yes", "on")
        if one in (int, float):
            try:
                return one(text)
            except ValueError:
                continue
    return text
