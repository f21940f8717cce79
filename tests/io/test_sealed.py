"""Sealed files: what is read is what was written, of the kind that was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lava_meta.errors import FormatError
from lava_meta.io.sealed import GRAPH, LEARNER, read_sealed, sealed_format, write_sealed

HEADER = {"format": GRAPH, "version": 1, "size": 3}
TENSORS = {"b": np.arange(3), "a": np.ones((2, 2), np.float32)}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_sealed(tmp_path / "file", HEADER, TENSORS)
    header, tensors = read_sealed(tmp_path / "file", GRAPH, range(1, 2))
    assert header == HEADER
    assert {name: array.tolist() for name, array in tensors.items()} == {"b": [0, 1, 2], "a": [[1, 1], [1, 1]]}
    write_sealed(tmp_path / "again", dict(reversed(HEADER.items())), dict(reversed(TENSORS.items())))
    assert (tmp_path / "again").read_bytes() == (tmp_path / "file").read_bytes()


@pytest.mark.parametrize("kind", ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"])
def test_every_type_and_shape_comes_back(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(1)
    shapes = ((), (1,), (0, 3), (7,), (2, 3, 5))
    tensors = {f"t{i}": np.asarray(rng.integers(0, 100, shape)).astype(kind) for i, shape in enumerate(shapes)}
    write_sealed(tmp_path / "file", HEADER, tensors)
    _, found = read_sealed(tmp_path / "file", GRAPH, range(1, 2))
    for name, array in tensors.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert np.array_equal(found[name], array)
        found[name][...] = 0  # it is the reader's own


def test_types_that_are_never_written_are_refused(tmp_path: Path) -> None:
    write_sealed(tmp_path / "file", HEADER, {"a": np.ones((2, 2), np.float32)})
    content = (tmp_path / "file").read_bytes().replace(b'"F32","shape":[2,2]', b'"F16","shape":[4,2]')
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(FormatError, match="is not a whole safetensors file"):
        read_sealed(tmp_path / "file", GRAPH, range(1, 2))


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
