"""One metaplastic layer, clearly: what the Lava Processes and the compiled kernels must equal.

A layer sees one group of images (`lanes`; on a chip, one) in two calls, forward and backward:

    u_k = sum_j w_kj x_j,  w = sign(h)               x: -1, 0 or 1; of a first layer also levels, 0 to just below 1
    t_k = c * sum_j w_kj + o_k                       balanced threshold: c, the mean input, is fixed; o is 0, or what
                                                     is left of the threshold of a converted unit
    a_k = +1 where u_k >= t_k, else -1               a readout gives u itself; for spikes see `neurons`

    d_k = E_k where |u_k - t_k| <= 5/8 s_k, else 0   E: the error that comes in; a readout takes it whole
    out_j = sum_k w_kj d_k / 2**shift                the error passed down, by the weights before the update
    s_k += (|u_k - t_k| - s_k) / 2**8                mean deviation: the unit's own scale
    b_k += (d_k - b_k) / 2**7;   d_k <- d_k - b_k    centring, hidden layers only
    h_kj <- clip(h_kj - lr d_k x_j gate - r_kj)      gate: f(|h|/limit) if the step shrinks |h|, else grow(|h|/limit)
                                                     of the rule, or 1
    r_kj  = h_kj / memory                            forgetting, where x_j is not 0; without it r = 0

The balanced threshold follows the unit's own weights and no statistics of the data, so it does not go stale when the
task changes. It is what an always active inhibitory input of strength c at every synapse would do.

In fixed point the same equations run on integers: hidden weights of 3 to 16 bits, errors of 8 (16 inside a network),
thresholds, deviations and means with 12 fraction bits (24 bits in all up to 2,000 inputs), gates of 8 bits from a
table, what is forgotten from a second one, steps of 32 bits; a division is a shift, rounded down. A step is rounded to
whole levels at random, `floor(step + draw)`, without bias, with a draw of its own for each synapse. The only wider
number is one product per unit, of error and learning rate (48 bits).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.online_learning import draws
from lava_meta.online_learning.neurons import NEURON_STATE, FixedNeurons, FloatNeurons, Neurons, State
from lava_meta.online_learning.settings import CLASS_BITS, ERROR_LIMIT, NEURON_BITS, LayerSettings, Precision

STATE = ("hidden", *NEURON_STATE)


class Layer(ABC):
    """Neurons, and the synapses that end at them. The arrays of `STATE` are the whole state and change in place.

    hidden (n_in, n_out): one row an input, so that an active input touches one run of memory. The others are the
    neurons' (`neurons.Neurons`).
    """

    def __init__(self, settings: LayerSettings, state: State, neurons: Neurons) -> None:
        self.settings, self.neurons = settings, neurons
        self.state = {name: state[name] for name in STATE}
        self.hidden, self.balance, self.images = state["hidden"], state["balance"], state["images"]

    @abstractmethod
    def forward(self, x: NDArray[Any]) -> NDArray[Any]:
        """Inputs (lanes, n_in) of -1, 0, 1, or levels -> int32 (lanes, n_out): signs, spikes, or a readout's sums."""

    @abstractmethod
    def backward(self, error: NDArray[Any], *, learn: bool = True, pass_down: bool = True) -> NDArray[Any]:
        """Errors (lanes, n_out) of the images of the last `forward` -> errors (lanes, n_in) for the layer below.

        Zeros where nobody wants them (`pass_down` False).
        """

    @abstractmethod
    def set_rule(self, lr: float, consolidation_range: float) -> None:
        """Change the learning rate, or stretch f: f(|h| / (limit * consolidation_range))."""

    def refresh(self) -> None:
        """Derive again what follows from the hidden weights, after they were changed from outside."""
        self.balance[:] = np.where(self.hidden >= 0, 1, -1).sum(axis=0)


class ReferenceLayer(Layer):
    """Both passes, by the functions that each form has of its own."""

    form: type[Neurons]
    error_type: type  # of what is passed down

    def __init__(self, settings: LayerSettings, state: State) -> None:
        super().__init__(settings, state, self.form(settings, state))
        self.consolidation_range = 1.0
        self.refresh()
        self._x = self._distance = np.zeros((0, 0))

    def set_rule(self, lr: float, consolidation_range: float) -> None:
        self.neurons.set_rate(lr)
        self.consolidation_range = consolidation_range
        self.refresh()

    def forward(self, x: NDArray[Any]) -> NDArray[Any]:
        u = self._sums(x)
        self._x, self._distance = x, self.neurons.distance(u, x)
        return self.neurons.fire(u, self._distance)

    def backward(self, error: NDArray[Any], *, learn: bool = True, pass_down: bool = True) -> NDArray[Any]:
        distance = self._distance
        d = self._own_errors(error)
        down = self._passed_down(d) if pass_down else np.zeros((len(d), self.settings.n_in), self.error_type)
        if learn:
            for lane in range(len(d)):
                self._learn(self._x[lane], distance[lane], d[lane])
        return down

    def _own_errors(self, error: NDArray[Any]) -> NDArray[Any]:
        """The units' errors d of the last `forward`, from those that come in."""
        return self.neurons.windowed(error, self._distance)

    def _learn(self, x: NDArray[Any], distance: NDArray[Any], d: NDArray[Any]) -> None:
        amount = self.neurons.learn(distance, d)
        if not self.settings.frozen:
            self._step_synapses(x, amount)
        self.images += 1

    def _sums(self, x: NDArray[Any]) -> NDArray[Any]:
        u = np.zeros((len(x), self.settings.n_out), np.int32)
        for lane, image in enumerate(x):
            active = np.flatnonzero(image)  # the others add nothing
            weight = np.where(self.hidden[active] >= 0, 1, -1)
            u[lane] = (image[active, None] * weight).sum(axis=0)
        return u

    @abstractmethod
    def _passed_down(self, d: NDArray[Any]) -> NDArray[Any]:
        """Errors (lanes, n_in) for the layer below."""

    @abstractmethod
    def _step_synapses(self, x: NDArray[Any], amount: NDArray[Any]) -> None:
        """Step the synapses of the active inputs of x (n_in,) by amount (n_out,) each, before its gate."""

    def _store(self, active: NDArray[Any], new: NDArray[Any]) -> None:
        """Keep the hidden weights `new` of the inputs `active`, and the sums of binary weights that follow."""
        self.balance += 2 * ((new >= 0).sum(axis=0) - (self.hidden[active] >= 0).sum(axis=0)).astype(np.int32)
        self.hidden[active] = new


class FixedLayer(ReferenceLayer):
    """The equations on integers. hidden int16."""

    form, error_type = FixedNeurons, np.int32

    def refresh(self) -> None:
        super().refresh()
        self._gates = self.settings.gate_table(self.consolidation_range)
        self._growing = self.settings.growing_table(self.consolidation_range)
        self._forgets = self.settings.forgetting_table()

    def _passed_down(self, d: NDArray[Any]) -> NDArray[Any]:
        down: NDArray[Any] = d @ np.where(self.hidden >= 0, 1, -1).T >> self.settings.backward_shift
        return down.clip(-ERROR_LIMIT, ERROR_LIMIT).astype(np.int32)

    def _step_synapses(self, x: NDArray[Any], amount: NDArray[Any]) -> None:
        s = self.settings
        active = np.flatnonzero(x)
        h = self.hidden[active].astype(np.int64)
        step = amount[None, :] * x[active, None] >> s.level_bits
        shrinks = np.where(h >= 0, step < 0, step > 0)
        gate = np.where(shrinks, self._gates[np.abs(h)], self._growing[np.abs(h)])
        forgets = np.where(h >= 0, self._forgets[np.abs(h)], -self._forgets[np.abs(h)])
        draw = draws.draws(draws.key(s.seed, int(self.images[0])), active, s.n_out, s.step_bits)
        new = h + (step * gate - forgets + draw >> s.step_bits)
        self._store(active, np.clip(new, -s.limit_levels, s.limit_levels))


class FloatLayer(ReferenceLayer):
    """The equations in float32, hidden too: any consolidation function of `lava_meta.rule`, and no rounding.

    Raises DivergenceError for an error that is not a finite number.
    """

    form, error_type = FloatNeurons, np.float32

    def _passed_down(self, d: NDArray[Any]) -> NDArray[Any]:
        down: NDArray[Any] = d @ np.where(self.hidden >= 0, np.float32(1), np.float32(-1)).T
        return down / np.float32(2**self.settings.backward_shift)

    def _step_synapses(self, x: NDArray[Any], amount: NDArray[Any]) -> None:
        s = self.settings
        active = np.flatnonzero(x)
        h = self.hidden[active]
        step = amount[None, :] * (x[active, None].astype(np.float32) * np.float32(2.0**-s.level_bits))
        shrinks = np.where(h >= 0, step < 0, step > 0)
        share = h * np.float32(1 / (s.limit * self.consolidation_range))
        growing = step if s.rule.grow is None else step * s.rule.grow(share)
        new = h + np.where(shrinks, step * s.rule.consolidation(share), growing)
        if s.rule.memory is not None:
            new -= h * np.float32(1 / s.rule.memory)
        self._store(active, np.clip(new, -s.limit, s.limit).astype(np.float32))


def state_types(precision: Precision) -> dict[str, type]:
    """The array type of each part of the state."""
    number = np.float32 if precision == "float" else np.int32
    return {
        "hidden": np.float32 if precision == "float" else np.int16,
        "balance": np.int32,
        "mean": number,
        "deviation": number,
        "trace": number,
        "images": np.int64,
    }


def state_shapes(settings: LayerSettings) -> dict[str, tuple[int, ...]]:
    """The shape of each part of the state."""
    a_unit = dict.fromkeys(("balance", "mean", "deviation", "trace"), (settings.n_out,))
    return {"hidden": (settings.n_in, settings.n_out), "images": (1,), **a_unit}


def initial_state(settings: LayerSettings, generator: np.random.Generator) -> State:
    """Draw hidden weights uniform in +-init_width, deviations as random weights would give them.

    In fixed point, hidden weights take at least one level to each side.
    """
    types, shapes = state_types(settings.precision), state_shapes(settings)
    state: State = {name: np.zeros(shapes[name], types[name]) for name in STATE}
    start = generator.uniform(-1.0, 1.0, shapes["hidden"])
    fixed, width = settings.precision != "float", settings.rule.init_width
    if fixed:  # rounded down, so that half of the weights are negative
        levels = np.floor(start * max(1.0, width * settings.full_range)) * settings.unit
        state["hidden"][:] = np.clip(levels, -settings.limit_stored, None)
    else:
        state["hidden"][:] = start * min(width, settings.limit) * settings.full_range
    state["balance"][:] = np.where(state["hidden"] >= 0, 1, -1).sum(axis=0)
    state["deviation"][:] = round(settings.initial_deviation * 2**NEURON_BITS) if fixed else settings.initial_deviation
    if settings.readout and settings.rule.class_rate:
        state["trace"][:] = (2**CLASS_BITS if fixed else 1) / settings.n_out  # each class as often as any other
    return state
