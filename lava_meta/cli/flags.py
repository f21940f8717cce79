"""Command-line flags made of the fields of a settings dataclass, so that each setting is declared once."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, TypeVar

import typer
from pydantic.fields import FieldInfo

from lava_meta.io import config

S = TypeVar("S")


def command_of(function: Callable[..., None], settings: Any, names: Mapping[str, str]) -> Any:
    """A command that has a flag for every setting with a description, those that are contained too.

    Args:
        function: gets, as `given`, the texts of the flags that were given, by setting. Its other parameters are as of
            any command.
        settings: the defaults, which help shows.
        names: names of flags that are not the settings', as "--fast/--clear".
    """
    flags = {flag.name: flag for flag in _flags(settings, names)}
    signature = inspect.signature(function, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != "given"]

    @functools.wraps(function)
    def called(**words: Any) -> None:
        given = {name: str(words.pop(name)) for name in flags if words[name] is not None}
        function(**{name: value for name, value in words.items() if name not in flags}, given=given)

    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*own, *flags.values())]
    called.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    app.command()(called)
    return typer.main.get_command(app)


def with_flags(settings: S, given: Mapping[str, str]) -> S:
    """`settings` with the values of flags. Raises `BadParameter` for one that does not fit."""
    try:
        return config.changed(settings, given, from_text=True)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _flags(settings: Any, names: Mapping[str, str]) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(type(settings), include_extras=True)
    found: list[inspect.Parameter] = []
    for field in fields(settings):
        default = getattr(settings, field.name)
        about = [one for one in getattr(hints[field.name], "__metadata__", ()) if isinstance(one, FieldInfo)]
        if is_dataclass(default):
            found += _flags(default, names)
        elif text := next((one.description for one in about if one.description), None):
            found.append(_flag(field.name, default, hints[field.name], text, names.get(field.name)))
    return found


def _flag(name: str, default: Any, hint: Any, about: str, flag: str | None) -> inspect.Parameter:
    kind = bool if isinstance(default, bool) else str
    flag = (flag or (f"--{name}/--no-{name}" if kind is bool else f"--{name}")).replace("_", "-")
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    if kind is bool:
        shown = flag.split("/")[0 if default else 1].removeprefix("--")
    metavar = None if kind is bool else f"<{_takes(hint)}>"
    option = typer.Option(flag, help=about, metavar=metavar, show_default=False if default is None else shown)
    annotation = Annotated[kind | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _takes(hint: Any) -> str:
    """What a setting takes, by its type: "int", "float", "int,...", or the words it chooses from, "fixed|batch"."""
    while typing.get_origin(hint) is Annotated:
        hint = typing.get_args(hint)[0]
    inner = [one for one in typing.get_args(hint) if one is not type(None)]
    if typing.get_origin(hint) is typing.Literal:
        return "|".join(map(str, inner))
    if typing.get_origin(hint) is tuple:
        return f"{_takes(inner[0])},..."
    if inner:
        return "|".join(dict.fromkeys(map(_takes, inner)))
    return hint.__name__ if hint in (int, float) else "str"
