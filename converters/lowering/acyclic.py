"""From a PyTorch module of any acyclic form to an `AcyclicGraph`: run it, lower what it did, say where it is exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_flatten_with_path, tree_leaves

from lava_meta.converters.chain.folding import check_statistics, prepare
from lava_meta.converters.feed import Feed
from lava_meta.converters.functions.expressions import Fed, Leaf, Source, constant
from lava_meta.converters.functions.monotone import UNIT_ROUNDOFF
from lava_meta.converters.lowering.graph import Lowered, MixesImages, lower
from lava_meta.converters.options import Options
from lava_meta.converters.recording.alone import ALONE, changes, computed_alone
from lava_meta.converters.recording.calling import as_tree, is_coarse, untouched
from lava_meta.converters.recording.every_module import every_module
from lava_meta.converters.recording.exported import is_exported, takes_one
from lava_meta.converters.recording.operations import IMAGES, Float64, Recording, record
from lava_meta.converters.recording.steps import Ref
from lava_meta.converters.recording.unwrapping import has_hooks, unwrap
from lava_meta.errors import ConversionError
from lava_meta.nn import BinaryConvNet, Pixels


@dataclass(frozen=True)
class Read:
    """A model as it was read."""

    model: nn.Module  # the copy in float64
    lowered: Lowered
    feed: Feed
    place: int  # of the output among the tensors that the model returns
    alone: bool = False  # it was read from one image, since images lie on another axis than the first


def to_acyclic(model: nn.Module, **given: Any) -> Read:
    """Read any acyclic network.

    Args:
        model: the user's own module, which is left as it was.
        given: the fields of `options.Options`, those of `lava_meta.convert`.

    Raises:
        ConversionError: naming what cannot be converted: file and line, the place in the model, and what to do.
    """
    options = Options(**given)
    clone = prepare(model, options.task)
    shape = shape_of(clone, options.input_shape)
    mean, signs = options.mean, options.signs
    min_level, max_level = (-1, 1) if signs else (options.min_level, options.max_level)
    pixels = next((module for module in clone.modules() if isinstance(module, Pixels)), None)
    if pixels is not None:
        min_level, max_level = options.of_pixels(pixels.min_level, pixels.max_level)
    feed = Feed.given(mean, options.std, shape, max_level, min_level)
    images = example(feed, shape, signs=signs)
    if has_hooks(unwrap(model)) and not is_exported(clone):  # whose hooks check what it is given
        clone = _with_hooks(clone, prepare(model, options.task, hooks=True), images)
    alone = takes_one(clone)
    casts_round = not is_coarse(unwrap(model))
    recording = record(clone, images[:1] if alone else images, casts_round=casts_round)
    used = {step.place.module for step in recording.steps}
    for name, module in every_module(clone).items():
        if name in used:
            check_statistics(f"{name} ({type(module).__name__})", module)
    if pixels is None and not (options.raw or signs or mean is not None) and not _divides(recording, max_level):
        raise ConversionError(
            "nothing says what the model takes: pass mean= and std= as given to torchvision's Normalize (mean=0, std=1 "
            "for ToTensor alone), raw=True if it takes raw levels, or signs=True if it takes +1 and -1"
        )
    domain = {"max_level": max_level, "min_level": min_level, "signs": signs, "input_shape": shape}
    place, chosen = _chosen(recording, options.output)
    first = first_leaf(feed, shape, signs=signs)
    try:
        return Read(clone, lower(recording, chosen, first, domain), feed, place, alone=alone)
    except MixesImages as error:
        if alone or not computed_alone(clone, example(feed, shape, signs=signs, images=ALONE), place):
            if changes(clone, images):
                raise MixesImages(
                    f"{error}. When it is called again it gives something else, by what it has kept: let its forward "
                    "begin with that at rest, as by functional.reset_net(self.net) of SpikingJelly"
                ) from error
            raise
    recording = record(clone, images[:1], casts_round=casts_round)
    _, chosen = _chosen(recording, options.output)
    return Read(clone, lower(recording, chosen, first, domain), feed, place, alone=True)


def _with_hooks(plain: nn.Module, hooked: nn.Module, images: torch.Tensor) -> nn.Module:
    """The copy that calls its hooks if these change what it gives; else the plain one."""
    found: list[list[torch.Tensor]] = []
    for model in (plain, hooked):
        with untouched(model), Float64():
            try:
                given = model(images.clone())
            except (RuntimeError, ValueError, TypeError):  # as without a hook that makes what a module takes
                given = None
        found.append([leaf for leaf in tree_leaves(as_tree(given)) if isinstance(leaf, torch.Tensor)])
    same = len(found[0]) == len(found[1]) and all(map(torch.equal, *found))
    return plain if same else hooked


def example(feed: Feed, shape: tuple[int, ...], *, signs: bool, images: int = IMAGES) -> torch.Tensor:
    """Images with which a model is run once, float64."""
    rng = np.random.default_rng(0)
    levels = rng.integers(feed.min_level, feed.max_level + 1, (images, *shape))
    if signs:
        levels = np.where(levels >= 0, 1, -1)
    return torch.from_numpy(feed(levels.astype(np.float64)))


def shape_of(model: nn.Module, given: Sequence[int] | None) -> tuple[int, ...]:
    """The shape of one image, as given or as the model says. Raises `ConversionError` if neither does."""
    if given is not None:
        return tuple(given)
    if isinstance(model, BinaryConvNet):
        return model.image_shape
    layers = [module for module in model.modules() if hasattr(module, "weight") and not _has_children(module)]
    width = getattr(layers[0], "in_features", None) if layers else None
    if not isinstance(width, int):
        raise ConversionError(
            "the shape of an image is not known: pass input_shape=(channels, rows, columns), (channels, length) or "
            "(features,), as the model takes it"
        )
    return (width,)


def _has_children(module: nn.Module) -> bool:
    return next(module.children(), None) is not None


def first_leaf(feed: Feed, shape: tuple[int, ...], *, signs: bool) -> Leaf:
    """What the levels of the images are to the model."""
    ones = (1,) * len(shape)
    low, high = np.full(ones, feed.min_level, np.int64), np.full(ones, feed.max_level, np.int64)
    source = Source("input", shape, low, high, step=2 if signs else 1)
    if feed.mean is None or feed.std is None:
        return Leaf(source, np.ones(ones), np.zeros(ones))
    channels = (-1, *(1,) * (len(shape) - 1))
    mean, std = feed.mean.reshape(channels), feed.std.reshape(channels)
    gain, offset = 1 / (std * feed.max_level), -mean / std
    size = float(np.abs(gain).max()) * max(abs(feed.min_level), feed.max_level) + float(np.abs(offset).max())
    slack = constant(8 * UNIT_ROUNDOFF * size)
    return Fed(source, gain, offset, slack, max_level=feed.max_level, mean=mean, std=std)


def _divides(recording: Recording, max_level: int) -> bool:
    """Whether the first thing that a model computes of its images is a division by `max_level`."""
    value = recording.input
    for step in recording.steps:
        if value not in step.refs:
            continue
        made = step.outputs[0]
        if step.name in ("detach", "clone", "_to_copy", "view", "alias") and made is not None:
            value = made
            continue
        number = step.args[1] if len(step.args) > 1 else None
        scalar = isinstance(number, (int, float)) or (isinstance(number, torch.Tensor) and number.numel() == 1)
        if not scalar or max_level <= 1 or step.name not in ("div", "mul"):
            return False
        divisor = float(number) if step.name == "div" else 1 / float(number)  # type: ignore[arg-type]
        return abs(divisor / max_level - 1) < 1e-6
    return False


def _chosen(recording: Recording, output: str | int | None) -> tuple[int, Ref]:
    """Place and value of the output of the model that is converted: the only one, or the one of this name or number."""
    found: dict[str, tuple[int, Ref]] = {}
    leaves = [(path, leaf) for path, leaf in tree_flatten_with_path(recording.output)[0] if leaf is not None]
    for place, (path, leaf) in enumerate(leaves):
        if isinstance(leaf, Ref):
            found[".".join(_name(key) for key in path)] = place, leaf
    if not found and recording.left is not None:
        raise ConversionError(
            f"{recording.left} hands values of the images to what is not PyTorch, where nothing follows them: write it "
            "with operations of torch"
        )
    if not found:
        raise ConversionError(
            f"the model gives nothing that depends on its input ({type(recording.output).__name__}): it must give "
            "tensors, in tuples, lists, dictionaries or dataclasses if they are several"
        )
    if output is None and len(found) == 1:
        return next(iter(found.values()))
    names = ", ".join(found)
    if output is None:
        raise ConversionError(f"the model gives {len(found)} outputs ({names}): choose one with output=")
    places = list(found.values())
    if isinstance(output, int) and str(output) not in found and -len(places) <= output < len(places):
        return places[output]
    by_number = {ref.number: place for place, ref in found.values()}
    for step in recording.steps:  # by the name of the module that computes it, too
        for ref in step.outputs:
            if ref is not None and ref.number in by_number and step.place.module:
                found.setdefault(step.place.module, (by_number[ref.number], ref))
    if str(output) not in found:
        raise ConversionError(f"the model has no output {output!r}; it gives {names or 'one, without a name'}")
    return found[str(output)]


def _name(key: Any) -> str:
    """`head2` for a dict's or an object's, `1` for a tuple's."""
    for field in ("key", "name", "idx"):
        if hasattr(key, field):
            return str(getattr(key, field))
    return str(key)
