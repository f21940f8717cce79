"""Reports in a folder, of networks of either form."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lava_meta.io.files import write_json, write_text
from lava_meta.plotting import figures
from lava_meta.plotting.figure import Figure


def save_report(report: Any, figure: Figure, folder: str | os.PathLike[str]) -> None:
    """Write report.json of `report.to_dict()`, report.txt of its text, and its figure as report.png and report.pdf."""
    write_json(Path(folder) / "report.json", report.to_dict())
    write_text(Path(folder) / "report.txt", str(report) + "\n")
    figures.save(figure, Path(folder) / "report")
