"""From trained networks to Lava, and back from files.

net = lava_meta.convert(model)
net.save("digits.safetensors")
net = lava_meta.load("digits.safetensors")
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lava_meta.converters.lava import LavaNetwork
from lava_meta.errors import ConversionError
from lava_meta.file_kinds import LEARNING, MODEL, NETWORK, require_kind
from lava_meta.learned import learned_of

if TYPE_CHECKING:
    from torch import nn

    from lava_meta.nn import BinaryMLP
    from lava_meta.online_learning import Learner

__all__ = ["LavaNetwork", "convert", "load", "register"]


def convert(
    model: nn.Module,
    *,
    task: int = 0,
    mean: float | None = None,
    std: float | None = None,
    max_level: int = 255,
    min_level: int = 0,
    signs: bool = False,
    input_shape: Sequence[int] | None = None,
    strict: bool = True,
) -> LavaNetwork:
    """Convert a binarized network, in eval mode, into a Lava network that computes the same, to the bit.

    Exact means: on raw pixels, every hidden sign and every class equal the model evaluated in float64, ties and
    inverted gains included. The result has been checked against the model on random images (`net.parity`).

    Args:
        model: `lava_meta.nn.BinaryMLP`, `BinaryConvNet`, or a chain of the modules in `converters.reading.SUPPORTED`,
            as an `nn.Sequential` or in a forward of its own.
        task: whose batch-norm statistics and affine to take; other norms know no tasks.
        mean, std: for a model without a `Pixels` module, its input is `(p / max_level - mean) / std`.
        max_level, min_level: for such a model, the greatest and least input: 255 and 0 for pixels of 8 bits, 127 and
            -128 for signed features.
        signs: the model's inputs are +1 and -1.
        input_shape: of one image, kept with the network; by default flat. A model that begins with a convolution
            needs it, (channels, rows, columns); `BinaryConvNet` knows its own.
        strict: raise when the self-check finds a mismatch; False leaves the figure in `net.parity`.

    Raises `ConversionError` naming what cannot be converted, or the layers that differ.
    """
    from lava_meta.converters.parity import check
    from lava_meta.converters.torch import to_graph

    graph = to_graph(
        model,
        task=task,
        mean=mean,
        std=std,
        max_level=max_level,
        min_level=min_level,
        signs=signs,
        input_shape=input_shape,
    )
    parity = check(model, graph, task=task, mean=mean, std=std)
    if strict and not parity.exact:
        raise ConversionError(
            f"the converted network differs from the model: {parity}; by layer {parity.mismatches}. Sums that tie with "
            "a threshold within float64 rounding do this; strict=False converts all the same"
        )
    return LavaNetwork(graph, parity=parity, learned=learned_of(model))


def register(kind: type[nn.Module], parts: Callable[[Any], Sequence[nn.Module]]) -> None:
    """Let modules of exactly `kind` convert: as the supported modules that `parts(module)` gives, one after the other.

    Raises `TypeError` for something that is not a class of modules.
    """
    from lava_meta.converters.registry import register as add

    add(kind, parts)


def load(path: str | os.PathLike[str]) -> LavaNetwork | Learner | BinaryMLP:
    """What a file of lava_meta holds, in the identical state.

    Returns:
        A `LavaNetwork` (written by its `save`), with `parity` and `learned`; a `Learner` (by its `save`); or a trained
        model in eval mode, a torch module (model.safetensors of `lava-meta train`), which `convert` takes.

    Raises:
        FormatError: for any other file, with what it is and which call takes it, and for one that was altered.
        FileNotFoundError: if there is none.
    """
    kind = require_kind(path, NETWORK, LEARNING, MODEL)
    if kind == LEARNING:
        from lava_meta.online_learning import load_learner

        return load_learner(path)
    if kind == MODEL:
        from lava_meta.model_file import load_model

        return load_model(path)
    return LavaNetwork.load(path)
