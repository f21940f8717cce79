"""What the pages show runs as written, and what they name exists.

The Python blocks of each page run in turn, as one script. The changelog is history: it names what was.
"""

from __future__ import annotations

import importlib
import re
import shlex
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from shown import Shown, says

import lava_meta
from lava_meta.cli import app
from lava_meta.cli.app import LATE
from lava_meta.errors import LAVA_INSTALL, PackageMissingError
from lava_meta.experiments.common import experiment
from lava_meta.io.config import knows
from lava_meta.moved import MOVED

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "results").glob("*.md"))]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))  # `make docs` runs them
NAMING = [*PAGES, *TUTORIALS, ROOT / "CONTRIBUTING.md"]
FIRST_EXAMPLES = ("README.md", "training.md")  # of which the page says what comes out
WITH_CODE = [page for page in PAGES if "```python\n" in page.read_text(encoding="utf-8")]
FOLDERS = ("lava_meta", "processes", "converters", "experiments", "tests", "benchmarks", "docs", ".ci")
USERS_FILES = {"run.py", "script.py", "model.py"}  # a bundle's, and those of a reader

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
COMMANDS |= {name: made() for name, made in LATE.items()}
OPTIONS = {
    name: {"-h", "--help"}.union(*([*one.opts, *one.secondary_opts] for one in command.params))
    for name, command in COMMANDS.items()
}
EXPERIMENTS = set(experiment.names())
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
BENCHMARKS = {file.name: file.read_text(encoding="utf-8") for file in (ROOT / "benchmarks").glob("*.py")}

each_page = pytest.mark.parametrize("page", NAMING, ids=lambda page: page.name)


@pytest.mark.lava
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    wrong = []
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        names["print"] = shown = Shown(block)
        exec(compile(block, page.name, "exec"), names)
        wrong += shown.wrong
    assert wrong == []
    if page.name in FIRST_EXAMPLES:
        shown = re.search(r"# ACC, .*: plain ([\d.]+) %, metaplastic ([\d.]+) %", page.read_text(encoding="utf-8"))
        assert shown is not None, f"{page.name} does not say what its first example gives"
        plain, ours = (100 * names["results"][name].matrix.acc() for name in ("plain", "metaplastic"))
        assert ours > plain + 15
        # Another processor rounds gradients otherwise: the same in distribution, not in digits.
        assert (plain, ours) == pytest.approx([float(value) for value in shown.groups()], abs=8)


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")):
        to = page.parent / target if target else page
        assert to.exists(), target
        assert not anchor or anchor in anchors(to), f"{to.name} has no heading #{anchor}"


@each_page
def test_paths_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = re.findall(rf"(?<![\w./-])((?:{'|'.join(map(re.escape, FOLDERS))})/[\w./*-]*)", text)
    found = [path for path in found if not path.startswith("docs/_build/")]  # which `make docs` writes
    missing = [path for path in found if not any(ROOT.glob(path.rstrip("./")))]
    known = {file.name for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")} | USERS_FILES
    missing += [name for name in code(page) if re.fullmatch(r"\w+\.py", name) and name not in known]
    assert missing == []


@each_page
def test_dotted_names_exist(page: Path) -> None:
    for name in re.findall(r"\blava_meta(?:\.[A-Za-z_]\w*)+", page.read_text(encoding="utf-8")):
        assert name.split(".")[1] not in MOVED, f"{name} is an old name"
        with suppress(PackageMissingError):  # it is there, for those who have the package
            resolved(name)


@each_page
def test_commands_exist(page: Path) -> None:
    wrong = [f"{line}: {what}" for line in code(page) for what in unknown(line)]
    assert wrong == []


def test_every_figure_is_in_the_gallery_with_its_command() -> None:
    gallery = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    figures = [*(ROOT / "docs").glob("*.png"), *(ROOT / "docs" / "figures").glob("*.png")]
    assert figures
    for figure in figures:
        path = figure.relative_to(ROOT / "docs").as_posix()
        assert re.search(rf"\]\({re.escape(path)}\)\n\n    \S", gallery), path


def test_every_section_of_the_results_has_its_commits() -> None:
    results = ROOT / "docs" / "results"
    listed = (results / "commits.md").read_text(encoding="utf-8")
    for page in set(results.glob("*.md")) - {results / "index.md", results / "commits.md"}:
        for section in re.split(r"^#+ ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            name, _, text = section.partition("\n")
            assert not re.search(r"^\|.*\d", text, re.MULTILINE) or f"({page.name}) | {name} |" in listed, name


def test_every_public_name_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^   (\w+)$", page, re.MULTILINE))
    assert set(lava_meta.__all__) - listed <= {"__version__", "LavaMetaError"}  # the latter with all errors


def test_the_page_on_installing_has_every_extra_and_lavas_line() -> None:
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = re.search(r"\[project.optional-dependencies\]\n(.*?)\n\[", project, re.DOTALL)
    assert extras is not None
    for extra in re.findall(r"^(\w+) = \[", extras[1], re.MULTILINE):
        assert f"| `lava-meta[{extra}]` |" in page
    assert LAVA_INSTALL in page


@pytest.mark.parametrize(
    "line",
    [
        "make tests",
        "make demo nothing ARGS=--online",
        "lava-meta trian",
        "lava-meta train --data mnist --epoch 3",
        "lava-meta experiment permuted_minst",
        "lava-meta experiment permuted_mnist --set hiden=3",
        "permuted_mnist --scales medium",
        "python benchmarks/training.py --bussy 2",
        "python benchmarks/none.py",
        "--no-such-option",
    ],
)
def test_a_wrong_command_is_found(line: str) -> None:
    assert len(list(unknown(line))) == 1


@pytest.mark.parametrize(
    ("comment", "output", "same"),
    [
        ("360 of 360 classes (100.00 %)", "351 of 360 classes (97.50 %)\n", True),
        ("360 of 360 classes (100.00 %)", "251 of 360 classes (69.72 %)\n", False),
        ("360 of 360 images", "360 of 360 classes", False),
        ("... names m: 50.0 there", "the folder names m: 50.0 there", True),
        ("[[1 2]\n [3 4]]", "[[1 2] [3 5]]", False),
        ("8,256 signs", "8256 signs", True),
    ],
)
def test_a_comment_that_tells_what_is_printed(comment: str, output: str, same: bool) -> None:
    assert says(comment, output) is same


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code(page: Path) -> list[str]:
    """What a page sets as code apart from its Python blocks: spans, and lines of indented blocks."""
    text = re.sub(r"```.*?```|^---.*?^---", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    lines = re.findall(r"^ {4,}(\S.*)$", text, re.MULTILINE)
    return lines + [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def resolved(name: str) -> object:
    """The module or attribute of that dotted name."""
    parts = name.split(".")
    found: object = importlib.import_module(parts[0])
    for count, part in enumerate(parts[1:], 2):
        if not hasattr(found, part):
            importlib.import_module(".".join(parts[:count]))
        found = getattr(found, part)
    return found


def unknown(line: str) -> list[str]:
    """What a line of code calls and does not exist; nothing if it calls none of the project's commands."""
    line = re.sub(r"^(?:[A-Z_]+=\S+ +)*(?:\.venv/bin/)?(?:python )?", "", line.split("  #")[0])
    try:
        program, *words = shlex.split(line)
    except ValueError:
        return []  # an equation, or prose
    options = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    if program == "make":
        return [word for word in words if "=" not in word and word not in TARGETS]
    if program.startswith("benchmarks/") and program.endswith(".py"):
        source = BENCHMARKS.get(program.removeprefix("benchmarks/"))
        return [program] if source is None else [option for option in options if f'"{option}"' not in source]
    if program.startswith("--"):
        known = any(program in options for options in OPTIONS.values())
        return [] if known or any(f'"{program}"' in source for source in BENCHMARKS.values()) else [program]
    if program in EXPERIMENTS and options:
        return unknown(f"lava-meta experiment {line}")
    if program != "lava-meta" or not words or words[0] in {"-h", "--help"}:
        return []
    if words[0] not in COMMANDS:
        return [words[0]]
    return [*sorted(options - OPTIONS[words[0]]), *(unknown_settings(words[1:]) if words[0] == "experiment" else [])]


def unknown_settings(words: list[str]) -> list[str]:
    """The name of the experiment, or settings given by `--set`, that do not exist."""
    name = words[0].replace("-", "_") if words and words[0][0].islower() else None
    if name is None:
        return []
    if name not in EXPERIMENTS:
        return [words[0]]
    settings = experiment.find(name).scales["small"]
    given = [word.split("=")[0] for before, word in pairwise(words) if before == "--set"]
    return [key for key in given if key != "KEY" and not knows(settings, key)]
