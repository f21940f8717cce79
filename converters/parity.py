"""The converter's self-check: does the integer network compute what the model computes?

The model is evaluated twice on random images of its own domain: in float64, to which the conversion must be exact, sign
by sign and class by class; and in float32, as users run it, where sums that fall within rounding of a threshold may
come out on the other side. Differences of the second kind are counted and named, not hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lava_meta.converters.probes import First, has_thresholds, probe, ties
from lava_meta.converters.reading import Stage, flat, read
from lava_meta.converters.scale import Feed
from lava_meta.converters.sums import UNIT_ROUNDOFF
from lava_meta.converters.torch import prepare
from lava_meta.errors import ConversionError
from lava_meta.graph import BinaryGraph
from lava_meta.nn import select_task


@dataclass(frozen=True)
class Parity:
    """What the self-check saw. `mismatches` counts signs of hidden units and classes that differ, by layer name."""

    images: int  # images checked
    seed: int  # of the images
    compared: int  # signs and classes compared
    mismatches: dict[str, int]  # against the model in float64: all 0 for an exact conversion
    float32: dict[str, int]  # against the model in float32: rounding of the model itself
    ties: dict[str, int]  # sums that tie with a threshold, and classes with each other, where float64 rounds otherwise
    probes: int  # inputs made for one unit, whose sum is its threshold, or the greatest below; in the counts above too

    @property
    def exact(self) -> bool:
        """Whether every sign and class equals the float64 model's."""
        return not any(self.mismatches.values())

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready values."""
        return asdict(self) | {"exact": self.exact}

    def __str__(self) -> str:
        wrong, rounded = sum(self.mismatches.values()), sum(self.float32.values())
        text = f"{self.compared:,} signs and classes of {self.images} images, {self.probes:,} probes of thresholds: "
        text += f"{wrong} mismatches with the float64 model"
        if tied := sum(self.ties.values()):
            text += f"; in {tied} exact ties float64 rounds to the other side"
        if rounded:
            layers = ", ".join(f"{name} {count}" for name, count in self.float32.items() if count)
            text += f"; float32 rounds {rounded} sums across a threshold ({layers})"
        return text


def domain_images(graph: BinaryGraph, count: int, seed: int) -> np.ndarray:
    """Random images (count, n_in) of the network's domain: uniform, sparse, two-valued and constant ones."""
    rng = np.random.default_rng(seed)
    shape, low, high = (count, graph.n_in), graph.min_level, graph.max_level
    images = rng.integers(low, high + 1, shape)
    kind = np.arange(count) % 4
    images = np.where((kind == 1)[:, None] & (rng.random(shape) < 0.8), 0, images)
    images = np.where((kind == 2)[:, None], np.where(images > (low + high) // 2, high, low), images)
    if graph.signs:  # drawn as above, so that -1, +1 and both are frequent
        images = np.where(images > 0, 1, -1)
    images[0], images[1:2] = low, high
    return images.astype(graph.dtype)


def model_activations(model: nn.Module, inputs: torch.Tensor) -> dict[str, np.ndarray]:
    """The signs that each stage of `model` hands on, flat, and its logits, named as by `BinaryGraph.named_layers`.

    The signs of binarized inputs are `inputs`.

    Raises `ConversionError` if the modules, one after the other, do not give what the model gives.
    """
    found, _ = _walk(model, inputs)
    _check_own_forward(model, inputs, found["readout"])
    return found


def _walk(
    model: nn.Module, inputs: torch.Tensor, given: dict[str, np.ndarray] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What each stage hands on, and what comes before its sign. Where signs are `given`, the next stage gets these."""
    front, stages = read(model)
    names = {stage.end: f"hidden{i}" for i, stage in enumerate(stages[:-1], 1)}
    if front.sign is not None:
        names[front.end] = "inputs"
    signs = {stage.sign_place for stage in stages}
    found: dict[str, np.ndarray] = {}
    values: dict[str, np.ndarray] = {}
    x, before = inputs, torch.zeros(0, 0)
    with torch.no_grad():
        for place, (_, module) in enumerate(flat(model)):
            if place in signs:
                before = x
            x = module(x)
            if place in names:
                found[names[place]] = x.flatten(1).numpy().astype(np.int8)
                values[names[place]] = before.flatten(1).numpy()
                if given is not None:
                    x = torch.from_numpy(given[names[place]].reshape(x.shape)).to(x.dtype)
    return found | {"readout": x.numpy()}, values


def _check_own_forward(model: nn.Module, inputs: torch.Tensor, logits: np.ndarray) -> None:
    try:
        with torch.no_grad():
            own = model(inputs).numpy()
    except RuntimeError as error:
        if inputs.dtype == torch.float64:
            return  # a forward that makes float32 on its way, as torch.where of numbers does: float32 is checked too
        raise ConversionError(f"the model fails on inputs of its domain: {error}") from error
    if not np.array_equal(logits, own):
        raise ConversionError("the modules read from the model give other logits than the model's own forward")


def _within_rounding(values: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Where what a norm over an image gives before a sign is 0 within float64's rounding, by each unit's own values.

    Nowhere if pooling lies between.
    """
    if values.shape != signs.shape:
        return np.zeros(signs.shape, bool)
    return np.abs(values) <= 1e-12 * np.abs(values).max(axis=0)


def ties_within_rounding(
    graph: BinaryGraph, images: np.ndarray, stages: Sequence[Stage], first: First | None
) -> dict[str, np.ndarray]:
    """Where float64's rounding may decide a unit's sign, booleans (n, n_out), by layer; only layers where it can."""
    tied: dict[str, np.ndarray] = {}
    x = graph.check_images(images)
    if graph.binarize is not None:
        x = np.where(graph.binarize.fires(x), 1, -1)
    for i, (layer, stage) in enumerate(zip(graph.layers, stages, strict=False)):
        sums, scale = layer.sums(x), None if first is None or i else first.scale
        statistical = layer.ties(sums)
        if statistical is not None:
            tied[f"hidden{i + 1}"] = statistical
        elif stage.rounds or not (scale is None or scale.exact):
            tied[f"hidden{i + 1}"] = ties(layer, stage, scale, sums)
        x = np.where(layer.fires(sums), 1, -1)
    return tied


def _class_slack(graph: BinaryGraph, sums: np.ndarray) -> np.ndarray:
    """By how much float64's rounding may move the values of two classes against each other, float64 (n,)."""
    sizes = np.abs(graph.readout.scale * sums) + np.abs(graph.readout.offset)
    slack: np.ndarray = (graph.readout.n_in + 8) * UNIT_ROUNDOFF * sizes.max(axis=1)
    return slack


def check(
    model: nn.Module,
    graph: BinaryGraph,
    *,
    images: np.ndarray | None = None,
    task: int = 0,
    mean: Any = None,
    std: Any = None,
    count: int = 64,
    seed: int = 0,
) -> Parity:
    """Compare `graph` with `model` layer by layer, on `images` or on `count` random ones; see `Parity`."""
    if images is None:
        images = domain_images(graph, count, seed)
    ours = graph.activations(images)
    sums = ours["readout"]
    ours["readout"] = graph.readout.classes(sums)
    if graph.binarize is not None:
        ours["inputs"] = np.where(graph.binarize.fires(graph.check_images(images)), 1, -1)
    exact = prepare(model, task)
    rounding = prepare(model, task).float()
    select_task(rounding, task)
    front, stages = read(exact)
    feed = Feed.given(mean, std, graph.input_shape, graph.max_level, graph.min_level)
    first = First.of(graph, front, feed)
    tied = ties_within_rounding(graph, images, stages, first)
    inexact = first is not None and not first.scale.exact
    rounding_norms = [  # over sums that float64 rounds
        f"hidden{i + 1}"
        for i, (layer, stage) in enumerate(zip(graph.layers, stages, strict=False))
        if not has_thresholds(layer) and (stage.rounds or (i == 0 and inexact))
    ]
    probed = probe(graph, front, stages, feed, seed)
    levels = graph.check_images(images).reshape(-1, *graph.input_shape)
    differences = []
    for version, kind in ((exact, np.float64), (rounding, np.float32)):
        inputs = torch.from_numpy(feed(levels.astype(kind)))
        theirs = model_activations(version, inputs)
        if tied:  # one tie would move all that follows: each layer is compared on our signs
            theirs, values = _walk(version, inputs, ours)
            if version is exact:
                for name in rounding_norms:
                    tied[name] |= _within_rounding(values[name], ours[name])
        theirs["readout"] = theirs["readout"].argmax(axis=1)
        differences.append({name: ours[name] != theirs[name] for name in ours})
        if version is exact:
            scores = graph.readout.values(sums)
            best, chosen = (np.take_along_axis(scores, c["readout"][:, None], 1)[:, 0] for c in (ours, theirs))
            tied["readout"] = best - chosen <= _class_slack(graph, sums)
    wrong = differences[0]
    return Parity(
        images=len(images),
        seed=seed,
        compared=sum(values.size for values in ours.values()),
        mismatches={
            name: int((found & ~tied.get(name, np.bool_(False))).sum()) + (probed[name].wrong if name in probed else 0)
            for name, found in wrong.items()
        },
        float32={name: int(found.sum()) for name, found in differences[1].items()},
        ties={
            name: int((found & tied[name]).sum()) + (probed[name].ties if name in probed else 0)
            for name, found in wrong.items()
            if name in tied
        },
        probes=sum(layer.count for layer in probed.values()),
    )
