"""Networks of binary synapses and leaky integrate-and-fire neurons, step by step: what Lava must equal.

Every step, each layer takes what the layer before sent in the same step, and its neurons do, in this order,

    r = 1 where v > threshold, else 0                        who fired in the step before
    v = (1 - r) * v                                          reset "zero" only
    v = beta * v + gain * (W x)                              W holds +1 and -1
    v = v - r * threshold                                    reset "subtract" only
    z = 1 where v > threshold, else 0                        the spikes that are sent

which is snnTorch's `Leaky`: a reset shows one step late. Without that delay (`reset_delay=False`) the reset follows the
spike at once, for the `z - r` that were not reset already. The first layer's x are raw pixels minus `offset`, or 0/1
spikes; the other layers' x are 0/1 spikes.

`FloatLIF` does this in float32 and rounds like snnTorch, operation by operation: the sums `W x` are integers below
2**24, which float32 holds whatever the order of summation, and the rest is elementwise. `FixedLIF` is integers only:

    v and thresholds in steps of gain / 64        thresholds are rounded to the nearest step
    beta as k / 4096, k rounded to nearest        |v| * k is divided by 4096 with its remainder dropped
    |v| saturates at 2**50 steps                  after a million steps of the largest sums at beta = 1, not before

so that a leak loses up to one 64th of a synapse a step, always towards 0. Where beta is 0 or 1 and the thresholds are
whole steps, both forms give the same spikes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.bits import unpack, words
from lava_meta.graph.inputs import Domain
from lava_meta.graph.spiking_inputs import frames_of

RESETS = ("subtract", "zero", "none")
FRACTION_BITS = 6  # of the fixed-point potential
DECAY_BITS = 12  # of the fixed-point beta
_SATURATION = 2**50  # of the fixed-point potential, so that its product with beta fits int64


@dataclass(frozen=True, eq=False)
class LIFLayer:
    """Binary synapses and their leaky integrate-and-fire neurons; see the module.

    Raises `ValueError` when a field's shape, type or range does not fit the others.
    """

    bits: NDArray[Any]  # uint64 (n_out, words(n_in)): 1 is a weight of +1
    n_in: int  # inputs
    beta: NDArray[Any]  # float32 (n_out,), 0 .. 1: what a step leaves of the potential
    threshold: NDArray[Any]  # float32 (n_out,): a neuron fires above it
    gain: float = 1.0  # current of one synapse, positive
    reset: str = "subtract"  # or "zero", "none"
    reset_delay: bool = True  # whether a reset shows one step after its spike

    def __post_init__(self) -> None:
        if self.bits.dtype != np.uint64 or self.bits.ndim != 2 or self.bits.shape[1] != words(self.n_in):
            raise ValueError(
                f"bits are {self.bits.dtype} {self.bits.shape}; expected uint64 (n_out, {words(self.n_in)})"
            )
        for name in ("beta", "threshold"):
            value = getattr(self, name)
            if value.dtype != np.float32 or value.shape != (self.n_out,) or not np.isfinite(value).all():
                raise ValueError(f"{name} must be finite float32 ({self.n_out},); got {value.dtype} {value.shape}")
        if self.beta.min() < 0 or self.beta.max() > 1:
            raise ValueError(f"beta runs from {self.beta.min()} to {self.beta.max()}; it lies between 0 and 1")
        if not (np.isfinite(self.gain) and self.gain > 0):
            raise ValueError(f"gain is {self.gain}; it is finite and positive")
        if self.reset not in RESETS:
            raise ValueError(f"reset is {self.reset!r}; it is one of {', '.join(RESETS)}")

    @property
    def n_out(self) -> int:
        """Number of neurons."""
        return len(self.bits)

    @property
    def weight(self) -> NDArray[Any]:
        """The weights +1 and -1, float32 (n_out, n_in)."""
        return np.where(unpack(self.bits, self.n_in), np.float32(1), np.float32(-1))


def reset_at_once(
    v: NDArray[Any], spikes: NDArray[Any], fired: NDArray[Any], threshold: NDArray[Any], reset: str
) -> NDArray[Any]:
    """Potentials behind a reset that follows the spike at once, for the `z - r` that were not reset already."""
    now = spikes.astype(fired.dtype) - fired
    if reset == "subtract":
        v = v - now * threshold
    elif reset == "zero":
        v = v - now * v
    return v


class _LIF:
    """One layer's neurons for some inputs at once: `step` takes `W x` (n, n_out) and gives the spikes, booleans."""

    dtype: ClassVar[type]
    threshold: NDArray[Any]
    v: NDArray[Any]  # potentials (n, n_out)

    def __init__(self, layer: LIFLayer) -> None:
        self.reset, self.reset_delay = layer.reset, layer.reset_delay
        self.restart()

    def restart(self) -> None:
        """Potentials of 0."""
        self.v = np.zeros((), self.dtype)

    def step(self, sums: NDArray[Any]) -> NDArray[Any]:
        v, threshold = self.v, self.threshold
        fired = (v - threshold > 0).astype(self.dtype)
        if self.reset == "zero":
            v = (1 - fired) * v
        v = self.leak(v) + self.current(sums)
        if self.reset == "subtract":
            v = v - fired * threshold
        spikes: NDArray[Any] = v - threshold > 0
        self.v = v if self.reset_delay else reset_at_once(v, spikes, fired, threshold, self.reset)
        return spikes

    def leak(self, v: NDArray[Any]) -> NDArray[Any]:
        raise NotImplementedError

    def current(self, sums: NDArray[Any]) -> NDArray[Any]:
        raise NotImplementedError


class FloatLIF(_LIF):
    """In float32, rounded as snnTorch does."""

    dtype = np.float32

    def __init__(self, layer: LIFLayer) -> None:
        super().__init__(layer)
        self.beta, self.threshold, self.gain = layer.beta, layer.threshold, np.float32(layer.gain)

    def leak(self, v: NDArray[Any]) -> NDArray[Any]:
        kept: NDArray[Any] = self.beta * v
        return kept

    def current(self, sums: NDArray[Any]) -> NDArray[Any]:
        return sums.astype(np.float32) * self.gain


class FixedLIF(_LIF):
    """In integers, quantised as the module says."""

    dtype = np.int64

    def __init__(self, layer: LIFLayer) -> None:
        super().__init__(layer)
        threshold = layer.threshold.astype(np.float64) / layer.gain
        beyond = 2 * _SATURATION  # a threshold that no potential reaches
        self.threshold = np.rint(np.clip(threshold * 2**FRACTION_BITS, -beyond, beyond)).astype(np.int64)
        self.beta = np.rint(layer.beta.astype(np.float64) * 2**DECAY_BITS).astype(np.int64)

    def leak(self, v: NDArray[Any]) -> NDArray[Any]:
        v = np.clip(v, -_SATURATION, _SATURATION)
        kept: NDArray[Any] = np.sign(v) * (np.abs(v) * self.beta >> DECAY_BITS)
        return kept

    def current(self, sums: NDArray[Any]) -> NDArray[Any]:
        return sums.astype(np.int64) << FRACTION_BITS


DYNAMICS = {"floating_pt": FloatLIF, "fixed_pt": FixedLIF}


@dataclass(frozen=True, eq=False)
class SpikingGraph(Domain):
    """A whole network: layers `hidden1`, ..., `output`, and the input convention.

    Raises `ValueError` when layers do not fit each other or the input, or could sum beyond float32's integers (2**24).
    """

    layers: tuple[LIFLayer, ...]
    max_level: int  # inputs are integers 0 .. max_level; 1 for spikes
    offset: int  # taken from each input
    input_shape: tuple[int, ...]  # of one image, without the batch
    min_level = 0
    signs = False

    def __post_init__(self) -> None:
        if not 1 <= self.max_level < 2**16:
            raise ValueError(f"max_level is {self.max_level}; pixels have 1 to 16 bits")
        width, largest = self.n_in, max(self.max_level, abs(self.offset), abs(self.max_level - self.offset))
        for name, layer in self.named_layers():
            if layer.n_in != width:
                raise ValueError(f"{name} takes {layer.n_in} inputs, but what comes before it has {width}")
            if width * largest >= 2**24:
                raise ValueError(f"{name} can sum to {width * largest}; float32 holds integers below 2**24")
            width, largest = layer.n_out, 1

    @property
    def n_out(self) -> int:
        """Number of classes."""
        return self.layers[-1].n_out

    def summary(self) -> list[dict[str, Any]]:
        """One row per layer: name, kind, inputs, units, synapses, bits kept, and operations in a time step."""
        rows = []
        for name, layer in self.named_layers():
            synapses = layer.n_in * layer.n_out
            row = {"layer": name, "kind": "binary, leaky", "inputs": layer.n_in, "units": layer.n_out}
            rows.append(row | {"synapses": synapses, "bits": synapses + 64 * layer.n_out, "operations": synapses})
        return rows

    def named_layers(self) -> list[tuple[str, LIFLayer]]:
        """The layers with their names, `hidden1`, `hidden2`, ..., `output`, in order."""
        names = [*(f"hidden{i}" for i in range(1, len(self.layers))), "output"]
        return list(zip(names, self.layers, strict=True))

    def frames(self, images: Any, steps: int | None, *, time_first: bool = True) -> NDArray[Any]:
        """What enters step by step, (steps, n, n_in); see `lava_meta.graph.spiking_inputs`."""
        return frames_of(images, steps, self.input_shape, (0, self.max_level), time_first=time_first)

    def spikes(self, images: Any, steps: int | None = None, form: str = "floating_pt") -> dict[str, NDArray[Any]]:
        """The reference: every layer's spikes by name, uint8 (steps, n, units). Images and steps as for `frames`."""
        return self.traces(images, steps, form)[0]

    def traces(
        self,
        images: Any,
        steps: int | None = None,
        form: str = "floating_pt",
        layers: Iterable[str] | None = None,
        potentials: Iterable[str] = (),
    ) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """The spikes of `layers` (default: all), and `potentials`, (steps, n, units), by name."""
        run = self.run(form)
        sent: dict[str, list[NDArray[Any]]] = {name: [] for name, _ in self.named_layers()}
        if layers is not None:
            sent = {name: [] for name in layers}
        held: dict[str, list[NDArray[Any]]] = {name: [] for name in potentials}
        for frame in self.frames(images, steps):
            spikes = run.step(frame)
            for name, parts in sent.items():
                parts.append(spikes[name].astype(np.uint8))
            for name, parts in held.items():
                parts.append(run.potential(name))
        found = ({name: np.stack(parts) for name, parts in rows.items()} for rows in (sent, held))
        return next(found), next(found)

    def run(self, form: str = "floating_pt") -> ChainRun:
        """The network at rest, to be given one frame after the other."""
        return ChainRun(self, form)


class ChainRun:
    """A network with what its neurons remember, as `lava_meta.graph.spiking_graph.Run`."""

    def __init__(self, graph: SpikingGraph, form: str = "floating_pt") -> None:
        self._offset = np.float32(graph.offset)
        self._layers = {name: (layer.weight.T, DYNAMICS[form](layer)) for name, layer in graph.named_layers()}

    def step(self, frame: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """One time step of a frame (n, n_in): booleans (n, units) by layer."""
        x, out = frame.astype(np.float32) - self._offset, {}
        for name, (weight, neurons) in self._layers.items():
            out[name] = neurons.step(x @ weight)
            x = out[name].astype(np.float32)
        return out

    def potential(self, name: str) -> NDArray[Any]:
        """The potentials of a layer after the last step, (n, units)."""
        return self._layers[name][1].v


def classes_by_rate(spikes: NDArray[Any]) -> NDArray[Any]:
    """int64 (n,): the class with the most spikes in (steps, n, classes), lowest index on ties."""
    classes: NDArray[Any] = np.argmax(spikes.sum(axis=0, dtype=np.int64), axis=1)
    return classes


def classes_by_latency(spikes: NDArray[Any]) -> NDArray[Any]:
    """int64 (n,): the class that fires first in (steps, n, classes), lowest index on ties and where none fires."""
    never = len(spikes)
    first = np.where(spikes.any(axis=0), np.argmax(spikes != 0, axis=0), never)
    classes: NDArray[Any] = np.argmin(first, axis=1)
    return classes


def classes_by_potential(potentials: NDArray[Any]) -> NDArray[Any]:
    """int64 (n,): the class whose potential (steps, n, classes) is the greatest at any step, lowest index on ties."""
    classes: NDArray[Any] = np.argmax(potentials.max(axis=0), axis=1)
    return classes


def classes_by_mean_potential(potentials: NDArray[Any]) -> NDArray[Any]:
    """int64 (n,): the class whose potential (steps, n, classes) is the greatest in the mean, lowest index on ties."""
    classes: NDArray[Any] = np.argmax(potentials.sum(axis=0, dtype=np.float64), axis=1)
    return classes


def classes_at_last(potentials: NDArray[Any]) -> NDArray[Any]:
    """int64 (n,): the class whose potential (steps, n, classes) is the greatest at the last step."""
    classes: NDArray[Any] = np.argmax(potentials[-1], axis=1)
    return classes


def pooled(values: NDArray[Any], classes: int) -> NDArray[Any]:
    """A population code, (steps, n, classes): sums of spikes over as many neighbours for each class."""
    units = values.shape[-1]
    if type(classes) is not int or classes < 1:
        raise ValueError(f"population is {classes!r}; it is the number of classes for which neurons vote")
    if units % classes:
        raise ValueError(f"{units} neurons do not part into {classes} populations")
    whole: NDArray[Any] = values.reshape(*values.shape[:-1], classes, -1).sum(axis=-1, dtype=np.int64)
    return whole
