"""Lava Processes and what runs them. Importing from here adapts Lava first: `lava_meta.processes.lava_import`."""

from __future__ import annotations

import os

from lava_meta.errors import require_lava
from lava_meta.processes.lava_import import install

if not hasattr(os, "fork"):
    require_lava("lava_meta.processes")  # says that Windows cannot run it, instead of the first name that it lacks
install()
