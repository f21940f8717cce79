"""The exact versions that `make setup` installs are those that pyproject.toml allows, and name no address."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest's own

ROOT = Path(__file__).parents[1]
PINNED = (ROOT / "requirements.txt").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
VERSIONS = ("3.10", "3.11", "3.12", "3.13")


def pins(version: str) -> dict[str, str]:
    """Package and exact version, as installed on one version of Python on Linux."""
    lines = re.findall(r"^(\S+==[^\\\n]+?) *\\?$", PINNED, re.M)
    found = {}
    for line in lines:
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate(place(version)):
            (specifier,) = wanted.specifier
            found[wanted.name] = specifier.version
    return found


def place(version: str) -> dict[str, str]:
    return {
        "python_version": version,
        "python_full_version": f"{version}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
    }


def declared(version: str) -> list[Requirement]:
    project = PROJECT["project"]
    # Avalanche wants versions of its own, and an environment of its own.
    extras = [texts for name, texts in project["optional-dependencies"].items() if name != "avalanche"]
    lists = [project["dependencies"], *extras, *PROJECT["dependency-groups"].values()]
    wanted = [Requirement(text) for texts in lists for text in texts]
    return [w for w in wanted if w.name != "lava-meta" and (w.marker is None or w.marker.evaluate(place(version)))]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_dependency_is_pinned_as_declared(version: str) -> None:
    found = pins(version)
    wrong = {str(w): found.get(w.name) for w in declared(version) if not w.specifier.contains(found.get(w.name, "0"))}
    assert wrong == {}, "run `make requirements`"


def test_every_pin_has_hashes_and_no_address() -> None:
    entries = PINNED.strip().split("\n")
    names = [i for i, line in enumerate(entries) if not line.startswith(" ")]
    assert len(names) > 50
    assert all("--hash=sha256:" in entries[i + 1] for i in names)
    assert "://" not in PINNED
