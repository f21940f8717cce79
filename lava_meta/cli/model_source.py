"""A user's own model by name, `model.py:make_model`, with weights from a safetensors file."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from lava_meta.errors import ConversionError, FormatError
from lava_meta.io.file_kinds import MODEL, TENSORS, require_kind


def make_model(source: str, weights: str | os.PathLike[str] | None = None) -> nn.Module:
    """The module that `source` names, in eval mode: "FILE.py:FUNCTION", a function without arguments.

    The file is run as Python runs it, with its folder on the path. `weights`, a safetensors file, must hold exactly
    the tensors of the module's state dict; without it the module stays as the function made it.

    Raises `ConversionError` if the file does not import, has no such function, or the function does not give a
    module; `FormatError` for weights that are no safetensors file or do not fit; `FileNotFoundError`.
    """
    path, _, name = source.rpartition(":")
    if not path or not name.isidentifier():
        raise ConversionError(f"{source!r} does not name a model; expected FILE.py:FUNCTION")
    folder = str(Path(path).resolve().parent)
    sys.path.insert(0, folder)
    try:
        model = _made(Path(path), name)
    finally:
        sys.path.remove(folder)
    if weights is not None:
        load_weights(model, weights)
    return model.eval()


def _made(path: Path, name: str) -> nn.Module:
    module = _imported(path)
    function = getattr(module, name, None)
    if not callable(function):
        functions = [value for value in vars(module).values() if inspect.isfunction(value)]
        own = [value.__name__ for value in functions if value.__module__ == module.__name__]
        found = f"it has {', '.join(own)}" if own else "it has no functions"
        raise ConversionError(f"{path} has no function {name}; {found}")
    try:
        model = function()
    except Exception as error:
        raise ConversionError(f"{name}() in {path} raised {_told(error, path)}") from error
    if not isinstance(model, nn.Module):
        raise ConversionError(f"{name}() in {path} returned {type(model).__name__}, which is not a torch.nn.Module")
    return model


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Put the tensors of a safetensors file into `model`, all of them and no others.

    Raises `FormatError` naming those that are missing, unknown, or of another shape.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"there are no weights {path}")
    require_kind(path, TENSORS, MODEL)
    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError) as error:
        raise FormatError(
            f"{path} is not a whole safetensors file: {error}. Write one with safetensors.torch.save_file("
            "model.state_dict(), path)"
        ) from error
    expected = model.state_dict()
    wrong = {
        "lacks": [key for key in expected if key not in tensors],
        "has unknown": [key for key in tensors if key not in expected],
        "has other shapes for": [
            f"{key} ({_shape(tensors[key])}, not {_shape(expected[key])})"
            for key in expected
            if key in tensors and tensors[key].shape != expected[key].shape
        ],
    }
    found = [f"{what} {_few(keys)}" for what, keys in wrong.items() if keys]
    if found:
        raise FormatError(f"{path} does not fit the model: it {'; '.join(found)}")
    model.load_state_dict(tensors)


def _imported(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"lava_meta_model_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConversionError(f"{path} is not a Python file; expected FILE.py:FUNCTION")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses and others look for what a class refers to
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise ConversionError(f"{path} does not import: {_told(error, path)}") from error
    return module


def _told(error: BaseException, path: str | os.PathLike[str]) -> str:
    """An error in one line, with the last line of the user's file that led to it."""
    entries, own = traceback.extract_tb(error.__traceback__), Path(path).resolve()
    lines = [entry.lineno for entry in entries if Path(entry.filename).resolve() == own]
    where = f" in line {lines[-1]}" if lines else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"


def _shape(tensor: Any) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _few(keys: list[str], most: int = 3) -> str:
    return ", ".join(keys[:most]) + (f" and {len(keys) - most} more" if len(keys) > most else "")
