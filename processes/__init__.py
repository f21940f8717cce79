"""Lava Processes and what runs them. Importing from here adapts Lava first: `lava_meta.processes.lava_import`."""

from __future__ import annotations

from lava_meta.processes.lava_import import install

install()
