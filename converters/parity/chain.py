"""The converter's self-check: does the integer network compute what the model computes?

Random images of the network's domain go through three forms of the model:

- a plain copy in float64, module by module, to which the conversion must be exact, sign by sign and class by class;
- the user's own module as it was given, called as users call it, in its own type;
- a plain copy in that type, module by module. It must give the logits of the user's module to the bit, which shows that
  the modules that were read are the model. Sums that its type rounds across a threshold are counted and named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lava_meta.converters.chain.folding import Folded
from lava_meta.converters.chain.reading import Chain, Stage, read
from lava_meta.converters.feed import Feed
from lava_meta.converters.functions.monotone import UNIT_ROUNDOFF
from lava_meta.converters.parity.probes import First, has_thresholds, probe, ties
from lava_meta.converters.recording.calling import call, computed, float_types, floats_in, name_of
from lava_meta.converters.recording.half import InHalf
from lava_meta.converters.recording.unwrapping import has_hooks, plain_copy, unwrap
from lava_meta.converters.refusals import NotAChain
from lava_meta.errors import ConversionError, FormatError
from lava_meta.graph import BinaryGraph
from lava_meta.graph.inputs import Domain
from lava_meta.nn import AbsStep, TaskBatchNorm, select_task


@dataclass(frozen=True)
class Parity:
    """What the self-check saw. `mismatches` counts signs of hidden units and classes that differ, by layer name."""

    images: int  # images checked
    seed: int  # of the images
    compared: int  # signs and classes compared
    mismatches: dict[str, int]  # against the model in float64: all 0 for an exact conversion
    own: dict[str, int]  # against the model in its own type: rounding of the model itself
    own_type: str  # the model's floating type, such as float32
    own_classes: int  # images to which the user's own module, called as it is, gives another class
    ties: dict[str, int]  # sums that tie with a threshold, and classes with each other, where float64 rounds otherwise
    probes: int  # inputs made for one unit, whose sum is its threshold, or the greatest below; in the counts above too
    # Of real streams, by node: the greatest difference to the model in float64, and the bound that was carried along.
    bounds: dict[str, list[float]] = field(default_factory=dict)
    # Nodes whose comparison decides nothing: their bounds, as shares of the spread of their values.
    unverified: dict[str, float] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether every sign and class equals the float64 model's."""
        return not any(self.mismatches.values())

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready values."""
        return asdict(self) | {"exact": self.exact}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Parity:
        """What `to_dict` gave. Fields of other versions are left out. Raises `FormatError` for anything else."""
        try:
            found = cls(**{own.name: record[own.name] for own in fields(cls) if own.name in record})
            str(found)
        except (TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"the file's record of its self-check cannot be read: {error}") from error
        return found

    def __str__(self) -> str:
        wrong, rounded = sum(self.mismatches.values()), sum(self.own.values())
        text = f"{self.compared:,} signs and classes of {self.images} images, {self.probes:,} probes of thresholds: "
        text += f"{wrong} mismatches with the float64 model"
        if tied := sum(self.ties.values()):
            text += f"; in {tied} exact ties float64 rounds to the other side"
        if self.bounds:
            beyond = sum(difference > bound for difference, bound in self.bounds.values())
            held = (
                f"{beyond} of {len(self.bounds)} real streams beyond"
                if beyond
                else f"{len(self.bounds)} real streams within"
            )
            largest = max(difference for difference, _ in self.bounds.values())
            text += f"; {held} their bounds (differences to {largest:.2g})"
        if self.bounds.get("readout"):
            difference, bound = self.bounds["readout"]
            text += f"; values of classes differ by {difference:.2g}, {difference / bound:.2g} of their bound"
        if self.unverified:
            nodes = ", ".join(f"{name} ({share:.2g} of their spread)" for name, share in self.unverified.items())
            text += (
                f"; unverified, since the bounds of their values are too wide to tell: {nodes}. Norm or scale down the "
                "values in front, and compare on data (net.compare)"
            )
        if rounded:
            layers = ", ".join(f"{name} {count}" for name, count in self.own.items() if count)
            text += f"; {self.own_type} rounds {rounded} sums across a threshold ({layers})"
        if self.own_classes:
            text += f"; the model itself gives {self.own_classes} images another class"
        return text


def domain_images(graph: Domain, count: int, seed: int) -> NDArray[Any]:
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


def model_activations(model: nn.Module, inputs: torch.Tensor) -> dict[str, NDArray[Any]]:
    """The signs that each stage of `model` hands on, flat, and its logits, named as by `BinaryGraph.named_layers`.

    Units of 0 and 1 are two signs each (`Stage`). `model` is a plain copy; `inputs` (n, ...) are of its type. The signs
    of binarized inputs are `inputs`.

    Raises:
        ConversionError: The modules, one after the other, do not give what the model gives.
    """
    walk = _walk(read(model), inputs)
    _check_same(model, walk.outputs, call(model, inputs))
    return walk.found


@dataclass(frozen=True)
class _Walk:
    """What the modules of a model give, one after the other."""

    found: dict[str, NDArray[Any]]  # by stage: signs int8 (n, units), and the readout's values before a softmax
    before: dict[str, NDArray[Any]]  # what comes before each sign, float64
    outputs: torch.Tensor  # what the last module gives


@torch.no_grad()
def _walk(chain: Chain, inputs: torch.Tensor, given: dict[str, NDArray[Any]] | None = None) -> _Walk:
    """Run the modules of a chain. If signs are `given`, the next stage gets these.

    In float64 every floating value is of that type, in another type those that the model's own forward names.
    """
    front, stages = chain.front, chain.stages
    names = {stage.end: f"hidden{i}" for i, stage in enumerate(stages[:-1], 1)}
    names[stages[-1].end] = "readout"
    if front.sign is not None:
        names[front.end] = "inputs"
    signs = {stage.sign_place for stage in stages}
    steps = {f"hidden{i}": stage.sign for i, stage in enumerate(stages, 1) if isinstance(stage.sign, AbsStep)}
    found: dict[str, NDArray[Any]] = {}
    values: dict[str, NDArray[Any]] = {}
    x, before = inputs, torch.zeros(0, 0)
    for place, (label, module) in enumerate(chain.modules):
        if place in signs:
            before = x
        try:
            if inputs.dtype == torch.float64:
                with floats_in(torch.float64):
                    x = module(x.clone())
            else:
                x = computed(module, x, inputs.dtype)
        except RuntimeError as error:
            raise ConversionError(f"{label} ({type(module).__name__}) fails: {error}") from error
        name = names.get(place)
        if name is None:
            continue
        here = x.flatten(1).double().cpu().numpy()
        found[name] = here if name == "readout" else here.astype(np.int8)
        values[name] = before.flatten(1).double().cpu().numpy()
        if name in steps:
            values[name] = _edges(values[name], steps[name].width)
            found[name] = _signs_of_steps(values[name], here)
        if given is not None and name != "readout":
            ours = _steps_of(given[name]) if name in steps else given[name]
            x = torch.from_numpy(ours.reshape(x.shape)).to(x)
    return _Walk(found, values, x.cpu())


def _edges(values: NDArray[Any], width: float) -> NDArray[Any]:
    """How far values (n, units) lie beyond both edges of `AbsStep`, (n, 2 units)."""
    return np.concatenate([values - width, -values - width], axis=1)


def _signs_of_steps(beyond: NDArray[Any], steps: NDArray[Any]) -> NDArray[Any]:
    """The two signs of each unit of 0 and 1, int8; 0 where they are not what the model made, `steps`."""
    signs = np.where(beyond > 0, 1, -1).astype(np.int8)
    return np.where(np.tile(_steps_of(signs) == steps, 2), signs, 0).astype(np.int8)


def _steps_of(signs: NDArray[Any]) -> NDArray[Any]:
    """The units of 0 and 1 (n, units) that signs (n, 2 units) stand for."""
    rising, falling = np.split(signs, 2, axis=1)
    steps: NDArray[Any] = (rising + falling) // 2 + 1
    return steps


def _check_same(model: nn.Module, outputs: torch.Tensor, own: torch.Tensor) -> None:
    """Raises `ConversionError` where the modules' outputs are not, to the bit, those of the model itself."""
    if outputs.shape == own.shape and np.array_equal(outputs.double().numpy(), own.double().numpy(), equal_nan=True):
        return
    types = float_types(model)
    told = f"; it computes in {' and '.join(map(name_of, types))}: convert model.float()" if len(types) > 1 else ""
    kind = NotAChain if has_hooks(model) else ConversionError  # what hooks do, a run of the model shows
    raise kind(
        "the modules read from the model give other logits than the model's own forward, which does something that "
        f"they do not show, such as a hook{told}"
    )


def _within_rounding(values: NDArray[Any], signs: NDArray[Any]) -> NDArray[Any]:
    """Where what a norm over an image gives before a sign is 0 within float64's rounding, by each unit's own values.

    Nowhere if pooling lies between.
    """
    if values.shape != signs.shape:
        return np.zeros(signs.shape, bool)
    within: NDArray[Any] = np.abs(values) <= 1e-12 * np.abs(values).max(axis=0)
    return within


def ties_within_rounding(
    graph: BinaryGraph, images: NDArray[Any], stages: Sequence[Stage], first: First | None
) -> dict[str, NDArray[Any]]:
    """Where float64's rounding may decide a unit's sign, booleans (n, n_out), by layer; only layers where it can."""
    tied: dict[str, NDArray[Any]] = {}
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


def _class_slack(graph: BinaryGraph, sums: NDArray[Any]) -> NDArray[Any]:
    """By how much float64's rounding may move the values of two classes against each other, float64 (n,)."""
    sizes = np.abs(graph.readout.scale * sums) + np.abs(graph.readout.offset)
    slack: NDArray[Any] = (graph.readout.n_in + 8) * UNIT_ROUNDOFF * sizes.max(axis=1)
    return slack


def check(
    model: nn.Module,
    folded: Folded,
    *,
    images: NDArray[Any] | None = None,
    count: int = 64,
    seed: int = 0,
) -> Parity:
    """Compare what `model` was read as with the model, layer by layer, on `images` or on `count` random ones.

    Args:
        model: The user's own module, which is left as it was.
        folded: What it was read as.
        images: Integers (n, ...) of the network's domain.
        count: How many random images to draw.
        seed: Of these images.

    Returns:
        What was compared, and what differs; see `Parity`.

    Raises:
        ConversionError: The model fails on its domain, or its forward gives other logits than the modules read from it.
    """
    graph, feed = folded.graph, folded.feed
    front, stages = folded.chain.front, folded.chain.stages
    if images is None:
        images = domain_images(graph, count, seed)
    ours = graph.activations(images)
    sums = ours["readout"]
    ours["readout"] = graph.readout.classes(sums)
    if graph.binarize is not None:
        ours["inputs"] = np.where(graph.binarize.fires(graph.check_images(images)), 1, -1)
    first = First.of(graph, front, feed)
    tied = ties_within_rounding(graph, images, stages, first)
    inexact = first is not None and not first.scale.exact
    rounding_norms = [  # over sums that float64 rounds
        f"hidden{i + 1}"
        for i, (layer, stage) in enumerate(zip(graph.layers, stages, strict=False))
        if not has_thresholds(layer) and (stage.rounds or (i == 0 and inexact))
    ]
    probed = probe(graph, front, stages, feed, seed)
    given = ours if tied else None  # one tie would move all that follows: compare layers on our signs
    walk = _walk(folded.chain, model_inputs(graph, images, torch.float64, feed), given)
    for name in rounding_norms:
        tied[name] |= _within_rounding(walk.before[name], ours[name])
    wrong = _differences(ours, walk)
    scores = graph.readout.values(sums)
    chosen = walk.found["readout"].argmax(axis=1)
    best, other = (np.take_along_axis(scores, c[:, None], 1)[:, 0] for c in (ours["readout"], chosen))
    tied["readout"] = best - other <= _class_slack(graph, sums)
    own, own_classes, own_type = _own(model, folded, images, ours, given)
    return Parity(
        images=len(images),
        seed=seed,
        compared=sum(values.size for values in ours.values()),
        mismatches={
            name: int((found & ~tied.get(name, np.zeros((), bool))).sum())
            + (probed[name].wrong if name in probed else 0)
            for name, found in wrong.items()
        },
        own={name: int(w.sum()) for name, w in own.items()},
        own_type=own_type,
        own_classes=own_classes,
        ties={
            name: int((found & tied[name]).sum()) + (probed[name].ties if name in probed else 0)
            for name, found in wrong.items()
            if name in tied
        },
        probes=sum(layer.count for layer in probed.values()),
    )


def model_inputs(graph: Domain, images: NDArray[Any], dtype: torch.dtype, feed: Feed) -> torch.Tensor:
    """Images as users feed them to a model of type `dtype`: (n, *input_shape), scaled in float32 or wider."""
    levels = graph.check_images(images).reshape(-1, *graph.input_shape)
    return torch.from_numpy(feed(levels.astype(np.float64 if dtype == torch.float64 else np.float32))).to(dtype)


def _own(
    model: nn.Module,
    folded: Folded,
    images: NDArray[Any],
    ours: dict[str, NDArray[Any]],
    given: dict[str, NDArray[Any]] | None,
) -> tuple[dict[str, NDArray[Any]], int, str]:
    """Where the model in its own type differs from us, the images to which it gives another class, and that type."""
    model = unwrap(model)
    clone = plain_copy(model)
    select_task(clone, folded.task)
    if any(isinstance(norm, TaskBatchNorm) and norm.task != folded.task for norm in model.modules()):
        model = clone  # it stands at another task than the one that is converted
    dtype = float_types(model)[0]
    inputs = model_inputs(folded.graph, images, dtype, folded.feed)
    half = InHalf(model)
    with half:
        outputs = call(model, inputs)
    device = next((parameter.device for parameter in clone.parameters()), inputs.device)
    chain = read(clone)
    walk = _walk(chain, inputs.to(device))
    _check_same(model, walk.outputs, outputs)
    if given is not None:
        walk = _walk(chain, inputs.to(device), given)
    another = int((outputs.double().numpy().argmax(axis=1) != ours["readout"]).sum())
    half.warn(another, len(images))
    return _differences(ours, walk), another, name_of(dtype)


def _differences(ours: dict[str, NDArray[Any]], walk: _Walk) -> dict[str, NDArray[Any]]:
    theirs = walk.found | {"readout": walk.found["readout"].argmax(axis=1)}
    return {name: ours[name] != theirs[name] for name in ours}
