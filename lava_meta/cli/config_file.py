"""The file that `--config` names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lava_meta.io.config import CONFIG, read_config


def read_settings(path: Path) -> dict[str, Any]:
    """What the file says. For the settings.json of a training stands the config.yaml beside it, which says all.

    Without one, as in the folder of a training in Python, it has the settings of the training alone.
    """
    found = read_config(path)
    if not {"settings", "scenario", "model"} <= found.keys():
        return found
    beside = path.with_name(CONFIG)
    return read_config(beside) if beside.exists() else {"training": found["settings"]}
