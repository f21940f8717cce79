"""Sealed files: what is read is what was written, of the kind that was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lava_meta.errors import FormatError
from lava_meta.sealed import GRAPH, LEARNER, read_sealed, sealed_format, write_sealed

HEADER = {"format": GRAPH, "version": 1, "size": 3}
TENSORS = {"b": np.arange(3), "a": np.ones((2, 2), np.float32)}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_sealed(tmp_path / "file", HEADER, TENSORS)
    header, tensors = read_sealed(tmp_path / "file", GRAPH, range(1, 2))
    assert header == HEADER
    assert {name: array.tolist() for name, array in tensors.items()} == {"b": [0, 1, 2], "a": [[1, 1], [1, 1]]}
    write_sealed(tmp_path / "again", dict(reversed(HEADER.items())), dict(reversed(TENSORS.items())))
    assert (tmp_path / "again").read_bytes() == (tmp_path / "file").read_bytes()


def test_another_kind_or_version_is_named(tmp_path: Path) -> None:
    write_sealed(tmp_path / "file", HEADER, TENSORS)
    with pytest.raises(FormatError, match=r"holds lava_meta\.graph version 1; expected lava_meta\.learner version 1"):
        read_sealed(tmp_path / "file", LEARNER, range(1, 2))
    with pytest.raises(FormatError, match=r"expected .* version 2 or 3"):
        read_sealed(tmp_path / "file", GRAPH, range(2, 4))


def test_the_format_of_any_file_can_be_asked(tmp_path: Path) -> None:
    write_sealed(tmp_path / "file", HEADER, TENSORS)
    (tmp_path / "text").write_text("nothing of the kind")
    assert sealed_format(tmp_path / "file") == GRAPH
    assert sealed_format(tmp_path / "text") is None
    assert sealed_format(tmp_path / "missing") is None
