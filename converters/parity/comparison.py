"""A network beside the user's own PyTorch model, on the user's own data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lava_meta.converters.feed import ModelUse
from lava_meta.converters.parity.chain import model_inputs
from lava_meta.converters.recording.calling import call, float_types, name_of
from lava_meta.converters.recording.unwrapping import check_given, unwrap
from lava_meta.errors import ConversionError
from lava_meta.graph import AcyclicGraph, Graph
from lava_meta.graph.given import as_array, batches
from lava_meta.graph.packed.compiled import compiled

_TOGETHER = 256  # images that the model takes at a time


@dataclass(frozen=True)
class Agreement:
    """Classes of a network and of a model, compared on the same images."""

    images: int  # images compared
    equal: int  # images of equal class
    differing: tuple[int, ...] = field(repr=False)  # places of the others
    own_type: str  # the model's floating type, such as float32

    @property
    def share(self) -> float:
        """Images of equal class, 0 to 1."""
        return self.equal / self.images

    def __str__(self) -> str:
        text = f"{self.equal:,} of {self.images:,} classes ({100 * self.share:.2f} %) equal the {self.own_type} model's"
        if not self.differing:
            return text
        first = ", ".join(map(str, self.differing[:5]))
        return f"{text}; images that differ: {first}{', ...' if len(self.differing) > 5 else ''}"


def compare(
    graph: Graph,
    model: nn.Module,
    images: Any,
    *,
    preprocess: Callable[[Tensor], Any] | None = None,
    use: ModelUse | None = None,
) -> Agreement:
    """Compare the classes of `graph` and `model`; see `lava_meta.converters.LavaNetwork.compare`."""
    model = unwrap(model)
    check_given(model)
    network = compiled(graph)
    dtype, place = float_types(model)[0], None if use is None else use.output
    expected = graph.readout.shape if isinstance(graph, AcyclicGraph) else (graph.n_out,)
    ours, theirs, given = [], [], expected
    for part in _parts(images):
        levels = graph.check_images(part, None if use is None else use.feed.reader(graph))
        ours.append(network.predict(levels))
        if preprocess is None and use is not None and use.feed.mean is not None:
            inputs = model_inputs(graph, levels, dtype, use.feed)
        elif preprocess is None:
            shape = as_array(part).shape
            inputs = torch.from_numpy(_plain(levels.reshape(shape))).to(dtype)
        else:
            inputs = _made(part if isinstance(part, Tensor) else torch.from_numpy(_plain(as_array(part))), preprocess)
        outputs = call(model, inputs, place).double()
        given = tuple(outputs.shape[1:])
        theirs.append(outputs.argmax(dim=1).numpy())
    if given != expected:
        shapes = ["x".join(map(str, shape)) for shape in (given, expected)]
        raise ValueError(f"the model gives {shapes[0]} classes, the network {shapes[1]}: this is not its model")
    found = np.concatenate(ours)
    differing = np.flatnonzero((np.concatenate(theirs) != found).reshape(len(found), -1).any(axis=1))
    return Agreement(len(found), len(found) - len(differing), tuple(differing.tolist()), name_of(dtype))


def _parts(images: Any) -> Iterator[Any]:
    """Images, some at a time: of arrays, tensors, DataLoaders and Datasets."""
    source = batches(images)
    for given in [images] if source is None else source:
        whole = given if hasattr(given, "shape") else np.asarray(given)
        yield from (whole[start : start + _TOGETHER] for start in range(0, max(1, len(whole)), _TOGETHER))


def _plain(images: NDArray[Any]) -> NDArray[Any]:
    """Images in a type that torch computes with: of unsigned ones only 8 bits, and of byte orders this machine's."""
    known = (np.uint8, np.int8, np.int16, np.int32, np.bool_, np.float16, np.float32, np.float64)
    return np.array(images) if images.dtype in known else images.astype(np.int64)


def _made(images: Tensor, preprocess: Callable[[Tensor], Any]) -> Tensor:
    try:
        made = preprocess(images)
    except Exception as error:
        raise ConversionError(
            f"preprocess fails on {name_of(images.dtype)} images of shape {tuple(images.shape)}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, Tensor) or len(made) != len(images):
        what = f"a tensor of shape {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
        raise ConversionError(
            f"preprocess gives {what} for {len(images)} images; it must give a tensor of as many: it is called on "
            "several at a time"
        )
    return made
