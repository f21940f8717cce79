"""Settings as frozen dataclasses: checked when they are made, changed by `KEY=VALUE`, kept in YAML and JSON files.

A field's annotation says what it takes, and pydantic reads it: `epochs: Annotated[int, Field(ge=1)] = 20`. A dataclass
whose `__post_init__` calls `check` accepts nothing else. Settings may contain settings; a name of one of theirs alone
(`lr`) means the same as its path (`training.lr`), unless the outer ones have a field of that name.
"""

from __future__ import annotations

import os
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from lava_meta.errors import FormatError
from lava_meta.io.files import open_regular, reading, write_text

CONFIG = "config.yaml"  # in a run's folder: what `--config` takes to do the same again

T = TypeVar("T")
S = TypeVar("S")


def _split(value: Any) -> Any:
    """A text such as "512, 512" as its pieces, a list as a tuple."""
    if isinstance(value, str):
        return tuple(piece.strip() for piece in value.split(",") if piece.strip())
    return tuple(value) if isinstance(value, list) else value


def _none(value: Any) -> Any:
    return None if isinstance(value, str) and value.strip().lower() == "none" else value


Several = Annotated[tuple[T, ...], BeforeValidator(_split), Field(min_length=1)]
"""A tuple of one value or more; as text "1,2"."""
OrNone = Annotated[T | None, BeforeValidator(_none)]
"""A value or None; as text "none"."""


def check(settings: Any) -> None:
    """Check every field of a frozen dataclass, in its `__post_init__`. Lists become tuples, whole numbers floats.

    Raises:
        TypeError: A value of another type, named with its setting and what is allowed.
        ValueError: A value out of range, likewise.
    """
    for name, adapter in _adapters(settings).items():
        object.__setattr__(settings, name, _valid(name, adapter, getattr(settings, name), strict=True))


def changed(settings: S, values: Mapping[str, Any], *, from_text: bool = False) -> S:
    """`settings` with other values, by name or path; mappings change what settings contain. Checked as new ones are.

    Args:
        settings: A dataclass whose `__post_init__` checks.
        values: By name ("lr") or path ("training.lr").
        from_text: Whether values are texts, of which "0.01" is a number, "1,2" several and "none" None.

    Raises:
        TypeError: As `check`, for values that are not texts.
        ValueError: An unknown or ambiguous name, or as `check`.
    """
    adapters, new = _adapters(settings), dict[str, Any]()
    for path, value in values.items():
        name, _, rest = _path(settings, str(path)).partition(".")
        if is_dataclass(getattr(settings, name)):
            inner = {rest: value} if rest else value
            if not isinstance(inner, Mapping) and not is_dataclass(inner):
                raise ValueError(f"{name} is {value!r}; it holds settings: give {name}.KEY, as in {_keys(settings)}")
            new.setdefault(name, {}).update(inner if isinstance(inner, Mapping) else to_dict(inner))
        else:
            new[name] = _valid(name, adapters[name], value, strict=False) if from_text else value
    for name, inner in new.items():
        if is_dataclass(getattr(settings, name)):
            new[name] = changed(getattr(settings, name), inner, from_text=from_text)
    return typing.cast(S, replace(typing.cast(Any, settings), **new))


def override(settings: S, texts: Iterable[str]) -> S:
    """`settings` with values from texts such as "training.epochs=3". Raises `ValueError` as `changed` does."""
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{text!r}: give KEY=VALUE")
        values[_name(name)] = value.strip()
    return changed(settings, values, from_text=True)


def knows(settings: Any, text: str) -> bool:
    """Whether there is a setting of this name or path, as `override` takes it."""
    try:
        outer, _, inner = _path(settings, _name(text)).partition(".")
    except ValueError:
        return False
    return not inner or knows(getattr(settings, outer), inner)


def to_dict(settings: Any) -> dict[str, Any]:
    """As JSON and YAML hold it; `changed` makes the same settings of it."""
    kind: Any = type(settings)
    return dict(_adapter(kind).dump_python(settings, mode="json"))


def leaves(settings: Any) -> dict[str, Any]:
    """Every setting by its path, as JSON holds it: {"training.lr": 0.01}."""
    return _leaves(to_dict(settings))


def lines(settings: Any) -> list[str]:
    """Every setting as "training.lr = 0.01"."""
    return [f"{path} = {value}" for path, value in leaves(settings).items()]


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The mapping in a YAML or JSON file. Raises `FormatError` for a file that is not one."""
    with reading(path):
        with open_regular(path) as file:
            try:
                found = yaml.load(file, _Loader)
            except yaml.YAMLError as error:
                raise FormatError(" ".join(str(error).split())) from error
        if not isinstance(found, dict):
            raise FormatError("it holds no settings: give lines such as epochs: 3")
        return found


@contextmanager
def of_file(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let errors of settings in the block name the file that the settings are from, as `ValueError`."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None


def write_config(path: str | os.PathLike[str], settings: Any) -> None:
    """Write settings, or a mapping as JSON holds it, as YAML that `read_config` reads back."""
    values = settings if isinstance(settings, Mapping) else to_dict(settings)
    write_text(Path(path), yaml.safe_dump(dict(values), sort_keys=False, default_flow_style=None, width=120))


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain words, as in JSON: 1e-7 is a number, and on, off, yes and no are words."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag != "tag:yaml.org,2002:bool"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|false)$", re.IGNORECASE), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _name(text: str) -> str:
    return text.strip().replace("-", "_")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _adapters(settings: Any) -> dict[str, TypeAdapter[Any]]:
    """What checks each field of a dataclass."""
    kind: Any = type(settings)
    return _adapters_of(kind)


@cache
def _adapters_of(kind: Any) -> dict[str, TypeAdapter[Any]]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: TypeAdapter(hints[field.name]) for field in fields(kind)}


def _path(settings: Any, name: str) -> str:
    """The path of a setting that is given by its name or by its path."""
    own = [field.name for field in fields(settings)]
    if name.partition(".")[0] in own:
        return name
    holders = [outer for outer in own if is_dataclass(getattr(settings, outer)) and _knows(settings, outer, name)]
    if len(holders) == 1:
        return f"{holders[0]}.{name}"
    if holders:
        raise ValueError(f"{name} is a setting of {' and of '.join(holders)}: give one, as {holders[0]}.{name}")
    raise ValueError(f"there is no setting {name!r}; there are {_keys(settings)}")


def _knows(settings: Any, outer: str, name: str) -> bool:
    return name in {field.name for field in fields(getattr(settings, outer))}


def _keys(settings: Any) -> str:
    return ", ".join(_leaves(to_dict(settings)))


def _leaves(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Every value by its path."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _leaves(value, f"{above}{name}.") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return found


def _valid(name: str, adapter: TypeAdapter[Any], value: Any, *, strict: bool) -> Any:
    try:
        return adapter.validate_python(value, strict=strict)
    except ValidationError as error:
        # Where several types are allowed, the one that the value came closest to.
        wrong = max(error.errors(include_url=False), key=lambda one: len(one["loc"]))
        place = "".join(f"[{step}]" for step in wrong["loc"] if isinstance(step, int))
        kind = TypeError if strict and wrong["type"].endswith("_type") else ValueError
        raise kind(f"{name}{place} is {_shown(wrong)}; {_must(wrong['msg'])}") from None


def _shown(wrong: Any) -> str:
    return "empty" if wrong["input"] == () else repr(wrong["input"])


def _must(message: str) -> str:
    return re.sub(r"^\w+ should ", "it must ", message.removeprefix("Value error, "))
