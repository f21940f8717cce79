"""What the readers say to each other."""

from __future__ import annotations

from lava_meta.errors import ConversionError


class NotAChain(ConversionError):
    """A model is no chain of binary layers; `lava_meta.converters.lowering.acyclic` reads it as a graph instead."""
