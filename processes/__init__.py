"""Lava Processes and what runs them. Whoever imports from here can import Lava, see `lava_meta.processes.lava_import`."""

from __future__ import annotations

from lava_meta.processes.lava_import import install

install()
