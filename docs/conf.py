"""The site: `make docs` builds it, offline."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import typer

import lava_meta
from lava_meta.cli import app
from lava_meta.cli.app import LATE

HERE = Path(__file__).parent

project = "lava_meta"
copyright = "the authors of lava_meta; MIT licence"
version = release = lava_meta.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "figures"]
templates_path = ["_templates"]

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4
smartquotes = False  # they would join the dashes of options
# Tutorials are notebooks in their text form: they run when the site is built, and a cell that fails ends the build.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True
nb_execution_in_temp = True

autosummary_generate = True
autodoc_typehints = "none"  # docstrings say what an argument is
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "inherited-members": False, "show-inheritance": True}
napoleon_google_docstring = True

html_theme = "furo"
html_title = f"lava_meta {release}"
html_show_sphinx = False


def commands() -> str:
    """The page of the command line, from the commands' own help."""
    text = "# Commands\n\nFrom each command's own `--help`.\n"
    group = typer.main.get_command(app)
    made = group.commands | {name: make() for name, make in LATE.items()}
    for name, command in made.items():
        places = [f"[{one.name.upper()}]" for one in command.params if not one.opts[0].startswith("-")]
        words = " ".join(["lava-meta", name, *places])
        text += f"\n## {name}\n\n    {words}\n\n{inspect.cleandoc(command.help or '')}\n\n| option | |\n| --- | --- |\n"
        for one in command.params:
            said = " ".join((getattr(one, "help", "") or "").split()).replace("|", "\\|")
            text += f"| `{'`, `'.join([*one.opts, *one.secondary_opts])}` | {said} |\n"
    return text


def as_code_hosts_show_it(*arguments: Any) -> None:
    """A docstring's code spans and indented blocks are Markdown's; here they become reStructuredText's."""
    lines: list[str] = arguments[-1]
    if "``" in "".join(lines):  # torch's own
        return
    parts = "\n".join(lines).split("`")
    for place, part in enumerate(parts):
        parts[place] = f"``{part}``" if place % 2 else re.sub(r"([|*])", r"\\\1", part)
    made: list[str] = []
    block = False
    for before, line, was in zip(["", *lines], "".join(parts).split("\n"), lines, strict=False):
        indented = was.startswith("    ")
        if indented and not before.strip() and not block:
            made += ["::", ""]
            block = True
        elif was and not indented:
            block = False
        made.append(was if block else line)
    lines[:] = made


def setup(sphinx: Any) -> None:
    """Called by Sphinx before it reads the pages."""
    (HERE / "reference" / "commands.md").write_text(commands(), encoding="utf-8")
    sphinx.connect("autodoc-process-docstring", as_code_hosts_show_it, priority=400)  # before napoleon
