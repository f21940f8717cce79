"""Trained networks as files: the hidden weights and, in the header of the same file, how to build the net."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from lava_meta.errors import FormatError
from lava_meta.io.file_kinds import MODEL, require_kind
from lava_meta.io.files import reading
from lava_meta.io.learned import from_header, learned_of, to_header
from lava_meta.nn import BinaryMLP
from lava_meta.training.checkpoint import read_checkpoint, write_checkpoint

KIND = "BinaryMLP"


def save_model(model: BinaryMLP, path: str | os.PathLike[str]) -> None:
    """Write `model` and what it has learned, atomically.

    Raises `RunFolderError` when the disk is full or the folder cannot be written.
    """
    state = {"kind": KIND, "settings": model.settings, "learned": to_header(learned_of(model))}
    write_checkpoint(path, model.state_dict(), state)


def load_model(path: str | os.PathLike[str]) -> BinaryMLP:
    """The model that `save_model` wrote, in eval mode, with `model.learned`; empty for files that do not say.

    Raises `FormatError` for a file that is truncated, altered or something else, or whose settings are not those of its
    tensors; `FileNotFoundError` for none.
    """
    require_kind(path, MODEL)
    tensors, state = read_checkpoint(path)
    with reading(path):
        if state.get("kind") != KIND:
            raise FormatError(f"{path} is a checkpoint of a run, not a model: look for model.safetensors beside it")
        _check_sizes(state["settings"], tensors)
        model = BinaryMLP(**state["settings"])
        model.load_state_dict(tensors)
        model.learned = from_header(state.get("learned"))
        return model.eval()


def _check_sizes(settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Raises `FormatError` unless the network of these settings has these tensors; before any of its size is made."""
    sizes = list(pairwise(settings["sizes"]))
    weights = [tuple(tensor.shape[::-1]) for name, tensor in tensors.items() if name.endswith(".weight")]
    if sorted(sizes) != sorted(weights):
        raise FormatError(f"its header says layers of {sizes} inputs and units; its weights are {weights}")
    tasks = {len(tensor) for name, tensor in tensors.items() if name.endswith(".running_mean")}
    if settings.get("tasks", 1) not in (tasks or {1}):
        raise FormatError(f"its header says {settings['tasks']} tasks; its norms have {sorted(tasks)}")
    with torch.device("meta"):  # shapes without memory
        expected = BinaryMLP(**settings).state_dict()
    for name in sorted({*expected, *tensors}):
        declared, found = (
            f"{about[name].dtype} {tuple(about[name].shape)}" if name in about else "not there"
            for about in (expected, tensors)
        )
        if declared != found:
            raise FormatError(f"its header says that {name} is {declared}; it is {found}")
