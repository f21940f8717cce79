"""Trained networks as files: the hidden weights and, in the header of the same file, how to build the net."""

from __future__ import annotations

import os

from lava_meta.checkpoint import read_checkpoint, write_checkpoint
from lava_meta.errors import FormatError
from lava_meta.file_kinds import MODEL, require_kind
from lava_meta.learned import from_header, learned_of, to_header
from lava_meta.nn import BinaryMLP

KIND = "BinaryMLP"


def save_model(model: BinaryMLP, path: str | os.PathLike[str]) -> None:
    """Write `model` and what it has learned, atomically.

    Raises `RunFolderError` when the disk is full or the folder cannot be written.
    """
    state = {"kind": KIND, "settings": model.settings, "learned": to_header(learned_of(model))}
    write_checkpoint(path, model.state_dict(), state)


def load_model(path: str | os.PathLike[str]) -> BinaryMLP:
    """The model that `save_model` wrote, in eval mode, with `model.learned`; empty for files that do not say.

    Raises `FormatError` for a file that is truncated, altered or something else, `FileNotFoundError` for none.
    """
    require_kind(path, MODEL)
    tensors, state = read_checkpoint(path)
    if state.get("kind") != KIND:
        raise FormatError(f"{path} is a checkpoint of a run, not a model: look for model.safetensors beside it")
    model = BinaryMLP(**state["settings"])
    model.load_state_dict(tensors)
    model.learned = from_header(state.get("learned"))
    return model.eval()
