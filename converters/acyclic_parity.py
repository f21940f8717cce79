"""The self-check of an `AcyclicGraph`: each node beside the model's own value at the same place of its run.

The model runs once more, in float64, on random images. After each operation whose result a node holds, the two are
compared: levels must be equal, or tie, when float64's rounding in front of a threshold may decide; real streams must
lie within the bound that was carried along. Where levels tie, the model goes on with the network's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from lava_meta.converters.acyclic import Read
from lava_meta.converters.calling import call, float_types, name_of, untouched
from lava_meta.converters.lower_values import Check
from lava_meta.converters.lowering import Lowered
from lava_meta.converters.monotone import UNIT_ROUNDOFF
from lava_meta.converters.parity import Parity, domain_images, model_inputs
from lava_meta.converters.recording import Float64, counted
from lava_meta.converters.unwrapping import unwrap
from lava_meta.converters.written_out import Functions
from lava_meta.errors import ConversionError
from lava_meta.graph.acyclic import READOUT, AcyclicGraph
from lava_meta.graph.nodes import Curve, Multiply, Threshold

_ROUNDINGS = 16  # of float64 in what the model computes between two nodes, that a bound may not have counted
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


class _Beside(Float64):
    """Compares the results of a run of the model with a network's integers, operation by operation."""

    def __init__(self, lowered: Lowered, ours: dict[str, NDArray[Any]]) -> None:
        super().__init__()
        self.lowered, self.ours = lowered, ours
        self.number, self.at = 0, slice(None)  # of the run: its operations so far, and its images
        self.checks: dict[int, list[Check]] = {}
        for check in lowered.checks:
            self.checks.setdefault(check.step, []).append(check)
        self.seen: dict[str, Seen] = {}
        self.scores: list[Tensor] = []

    def run(self, model: nn.Module, inputs: Tensor, at: slice) -> None:
        """Call the model on some of the images."""
        self.number, self.at = 0, at
        own = inputs[at].clone()
        with self:
            model(own)

    def done(self, func: Any, args: Any, kwargs: Any) -> Any:
        number, self.number = self.number, self.number + counted(func)
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
        ours = _moved(leaf.gain * integers.astype(np.float64) + leaf.constant, check)
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
            differ = difference > leaf.slack + 1e-6 * float(np.abs(leaf.gain).min())
            tied = differ & _moved(self._undecided(name, check, shape), check) if differ.any() else differ
            seen.wrong, seen.tied = seen.wrong + int((differ & ~tied).sum()), seen.tied + int(tied.sum())
            if differ.any():
                tensor.copy_(torch.from_numpy(np.ascontiguousarray(ours)).reshape(tensor.shape).to(tensor.dtype))
            return
        seen.difference = max(seen.difference, float(difference.max()))
        seen.bound = max(seen.bound, leaf.slack)
        rounded = _ROUNDINGS * UNIT_ROUNDOFF * float(np.abs(theirs).max())  # by the model's own operations
        seen.wrong += int((difference > leaf.slack + rounded).sum())

    def _undecided(self, name: str, check: Check, shape: tuple[int, ...]) -> NDArray[Any]:
        """Where the integer lies so near to a threshold that float64's rounding may decide."""
        node = self.lowered.graph.nodes[name]
        assert isinstance(node, Threshold)
        if not check.undecided:
            return np.zeros((1, *shape), bool)
        source = node.sources[0]
        x = self.ours[source][self.at].reshape(-1, *shape).astype(np.int64)
        moved = int(np.ceil(min(check.undecided, 2.0**61)))
        undecided = np.zeros(x.shape, bool)
        for limit in node.limits:  # beyond two of them the code may be the same again
            undecided |= (x - moved < limit) & (limit <= x + moved)
        return undecided


def _moved(values: NDArray[Any], check: Check) -> NDArray[Any]:
    """A node's values (n, *shape) at the places where the model has them; 0 where it pads."""
    if check.move is None:
        return values
    taken: NDArray[Any] = np.where(check.move < 0, 0, values.reshape(len(values), -1)[:, check.move])
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
    beside = _Beside(read.lowered, ours)
    inputs = model_inputs(graph, images, torch.float64, read.feed)
    with untouched(read.model), Functions():
        try:
            with Float64():
                read.model(inputs[:2].clone())
            each = 1 if read.alone else len(images)
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
    last = _classes(read, ours[READOUT], torch.cat(beside.scores) if beside.scores else None)
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
    )


def _classes(read: Read, sums: NDArray[Any], scores: Tensor | None) -> Seen:
    """Classes that differ from the model's, those of them whose values lie within the bound, and the values' bound."""
    graph, slack = read.lowered.graph, float(np.max(read.lowered.slack))
    if scores is None or scores.numel() != sums.size:
        raise ConversionError(
            "the model does not give what it gave when it was read: its forward changes from call to call"
        )
    values = graph.readout.values(sums)
    theirs = scores.double().numpy().reshape(values.shape)
    chosen, best = theirs.argmax(axis=1), graph.readout.classes(sums)
    rows = np.arange(len(values))
    differ = chosen != best
    near = values[rows, best] - values[rows, chosen] <= 2 * slack
    difference = np.abs(values - theirs)
    wrong = int((differ & ~near).sum()) + int((difference > slack).any(axis=1).sum())
    bound = slack if any(isinstance(node, (Curve, Multiply)) for node in graph.nodes.values()) else 0.0
    return Seen(len(values), wrong, int((differ & near).sum()), float(difference.max()), bound)


def _own(model: nn.Module, read: Read, images: NDArray[Any], classes: NDArray[Any]) -> tuple[int, str]:
    """Images to which the user's own module, in its own type, gives another class, and that type."""
    graph: AcyclicGraph = read.lowered.graph
    model = unwrap(model)
    dtype = float_types(model)[0]
    found = call(model, model_inputs(graph, images, dtype, read.feed), read.place)
    return int((found.double().numpy().argmax(axis=1) != classes).sum()), name_of(dtype)
