"""Neurons with memory as a node of a `SteppedGraph`: spikes of 0 and 1 from the integers of a source, step by step.

    I = gain x + constant                       the current, in float32; x: the integers of the source
    r = 1 if v > threshold, else 0              who fired in the step before

    leaky       v = beta v + I - r threshold                   reset "subtract"
                v = beta (1 - r) v + I                         reset "zero"
    rleaky      v = b - r threshold, or b - r b                b = beta v + I + recurrent current
    lapicque    v = b - r threshold, or b - r b                b = ((I R) inverse) time_step + keep v
    synaptic    s = alpha s + I;   b = beta v + s;   v = b - r threshold, or b - r b
    rsynaptic   s = alpha s + I + recurrent current; b, v as for synaptic
    alpha       e = alpha e + I;   i = beta i - I;   v = tau (e + i)
                then each - r each ("zero"); or e - r threshold, i - r (its own new value), v + r (the i before)
    integrator  v = v + I;   never fires: a readout
    integer     v = floor(beta v) + I;   reset "zero" at once: the neurons of learners (`lava_meta.online_learning`)

    z = 1 if v > threshold, else 0              the spikes that are sent

which are snnTorch's neurons, operation by operation and in this order. With reset "none" nothing is taken away. A reset
shows one step after its spike; with `reset_delay=False` it follows at once, for the `z - r` not yet reset.

`FloatState` does this in float32 and rounds like snnTorch. `FixedState` is integers only, for weights of up to 8 bits:

    potentials, currents, thresholds    in steps of |gain| / 64, per neuron; constants rounded to the nearest step
    alpha, beta, keep, tau              as k / 4096, k rounded to nearest; of |v| * k / 4096 the remainder is dropped
    recurrent currents                  each synapse rounded to a whole number of steps
    states                              saturate at 2**50 steps

Integer neurons have whole gains, constants and thresholds, and a beta of 4096ths: both forms are one, `IntegerState`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.nodes import Bounds, Conv, Linear, Node, Shape, check_shared
from lava_meta.graph.spiking import RESETS, reset_at_once

# By model: the constants of its neurons, and its states, the potential last.
MODELS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "leaky": (("threshold", "beta"), ("mem",)),
    "rleaky": (("threshold", "beta"), ("mem",)),
    "lapicque": (("threshold", "R", "inverse", "time_step", "keep"), ("mem",)),
    "synaptic": (("threshold", "alpha", "beta"), ("syn", "mem")),
    "rsynaptic": (("threshold", "alpha", "beta"), ("syn", "mem")),
    "alpha": (("threshold", "alpha", "beta", "tau"), ("syn_exc", "syn_inh", "mem")),
    "integrator": ((), ("mem",)),
    "integer": (("threshold", "beta"), ("mem",)),
}
_RECURRENT = ("rleaky", "rsynaptic")
_DELAYED_ONLY = ("lapicque", "alpha", "rsynaptic")
STEPS = 64  # of the fixed-point potential in the current of one synapse
DECAY = 4096  # of the fixed-point factors
SATURATION = 2**50  # of the fixed-point states, in steps


@dataclass(frozen=True, eq=False)
class Recurrent:
    """A layer's own spikes of the step before, as a current: `gain * (W z) + constant`; without `node`, W is 1."""

    node: Linear | Conv | None
    gain: NDArray[Any]  # float64, shared shape
    constant: NDArray[Any]  # float64, shared shape

    def sums(self, spikes: NDArray[Any]) -> NDArray[Any]:
        """`W z`, int64."""
        return spikes.astype(np.int64) if self.node is None else self.node([spikes.astype(np.int64)])


@dataclass(frozen=True, eq=False)
class Neurons(Node):
    """A layer of neurons; see the module. Raises `ValueError` if a field does not fit the others."""

    kind = "neurons"
    model: str
    gain: NDArray[Any]  # float64, one for all, for each channel or each neuron
    constant: NDArray[Any]  # float64, likewise
    constants: Mapping[str, NDArray[Any]]  # float32, likewise, by the names of `MODELS`
    reset: str = "subtract"
    reset_delay: bool = True
    recurrent: Recurrent | None = None

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ValueError(f"neurons of the model {self.model!r}; known are {', '.join(MODELS)}")
        if {*self.constants} != {*MODELS[self.model][0]}:
            raise ValueError(f"{self.model} neurons have {', '.join(self.constants)}; expected {MODELS[self.model][0]}")
        if self.reset not in RESETS:
            raise ValueError(f"reset is {self.reset!r}; it is one of {', '.join(RESETS)}")
        if not self.reset_delay and self.model in _DELAYED_ONLY:
            raise ValueError(f"{self.model} neurons reset one step after their spike only")
        if (self.recurrent is not None) != (self.model in _RECURRENT):
            raise ValueError(f"{self.model} neurons with{'out' * (self.recurrent is None)} recurrent synapses")
        self._check_numbers()

    def _check_numbers(self) -> None:
        reals = {"gain": self.gain, "constant": self.constant}
        if self.recurrent is not None:
            reals |= {"recurrent gain": self.recurrent.gain, "recurrent constant": self.recurrent.constant}
        for kind, arrays in ((np.float64, reals), (np.float32, self.constants)):
            for name, value in arrays.items():
                if value.dtype != kind or not np.isfinite(value).all():
                    raise ValueError(f"{name} must be finite {np.dtype(kind)}; got {value.dtype}")
        if self.model == "integer":
            if self.reset != "zero" or self.reset_delay:
                raise ValueError("integer neurons are set to 0 at once, by a reset 'zero' without delay")
            whole = {"gain": self.gain, "constant": self.constant, "threshold": self.constants["threshold"]}
            whole["beta, in 4096ths,"] = DECAY * self.constants["beta"]
            for name, value in whole.items():
                if (value != np.rint(value)).any() or np.abs(value).max() > SATURATION:
                    raise ValueError(f"{name} of integer neurons is no whole number of up to 50 bits")
            if self.constants["threshold"].min() < 0:
                raise ValueError("integer neurons have a threshold below 0, so that they fire at rest")

    @property
    def states(self) -> tuple[str, ...]:
        """The names of the states, the potential last."""
        return MODELS[self.model][1]

    @property
    def spiking(self) -> bool:
        """Whether they fire; an integrator is read by its potential."""
        return self.model != "integrator"

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        (shape,) = shapes
        for value in (self.gain, self.constant, *self.constants.values()):
            check_shared(value.shape, shape)
        if self.recurrent is not None:
            for value in (self.recurrent.gain, self.recurrent.constant):
                check_shared(value.shape, shape)
            if self.recurrent.node is not None and self.recurrent.node.shape([shape]) != shape:
                raise ValueError(f"has recurrent synapses that do not give {shape}")
        return shape

    def bounds(self, bounds: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        ones = (1,) * len(shapes[0])
        return np.zeros(ones, np.int64), np.full(ones, int(self.spiking), np.int64)


class State:
    """The neurons of one node for some inputs at once: `step` takes integers and gives spikes, booleans."""

    dtype: ClassVar[type]

    def __init__(self, node: Neurons, shape: Shape) -> None:
        self.node = node
        self._own = shape
        self.states: dict[str, NDArray[Any]] = {}
        self.spikes: NDArray[Any]
        self._prepare()
        self.restart(1)

    def restart(self, lanes: int) -> None:
        """At rest, for `lanes` inputs."""
        self.states = {name: np.zeros((lanes, *self._own), self.dtype) for name in self.node.states}
        self.spikes = np.zeros((lanes, *self._own), bool)

    def step(self, sums: NDArray[Any]) -> NDArray[Any]:
        """One step, of integers (n, *shape)."""
        return self.advance(self.current(sums))

    def advance(self, current: NDArray[Any]) -> NDArray[Any]:
        """One step of currents (n, *shape)."""
        node, v = self.node, self.states["mem"]
        if not node.spiking:
            self.states["mem"] = v + current
            return self.spikes
        threshold = self.threshold
        fired = (v - threshold > 0).astype(self.dtype)
        v = _UPDATES[node.model](self, current, fired)
        spikes: NDArray[Any] = v - threshold > 0
        if not node.reset_delay:
            v = reset_at_once(v, spikes, fired, threshold, node.reset)
        self.states["mem"] = self._held(v)
        self.spikes = spikes
        return spikes

    # What the two forms do in their own way.

    threshold: NDArray[Any]

    def _prepare(self) -> None:
        raise NotImplementedError

    def current(self, sums: NDArray[Any]) -> NDArray[Any]:
        """Currents of integers (n, *shape)."""
        raise NotImplementedError

    def _recurrent(self) -> NDArray[Any]:
        raise NotImplementedError

    def _times(self, constant: str, value: NDArray[Any]) -> NDArray[Any]:
        raise NotImplementedError

    def _driven(self, current: NDArray[Any]) -> NDArray[Any]:
        raise NotImplementedError

    def _held(self, v: NDArray[Any]) -> NDArray[Any]:
        return v

    # The models.

    def _reset(self, base: NDArray[Any], fired: NDArray[Any]) -> NDArray[Any]:
        if self.node.reset == "subtract":
            base = base - fired * self.threshold
        elif self.node.reset == "zero":
            base = base - fired * base
        return base

    def _leaky(self, current: NDArray[Any], fired: NDArray[Any]) -> NDArray[Any]:
        v = self.states["mem"]
        if self.node.reset == "zero":
            left: NDArray[Any] = self._times("beta", (1 - fired) * v) + current
            return left
        return self._reset(self._times("beta", v) + current, fired)

    def _rleaky(self, current: NDArray[Any], fired: NDArray[Any]) -> NDArray[Any]:
        return self._reset(self._times("beta", self.states["mem"]) + current + self._recurrent(), fired)

    def _lapicque(self, current: NDArray[Any], fired: NDArray[Any]) -> NDArray[Any]:
        return self._reset(self._driven(current) + self._times("keep", self.states["mem"]), fired)

    def _synaptic(self, current: NDArray[Any], fired: NDArray[Any]) -> NDArray[Any]:
        syn = self._times("alpha", self.states["syn"]) + current
        if self.node.recurrent is not None:
            syn = syn + self._recurrent()
        self.states["syn"] = self._held(syn)
        return self._reset(self._times("beta", self.states["mem"]) + syn, fired)

    def _alpha(self, current: NDArray[Any], fired: NDArray[Any]) -> NDArray[Any]:
        before = self.states["syn_inh"]
        exc = self._times("alpha", self.states["syn_exc"]) + current
        inh = self._times("beta", before) - current
        v = self._times("tau", exc + inh)
        if self.node.reset == "subtract":
            exc, inh, v = exc - self.threshold * fired, inh - inh * fired, v - -before * fired
        elif self.node.reset == "zero":
            exc, inh, v = exc - exc * fired, inh - inh * fired, v - v * fired
        self.states["syn_exc"], self.states["syn_inh"] = self._held(exc), self._held(inh)
        return v


_UPDATES: dict[str, Any] = {
    "leaky": State._leaky,
    "rleaky": State._rleaky,
    "lapicque": State._lapicque,
    "synaptic": State._synaptic,
    "rsynaptic": State._synaptic,
    "alpha": State._alpha,
    "integer": State._leaky,
}


class FloatState(State):
    """In float32, rounded as snnTorch does."""

    dtype = np.float32

    def _prepare(self) -> None:
        self._constants = {name: value[None] for name, value in self.node.constants.items()}
        self.threshold = self._constants.get("threshold", np.zeros((), np.float32))

    def current(self, sums: NDArray[Any]) -> NDArray[Any]:
        current: NDArray[Any] = (self.node.gain * sums + self.node.constant).astype(np.float32)
        return current

    def _recurrent(self) -> NDArray[Any]:
        recurrent = self.node.recurrent
        assert recurrent is not None
        sums = recurrent.sums(self.spikes)
        current: NDArray[Any] = (recurrent.gain * sums + recurrent.constant).astype(np.float32)
        return current

    def _times(self, constant: str, value: NDArray[Any]) -> NDArray[Any]:
        product: NDArray[Any] = self._constants[constant] * value
        return product

    def _driven(self, current: NDArray[Any]) -> NDArray[Any]:
        c = self._constants
        driven: NDArray[Any] = current * c["R"] * c["inverse"] * c["time_step"]
        return driven


class FixedState(State):
    """In integers, quantised as the module says."""

    dtype = np.int64
    synapse: NDArray[Any]  # int64: the current of one integer of the source, in steps; STEPS, or -STEPS, or 0
    constant: NDArray[Any]  # int64: the current that is there in every step
    shares: dict[str, NDArray[Any]]  # int64: the factors, of DECAY
    back: NDArray[Any]  # int64: the current of one integer of the recurrent sums, if there are any
    back_constant: NDArray[Any]  # int64

    def _prepare(self) -> None:
        node = self.node
        c = {name: value[None].astype(np.float64) for name, value in node.constants.items()}
        drive = c["R"] * c["inverse"] * c["time_step"] if node.model == "lapicque" else np.ones(())
        gain = node.gain * drive
        unit = np.where(gain == 0, 1.0, np.abs(gain)) / STEPS
        self.synapse = (np.sign(gain) * STEPS).astype(np.int64)
        self.constant = self._whole(node.constant * drive / unit)
        self.threshold = self._whole(c.get("threshold", np.zeros(())) / unit)
        self.shares = {
            name: np.rint(c[name] * DECAY).astype(np.int64) for name in ("alpha", "beta", "keep", "tau") if name in c
        }
        if node.recurrent is not None:
            self.back = self._whole(node.recurrent.gain / unit)
            self.back_constant = self._whole(node.recurrent.constant / unit)

    @staticmethod
    def _whole(steps: NDArray[Any]) -> NDArray[Any]:
        """Rounded; what no state reaches stays what no state reaches."""
        whole: NDArray[Any] = np.rint(np.clip(steps, -2 * SATURATION, 2 * SATURATION)).astype(np.int64)
        return whole

    def current(self, sums: NDArray[Any]) -> NDArray[Any]:
        current: NDArray[Any] = self.synapse * sums.astype(np.int64) + self.constant
        return current

    def _recurrent(self) -> NDArray[Any]:
        assert self.node.recurrent is not None
        current: NDArray[Any] = self.back * self.node.recurrent.sums(self.spikes) + self.back_constant
        return current

    def _times(self, constant: str, value: NDArray[Any]) -> NDArray[Any]:
        share = self.shares[constant]
        most = min(SATURATION, 2**62 // max(1, int(np.abs(share).max())))
        value = np.clip(value, -most, most)
        product: NDArray[Any] = np.sign(value) * np.sign(share) * (np.abs(value) * np.abs(share) // DECAY)
        return product

    def _driven(self, current: NDArray[Any]) -> NDArray[Any]:
        return current

    def _held(self, v: NDArray[Any]) -> NDArray[Any]:
        held: NDArray[Any] = np.clip(v, -SATURATION, SATURATION)
        return held


class IntegerState(State):
    """Integer neurons: nothing is rounded but what is left of a potential, downwards."""

    dtype = np.int64

    def _prepare(self) -> None:
        node = self.node
        self._gain, self._constant = (value[None].astype(np.int64) for value in (node.gain, node.constant))
        self.threshold = node.constants["threshold"][None].astype(np.int64)
        self._beta = (node.constants["beta"][None].astype(np.float64) * DECAY).astype(np.int64)

    def current(self, sums: NDArray[Any]) -> NDArray[Any]:
        current: NDArray[Any] = self._gain * sums + self._constant
        return current

    def _times(self, constant: str, value: NDArray[Any]) -> NDArray[Any]:
        left: NDArray[Any] = value * self._beta // DECAY
        return left

    def _held(self, v: NDArray[Any]) -> NDArray[Any]:
        held: NDArray[Any] = np.clip(v, -SATURATION, SATURATION)
        return held


DYNAMICS: dict[str, type[State]] = {"floating_pt": FloatState, "fixed_pt": FixedState}


def state_of(node: Neurons, shape: Shape, form: str) -> State:
    """The neurons of a node, at rest, in one of the forms of `DYNAMICS`."""
    return (IntegerState if node.model == "integer" else DYNAMICS[form])(node, shape)
