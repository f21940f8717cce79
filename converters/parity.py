"""The converter's self-check: does the integer network compute what the model computes?

The model is evaluated twice on random images of its own domain: in float64, to which the conversion must be exact, sign
by sign and class by class; and in float32, as users run it, where sums that fall within rounding of a threshold may
come out on the other side. Differences of the second kind are counted and named, not hidden.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import nn

from lava_meta.converters.reading import flat, read
from lava_meta.converters.torch import prepare
from lava_meta.errors import ConversionError, FormatError
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
            found = cls(**{field.name: record[field.name] for field in fields(cls) if field.name in record})
            str(found)
        except (TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"the file's record of its self-check cannot be read: {error}") from error
        return found

    def __str__(self) -> str:
        wrong, rounded = sum(self.mismatches.values()), sum(self.float32.values())
        text = f"{self.compared:,} signs and classes of {self.images} images: {wrong} mismatches with the float64 model"
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
    """Where the model's own value before a sign is 0 within float64's rounding; nowhere if pooling lies between."""
    if values.shape != signs.shape:
        return np.zeros(signs.shape, bool)
    return np.abs(values) <= 1e-12 * np.abs(values).max()


def exact_ties(graph: BinaryGraph, images: np.ndarray) -> dict[str, np.ndarray]:
    """Where units tie with a threshold that is a statistic of the image, booleans (n, n_out); by layer with a norm."""
    tied: dict[str, np.ndarray] = {}
    x = graph.check_images(images)
    if graph.binarize is not None:
        x = np.where(graph.binarize.fires(x), 1, -1)
    for name, layer in graph.named_layers()[:-1]:
        sums = layer.sums(x)
        ties = layer.ties(sums)
        if ties is not None:
            tied[name] = ties
        x = np.where(layer.fires(sums), 1, -1)
    return tied


def check(
    model: nn.Module,
    graph: BinaryGraph,
    *,
    images: np.ndarray | None = None,
    task: int = 0,
    mean: float | None = None,
    std: float | None = None,
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
    tied = exact_ties(graph, images)
    rounding_layers = {f"hidden{i}" for i, stage in enumerate(read(exact)[1][:-1], 1) if stage.rounds}
    if mean is not None and "hidden1" in ours:
        rounding_layers.add("hidden1")  # its sums are of floats
    differences = []
    for version, dtype in ((exact, torch.float64), (rounding, torch.float32)):
        inputs = torch.from_numpy(graph.check_images(images).reshape(-1, *graph.input_shape).astype(np.int64)).to(dtype)
        if mean is not None and std is not None:
            inputs = (inputs / graph.max_level - mean) / std
        theirs = model_activations(version, inputs)
        if tied or rounding_layers:  # one tie would move all that follows: each layer is compared on our signs
            theirs, values = _walk(version, inputs, ours)
            if version is exact:
                for name in rounding_layers:
                    tied[name] = _within_rounding(values[name], ours[name]) | tied.get(name, False)
        theirs["readout"] = theirs["readout"].argmax(axis=1)
        differences.append({name: ours[name] != theirs[name] for name in ours})
        if version is exact:
            scores = graph.readout.values(sums)
            best, chosen = (np.take_along_axis(scores, c["readout"][:, None], 1)[:, 0] for c in (ours, theirs))
            tied["readout"] = best == chosen
    return Parity(
        images=len(images),
        seed=seed,
        compared=sum(values.size for values in ours.values()),
        mismatches={
            name: int((wrong & ~tied[name] if name in tied else wrong).sum()) for name, wrong in differences[0].items()
        },
        float32={name: int(wrong.sum()) for name, wrong in differences[1].items()},
        ties={name: int((wrong & tied[name]).sum()) for name, wrong in differences[0].items() if name in tied},
    )
