"""What every file of a network has: its kind, its versions, and notes."""

from __future__ import annotations

import os
from typing import Any

from numpy.typing import NDArray

from lava_meta.errors import FormatError
from lava_meta.io.file_kinds import NETWORK, SPIKING, require_kind
from lava_meta.io.files import reading
from lava_meta.io.sealed import GRAPH, read_sealed
from lava_meta.io.sealed import SPIKING as SEALED_SPIKING

Content = tuple[dict[str, Any], dict[str, NDArray[Any]], dict[str, Any]]


def read_network(source: str | os.PathLike[str] | bytes, versions: range, *, spiking: bool = False) -> Content:
    """The header, tensors and notes of a network's file, or of its content, in one of these versions.

    `spiking` says that it is one of spiking neurons.

    Raises:
        FormatError: It is not one, or not as it was written.
        TooLargeError: It does not fit in memory.
    """
    if not isinstance(source, bytes):
        require_kind(source, SPIKING if spiking else NETWORK)
    header, tensors = read_sealed(source, SEALED_SPIKING if spiking else GRAPH, versions)
    with reading(name_of(source)):
        notes = header.get("notes", {})
        if not isinstance(notes, dict):
            raise FormatError(f"the notes in its header are {type(notes).__name__}")
        return header, tensors, notes


def name_of(source: str | os.PathLike[str] | bytes) -> str | os.PathLike[str]:
    """What errors call a file."""
    return "its content" if isinstance(source, bytes) else source
