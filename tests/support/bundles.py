"""Bundles, run as a colleague without this package runs them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The bundle's script in a process of its own, in which this package cannot be imported."""
    code = (
        "import runpy, sys; sys.modules['lava_meta'] = None; sys.argv[0:1] = []; "
        f"sys.path.insert(0, {str(folder)!r}); runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, str(folder / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=folder.parent, check=False)


def seal(folder: Path, name: str) -> None:
    """Write the checksum of a file that was changed, as whoever means to deceive would."""
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(manifest))
