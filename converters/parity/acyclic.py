"""The self-check of an `AcyclicGraph`: each node beside the model's own value at the same place of its run.

The model runs once more, in float64, on random images. After each operation whose result a node holds, the two are
compared. Real streams must lie within a bound: what the streams in front of them, compared before, were seen to differ
by on these images, carried on, and the rounding between. Levels must be equal, or tie: the model's own operations give
the model's level for a value within that bound of the network's, and within 2**-20 of the node's values, far less than
float32 rounds. Where levels differ, the model goes on with the network's, so that no node is blamed for another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

from lava_meta.converters.functions.expressions import Expr, Known, Slack, Source, evaluate, leaf_of
from lava_meta.converters.functions.monotone import UNIT_ROUNDOFF
from lava_meta.converters.lowering.acyclic import Read
from lava_meta.converters.lowering.values import Check, Order
from lava_meta.converters.parity.chain import Parity, domain_images, model_inputs
from lava_meta.converters.recording.calling import call, float_types, name_of, untouched
from lava_meta.converters.recording.half import InHalf
from lava_meta.converters.recording.operations import Float64, counted
from lava_meta.converters.recording.unwrapping import unwrap
from lava_meta.converters.recording.written_out import Functions
from lava_meta.errors import ConversionError
from lava_meta.graph.acyclic import READOUT, AcyclicGraph
from lava_meta.graph.nodes import Curve, Multiply

_ROUNDINGS = 16  # of float64 in what the model computes between two nodes, that a bound may not have counted
_CAUTION = 4.0  # times a bound, likewise
_DOUBT = 2.0**-20  # of a node's greatest value: what lies farther from a threshold is no tie, whatever the bound
_DECIDES = 0.01  # of the spread of a node's values: with a wider bound its comparison says nothing
_ALONE = 16  # images, at most, of a model that is run on one after the other
_VALUES = 2**20  # of the widest node of the images that are compared, at most, beside a few images


@dataclass
class Seen:
    """What was seen of one node."""

    compared: int = 0
    wrong: int = 0
    tied: int = 0
    difference: float = 0.0  # the greatest, of a stream
    bound: float = 0.0
    spread: float = 0.0  # standard deviation of its values


class _OnImages(Known):
    """What is known on the images of a run."""

    def __init__(self, ours: dict[str, NDArray[Any]], seen: dict[str, Seen]) -> None:
        self.ours, self.seen = ours, seen
        self.found: dict[str, tuple[float, float]] = {}
        self.sizes: dict[str, float] = {}

    def ends(self, source: Source) -> tuple[float, float]:
        if source.node not in self.found:
            ours = self.ours[source.node]
            self.found[source.node] = float(ours.min()), float(ours.max())
        return self.found[source.node]

    def largest(self, source: Source) -> float:
        low, high = self.ends(source)
        return max(abs(low), abs(high))

    def least(self, source: Source) -> float:
        if source.node not in self.sizes:
            ours = np.abs(self.ours[source.node].astype(np.int64))
            self.sizes[source.node] = float(ours[ours > 0].min(initial=np.iinfo(np.int64).max))
        return self.sizes[source.node]

    def difference(self, node: str, slack: Slack) -> float:
        return self.seen[node].difference if node in self.seen else slack.proven


class _Beside(Float64):
    """Compares the results of a run of the model with a network's integers, operation by operation."""

    def __init__(self, read: Read, ours: dict[str, NDArray[Any]]) -> None:
        super().__init__()
        self.lowered, self.place, self.ours = read.lowered, read.place, ours
        self.number, self.at = 0, slice(None)  # of the run: its operations so far, and its images
        self.checks: dict[int, list[Check]] = {}
        for check in read.lowered.checks:
            self.checks.setdefault(check.step, []).append(check)
        self.seen: dict[str, Seen] = {}
        self.known = _OnImages(ours, self.seen)
        self.scores: list[Tensor] = []

    def run(self, model: nn.Module, inputs: Tensor, at: slice) -> None:
        """Call the model on some of the images."""
        self.number, self.at = 0, at
        own = inputs[at].clone()
        with self:
            returned = model(own)
        if self.lowered.end < 0:  # written into by parts, which is no operation of the run
            self.scores.append([leaf for leaf in tree_leaves(returned) if leaf is not None][self.place].clone())

    def done(self, func: Any, args: Any, kwargs: Any) -> Any:
        number, self.number = self.number, self.number + counted(func)
        self.rounds = counted(func) and number in self.lowered.rounded
        result = super().done(func, args, kwargs)
        outputs = result if isinstance(result, (tuple, list)) else (result,)
        with _disable_current_modes():
            for check in self.checks.get(number, ()) if counted(func) else ():
                self._compare(check, outputs[check.output])
            if number == self.lowered.end and counted(func):
                self.scores.append(outputs[0].detach().clone())
        return result

    def _compare(self, check: Check, tensor: Tensor) -> None:
        leaf = check.leaf
        name, shape = leaf.source.node, leaf.source.shape
        integers = self.ours[name][self.at].reshape(-1, *shape)
        count = len(integers)
        ours = _moved(leaf.values(integers).numpy(), check.move)
        if tensor.numel() != ours.size:
            raise ConversionError(
                f"{name}: the model does something else on {count} images than on two; what it does may not depend on "
                "the number of images"
            )
        theirs = tensor.detach().double().numpy().reshape(ours.shape)
        seen = self.seen.setdefault(name, Seen())
        seen.compared += ours.size
        difference = np.abs(ours - theirs)
        if check.levels:
            # Levels that fixed point does not hold, as thirds, differ by its rounding, far less than by one level.
            same = leaf.slack(self.known) + 1e-6 * float(np.abs(leaf.gain).min())
            differ = difference > same
            tied = differ & self._undecided(check, ours, theirs, same) if differ.any() else differ
            seen.wrong, seen.tied = seen.wrong + int((differ & ~tied).sum()), seen.tied + int(tied.sum())
            if differ.any():
                tensor.copy_(torch.from_numpy(np.ascontiguousarray(ours)).reshape(tensor.shape).to(tensor.dtype))
            return
        rounded = _ROUNDINGS * UNIT_ROUNDOFF * float(np.abs(theirs).max())  # by the model's own operations
        bound = _CAUTION * leaf.slack(self.known) + rounded
        seen.difference, seen.bound = max(seen.difference, float(difference.max())), max(seen.bound, bound)
        seen.spread = max(seen.spread, float(theirs.std()))
        seen.wrong += int((difference > bound).sum())

    def _undecided(self, check: Check, ours: NDArray[Any], theirs: NDArray[Any], same: float) -> NDArray[Any]:
        """Where the model's function gives both levels, its own and the network's, within the bound of a value.

        Of places in an order: where the values at both are equal within it.
        """
        if check.order is not None:
            return self._alike(check.order, ours, theirs)
        least, greatest = self._near(check.function, check.move)
        undecided: NDArray[Any] = (least - same <= np.minimum(ours, theirs)) & (
            np.maximum(ours, theirs) <= greatest + same
        )
        return undecided

    def _alike(self, order: Order, ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[Any]:
        row, dim = order.row, order.dim
        ends = [end.reshape(len(end), *row.shape) for end in self._near(row.expr, row.move)]
        shape = (*ours.shape[:dim], -1, *ours.shape[dim + (ends[0].ndim == ours.ndim) :])
        if shape[:dim] + shape[dim + 1 :] != ends[0].shape[:dim] + ends[0].shape[dim + 1 :]:  # reshaped in between
            return np.zeros(ours.shape, bool)
        both = [np.rint(places).astype(np.int64).reshape(shape) for places in (ours, theirs)]
        least, greatest = ([np.take_along_axis(end, places, dim) for places in both] for end in ends)
        alike: NDArray[Any] = (least[0] <= greatest[1]) & (least[1] <= greatest[0])
        return alike.reshape(ours.shape)

    def _near(self, function: Expr, move: NDArray[Any] | None) -> list[NDArray[Any]]:
        """The least and the greatest that a function gives within the bound of what it takes."""
        before = leaf_of(function)[0]
        every = before.values(self.ours[before.source.node].reshape(-1, *before.source.shape))
        values = every[self.at]  # of an image alone all may be 0, as of a black one
        reach = min(_CAUTION * before.slack(self.known), _DOUBT * float(every.abs().max()))
        ends = [evaluate(function, values + moved).double() for moved in (-reach, 0.0, reach)]
        near = np.stack([_moved(end.expand(values.shape).numpy(), move) for end in ends])
        return [near.min(axis=0), near.max(axis=0)]


def _moved(values: NDArray[Any], move: NDArray[Any] | None) -> NDArray[Any]:
    """A node's values (n, *shape) at the places where the model has them; 0 where it pads."""
    if move is None:
        return values
    taken: NDArray[Any] = np.where(move < 0, 0, values.reshape(len(values), -1)[:, move])
    return taken


def check_acyclic(model: nn.Module, read: Read, *, count: int = 64, seed: int = 0) -> Parity:
    """Compare what `model` was read as with the model, node by node, on random images of its domain.

    Args:
        model: The user's own module, which is left as it was.
        read: What it was read as.
        count: How many images; fewer where they are large.
        seed: Of these images.

    Raises:
        ConversionError: The model fails on its domain, or does not do what was recorded.
    """
    graph = read.lowered.graph
    widest = max(graph.n_in, *(layer.n_out for layer in graph.placed.values()))
    count = min(count, _ALONE) if read.alone else count
    images = domain_images(graph, max(2, min(count, _VALUES // widest)), seed)
    ours = graph.activations(images) | {"input": graph.check_images(images)}
    beside = _Beside(read, ours)
    inputs = model_inputs(graph, images, torch.float64, read.feed)
    with untouched(read.model), Functions():
        try:
            each = 1 if read.alone else len(images)
            with Float64():
                read.model(inputs[: min(each, 2)].clone())
            for start in range(0, len(images), each):
                beside.run(read.model, inputs, slice(start, start + each))
        except ConversionError:
            raise
        except Exception as error:
            raise ConversionError(
                f"the model itself fails on float64 inputs of shape {tuple(inputs.shape)}, though not on two images: "
                f"{type(error).__name__}: {error}. Neither shapes nor what it keeps from earlier calls, which makes a "
                "cycle, may depend on the number of images"
            ) from error
    last = _classes(read, ours[READOUT], beside)
    own_classes, own_type = _own(model, read, images, graph.readout.classes(ours[READOUT]))
    seen = beside.seen | {READOUT: last}
    return Parity(
        images=len(images),
        seed=seed,
        compared=sum(node.compared for node in seen.values()),
        mismatches={name: node.wrong for name, node in seen.items()},
        own={},
        own_type=own_type,
        own_classes=own_classes,
        ties={name: node.tied for name, node in seen.items()},
        probes=0,
        bounds={name: [node.difference, node.bound] for name, node in seen.items() if node.bound},
        unverified={
            name: node.bound / node.spread for name, node in seen.items() if node.bound > _DECIDES * node.spread > 0
        },
    )


def _classes(read: Read, sums: NDArray[Any], beside: _Beside) -> Seen:
    """Classes that differ from the model's, those of them whose values lie within the bound, and the values' bound."""
    graph = read.lowered.graph
    scores = torch.cat(beside.scores) if beside.scores else None
    if scores is None or scores.numel() != sums.size:
        raise ConversionError(
            "the model does not give what it gave when it was read: its forward changes from call to call"
        )
    values = graph.readout.values(sums)
    theirs = scores.double().numpy().reshape(values.shape)
    slack = _CAUTION * read.lowered.slack(beside.known)
    ours, their = (np.moveaxis(each, 1, -1).reshape(-1, each.shape[1]) for each in (values, theirs))
    chosen, best = their.argmax(axis=1), ours.argmax(axis=1)
    rows = np.arange(len(ours))
    differ = chosen != best
    largest = float(np.abs(theirs).max())
    near = ours[rows, best] - ours[rows, chosen] <= 2 * min(slack, _DOUBT * largest)
    difference = np.abs(values - theirs)
    # What bounds allow that are wider than the values themselves is wrong where it decides.
    most = min(slack, max(_DECIDES * float(theirs.std()), _DOUBT * largest))
    wrong = int((difference > most).any(axis=1).sum()) + int((differ & ~near).sum())
    bound = 0.0
    if any(isinstance(node, (Curve, Multiply)) for node in graph.nodes.values()):
        bound = max(slack, beside.seen[graph.output].bound if graph.output in beside.seen else 0.0)
    tied = int((differ & near).sum())
    return Seen(len(ours), wrong, tied, float(difference.max()), bound, float(theirs.std()))


def _own(model: nn.Module, read: Read, images: NDArray[Any], classes: NDArray[Any]) -> tuple[int, str]:
    """Images to which the user's own module, in its own type, gives another class, and that type."""
    graph: AcyclicGraph = read.lowered.graph
    model = unwrap(model)
    dtype = float_types(model)[0]
    half = InHalf(model, read.lowered.rounded_at)
    with half:
        found = call(model, model_inputs(graph, images, dtype, read.feed), read.place)
    differ = found.double().numpy().argmax(axis=1) != classes
    wrong = int(differ.reshape(len(classes), -1).any(axis=1).sum())
    half.warn(wrong, len(images))
    return wrong, name_of(dtype)
