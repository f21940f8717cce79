"""What the pages show runs as written: the Python blocks of each page in turn, as one script."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FIRST_EXAMPLES = ("README.md", "training.md")  # of which the page says what comes out
WITH_CODE = [page for page in PAGES if "```python\n" in page.read_text(encoding="utf-8")]


@pytest.mark.lava
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, page.name, "exec"), names)
    if page.name in FIRST_EXAMPLES:
        shown = re.search(r"# ACC, .*: plain ([\d.]+) %, metaplastic ([\d.]+) %", page.read_text(encoding="utf-8"))
        assert shown is not None, f"{page.name} does not say what its first example gives"
        plain, ours = (100 * names["results"][name].matrix.acc() for name in ("plain", "metaplastic"))
        assert ours > plain + 15
        # Another processor rounds gradients otherwise: the same in distribution, not in digits.
        assert (plain, ours) == pytest.approx([float(value) for value in shown.groups()], abs=8)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
