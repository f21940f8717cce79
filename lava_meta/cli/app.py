"""The application to which the files beside this one add their commands, and the options that commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lava_meta.version import __version__


class Stopped(Exception):
    """Ctrl-C. Not a `KeyboardInterrupt`, on which the command-line library exits without a word."""


LATE: dict[str, Callable[[], Any]] = {}
"""Commands whose flags are known only once torch is imported; help lists them without them."""


class _Commands(TyperGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        late = LATE.get(name or "")
        return name, command if late is None else late(), rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise Stopped(str(stop) or "stopped; nothing was written: run the same again") from None


@contextmanager
def when_stopped(tell: Callable[[], str]) -> Iterator[None]:
    """Ctrl-C in the block is answered with `tell()`: what was kept, and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(tell()) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Metaplastic binarized neural networks: train without forgetting, convert to Lava, run on integers.\n\n"
    "Start with [bold]lava-meta demo[/bold] (a minute, offline). Then train on a task sequence, convert the model, and "
    "run it in Lava's simulator:\n\n"
    "    lava-meta train --data mnist --tasks 3 --m 4 --epochs 3 --batch-size 100 --out results/mnist\n\n"
    "    lava-meta convert results/mnist/model.safetensors -o net.safetensors\n\n"
    "    lava-meta run net.safetensors --data mnist",
)

DEBUG = {"on": False}

Data = Annotated[str, typer.Option(help="digits (embedded), mnist, fashion-mnist or usps.")]
Out = Annotated[Path, typer.Option(help="Folder for settings, metrics, figures and the network.")]
Config = Annotated[
    Path | None, typer.Option(help="A YAML or JSON file of settings, which flags override.", show_default=False)
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run wrote there.")]
Lanes = Annotated[int, typer.Option(min=1, help="Images that pass in one Lava time step; 1 as on a chip.")]


def _print_version(asked: bool) -> None:  # noqa: FBT001  # as typer calls it
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    DEBUG["on"] = debug


def numbers(text: str, kind: type, option: str) -> list[Any]:
    """The values of an option that lists numbers, separated by commas. Raises `BadParameter` naming the option."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise typer.BadParameter(f"{text!r}; give {what} separated by commas", param_hint=option) from None
