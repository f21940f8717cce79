"""One metaplastic layer, clearly: what the Lava Processes and the compiled kernels must equal.

A layer sees one group of images (`lanes`; on a chip, one) in two calls, forward and backward:

    u_k = sum_j w_kj x_j,  w = sign(h)               x: -1, 0 or 1; of a first layer also levels, 0 to just below 1
    t_k = c * sum_j w_kj + o_k                       balanced threshold: c, the mean input, is fixed; o is 0, or what
                                                     is left of the threshold of a converted unit
    a_k = +1 where u_k >= t_k, else -1               a readout gives u itself

    d_k = E_k where |u_k - t_k| <= 5/8 s_k, else 0   E: the error that comes in; a readout takes it whole
    out_j = sum_k w_kj d_k / 2**shift                the error passed down, by the weights before the update
    s_k += (|u_k - t_k| - s_k) / 2**8                mean deviation: the unit's own scale
    b_k += (d_k - b_k) / 2**7;   d_k <- d_k - b_k    centring, hidden layers only
    h_kj <- clip(h_kj - lr d_k x_j gate - r_kj)      gate: f(|h|/limit) where the step shrinks |h|, else 1
    r_kj  = h_kj / memory                            forgetting, where x_j is not 0; without it r = 0

The balanced threshold follows the unit's own weights and no statistics of the data, so it does not go stale when the
task changes. It is what an always active inhibitory input of strength c at every synapse would do.

In fixed point the same equations run on integers: hidden weights of 3 to 16 bits, errors of 8 (16 inside a network),
thresholds, deviations and means with 12 fraction bits (24 bits in all up to 2,000 inputs), gates of 8 bits from a
table, what is forgotten from a second one, steps of 32 bits; a division is a shift, rounded down. A step is rounded to
whole levels at random, `floor(step + draw)`, without bias, with a draw of its own for each synapse. The only wider
number is one product a unit, of error and learning rate (48 bits).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.errors import DivergenceError
from lava_meta.online_learning import draws
from lava_meta.online_learning.settings import (
    AMOUNT_LIMIT,
    CENTRE_SHIFT,
    ERROR_LIMIT,
    GATE_ONE,
    NEURON_BITS,
    SCALE_SHIFT,
    WINDOW_DEN,
    WINDOW_NUM,
    LayerSettings,
)

STATE = ("hidden", "balance", "mean", "deviation", "trace", "images")


class Layer:
    """State and equations of a layer. The arrays of `STATE` are the whole state and are changed in place.

    hidden (n_in, n_out): one row an input, so that an active input touches one run of memory.
    balance (n_out,): sum of each unit's binary weights. mean (n_out,): o above, or the homeostatic threshold.
    deviation, trace (n_out,): s and b above. images (1,): how many have been learned.
    """

    hidden: NDArray[Any]
    balance: NDArray[Any]
    mean: NDArray[Any]
    deviation: NDArray[Any]
    trace: NDArray[Any]
    images: NDArray[Any]

    def __init__(self, settings: LayerSettings, state: dict[str, NDArray[Any]]) -> None:
        self.settings = settings
        for name in STATE:
            setattr(self, name, state[name])
        self.lr = settings.rule.lr
        self.consolidation_range = 1.0
        self.refresh()
        self._x = self._u = np.zeros((0, 0))

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        return {name: getattr(self, name) for name in STATE}

    def set_rule(self, lr: float, consolidation_range: float) -> None:
        """Change the learning rate, or stretch f: f(|h| / (limit * consolidation_range))."""
        self.lr, self.consolidation_range = lr, consolidation_range
        self.refresh()

    def refresh(self) -> None:
        """Derive again what follows from the hidden weights, after they were changed from outside."""
        self.balance[:] = np.where(self.hidden >= 0, 1, -1).sum(axis=0)

    def forward(self, x: NDArray[Any]) -> NDArray[Any]:
        """Inputs (lanes, n_in) of -1, 0, 1, or levels -> int32 (lanes, n_out): signs, or a readout's sums."""
        self._x, self._u = x, np.zeros((len(x), self.settings.n_out), np.int32)
        for lane, image in enumerate(x):
            active = np.flatnonzero(image)  # the others add nothing
            weight = np.where(self.hidden[active] >= 0, 1, -1)
            self._u[lane] = (image[active, None] * weight).sum(axis=0)
        return self._u if self.settings.readout else np.where(self._distance(self._u) >= 0, 1, -1).astype(np.int32)

    def backward(self, error: NDArray[Any], *, learn: bool = True, pass_down: bool = True) -> NDArray[Any]:
        """Errors (lanes, n_out) of the images of the last `forward` -> errors (lanes, n_in) for the layer below.

        Zeros where nobody wants them (`pass_down` False).
        """
        raise NotImplementedError

    def _distance(self, u: NDArray[Any]) -> Any:
        """The difference u - threshold, in the form's own units."""
        raise NotImplementedError

    def integer_thresholds(self) -> NDArray[Any]:
        """int64 (n_out,): the smallest whole sum at which each unit fires."""
        raise NotImplementedError

    def set_thresholds(self, sums: NDArray[Any]) -> None:
        """Let unit k fire from the whole sum `sums[k]` on, by the binary weights as they are now."""
        raise NotImplementedError


class FixedLayer(Layer):
    """The equations on integers. hidden int16; balance int32; mean, deviation, trace int32; images int64."""

    def refresh(self) -> None:
        super().refresh()
        self._rate = self.settings.rate_fixed(self.lr)
        self._gates = self.settings.gate_table(self.consolidation_range)
        self._forgets = self.settings.forgetting_table()

    def backward(self, error: NDArray[Any], *, learn: bool = True, pass_down: bool = True) -> NDArray[Any]:
        s = self.settings
        distance = self._distance(self._u)
        d = error.astype(np.int64)
        if not s.readout:
            d = np.where(WINDOW_DEN * np.abs(distance) <= WINDOW_NUM * self.deviation, d, 0)
        down = np.zeros((len(d), s.n_in), np.int32)
        if pass_down:
            weight = np.where(self.hidden >= 0, 1, -1)
            down[:] = np.clip((d @ weight.T) >> s.backward_shift, -ERROR_LIMIT, ERROR_LIMIT)
        if learn:
            for lane in range(len(d)):
                self._learn(self._x[lane], distance[lane], d[lane])
        return down

    def _learn(self, x: NDArray[Any], distance: NDArray[Any], d: NDArray[Any]) -> None:
        s = self.settings
        d = d << NEURON_BITS
        if not s.readout:
            self.deviation += ((np.abs(distance) - self.deviation) >> SCALE_SHIFT).astype(np.int32)
        if s.homeostatic:
            self.mean += (distance >> SCALE_SHIFT).astype(np.int32)
        if s.centred:
            self.trace += ((d - self.trace) >> CENTRE_SHIFT).astype(np.int32)
            d = d - self.trace
        if not s.frozen:
            self._step_synapses(x, np.clip(-self._rate * d >> s.amount_shift, -AMOUNT_LIMIT, AMOUNT_LIMIT))
        self.images += 1

    def _step_synapses(self, x: NDArray[Any], amount: NDArray[Any]) -> None:
        """Step the synapses of the active inputs of x (n_in,) by amount (n_out,) each, before its gate."""
        s = self.settings
        active = np.flatnonzero(x)
        h = self.hidden[active].astype(np.int64)
        step = amount[None, :] * x[active, None] >> s.level_bits
        shrinks = np.where(h >= 0, step < 0, step > 0)
        gate = np.where(shrinks, self._gates[np.abs(h)], GATE_ONE)
        forgets = np.where(h >= 0, self._forgets[np.abs(h)], -self._forgets[np.abs(h)])
        draw = draws.draws(draws.key(s.seed, int(self.images[0])), active, s.n_out, s.step_bits)
        new = np.clip(h + (step * gate - forgets + draw >> s.step_bits), -s.limit_levels, s.limit_levels)
        self._store(active, new)

    def _store(self, active: NDArray[Any], new: NDArray[Any]) -> None:
        """Keep the hidden weights `new` of the inputs `active`, and the sums of binary weights that follow."""
        self.balance += 2 * ((new >= 0).sum(axis=0) - (self.hidden[active] >= 0).sum(axis=0)).astype(np.int32)
        self.hidden[active] = new

    def _distance(self, u: NDArray[Any]) -> Any:
        scaled = u.astype(np.int64) << self.settings.sum_bits
        return scaled if self.settings.readout else scaled - self._thresholds()

    def _thresholds(self) -> NDArray[Any]:
        if self.settings.homeostatic:
            return self.mean.astype(np.int64)
        return self.mean + self.settings.mean_fixed * self.balance.astype(np.int64)

    def integer_thresholds(self) -> NDArray[Any]:
        return -(-self._thresholds() >> self.settings.sum_bits)

    def set_thresholds(self, sums: NDArray[Any]) -> None:
        self.mean[:] = 0
        offset = (sums.astype(np.int64) << self.settings.sum_bits) - self._thresholds()
        self.mean[:] = offset


class FloatLayer(Layer):
    """The equations in float32. hidden, mean, deviation, trace float32; balance int32; images int64.

    Any consolidation function of `lava_meta.rule`, and no rounding. Raises DivergenceError for an error that is not
    a finite number.
    """

    def backward(self, error: NDArray[Any], *, learn: bool = True, pass_down: bool = True) -> NDArray[Any]:
        s = self.settings
        if not np.isfinite(error).all():
            raise DivergenceError(
                f"the error of {'the readout' if s.readout else f'a hidden layer of {s.n_out} units'} is not a finite "
                f"number after {int(self.images[0])} images"
            )
        distance = self._distance(self._u)
        d = error.astype(np.float32)
        if not s.readout:
            d = np.where(np.abs(distance) <= WINDOW_NUM / WINDOW_DEN * self.deviation, d, np.float32(0))
        down = np.zeros((len(d), s.n_in), np.float32)
        if pass_down:
            down[:] = self._passed_down(d) / np.float32(2**s.backward_shift)
        if learn:
            for lane in range(len(d)):
                self._learn(self._x[lane], distance[lane], d[lane])
        return down

    def _passed_down(self, d: NDArray[Any]) -> NDArray[Any]:
        """sum_k w_kj d_k of errors d (lanes, n_out)."""
        return d @ np.where(self.hidden >= 0, np.float32(1), np.float32(-1)).T

    def _learn(self, x: NDArray[Any], distance: NDArray[Any], d: NDArray[Any]) -> None:
        s = self.settings
        if not s.readout:
            self.deviation += (np.abs(distance) - self.deviation) / np.float32(2**SCALE_SHIFT)
        if s.homeostatic:
            self.mean += distance / np.float32(2**SCALE_SHIFT)
        if s.centred:
            self.trace += (d - self.trace) / np.float32(2**CENTRE_SHIFT)
            d = d - self.trace
        if not s.frozen:
            self._step_synapses(x, np.float32(-self.lr) * d)
        self.images += 1

    def _step_synapses(self, x: NDArray[Any], amount: NDArray[Any]) -> None:
        s = self.settings
        active = np.flatnonzero(x)
        h = self.hidden[active]
        step = amount[None, :] * (x[active, None].astype(np.float32) * np.float32(2.0**-s.level_bits))
        shrinks = np.where(h >= 0, step < 0, step > 0)
        gate = s.rule.consolidation(h * np.float32(1 / (s.limit * self.consolidation_range)))
        new = h + np.where(shrinks, step * gate, step)
        if s.rule.memory is not None:
            new -= h * np.float32(1 / s.rule.memory)
        new = np.clip(new, -s.limit, s.limit).astype(np.float32)
        self.balance += 2 * ((new >= 0).sum(axis=0) - (h >= 0).sum(axis=0)).astype(np.int32)
        self.hidden[active] = new

    def _distance(self, u: NDArray[Any]) -> Any:
        scaled = u * 2.0**-self.settings.level_bits
        return (scaled if self.settings.readout else scaled - self._thresholds()).astype(np.float32)

    def _thresholds(self) -> NDArray[Any]:
        if self.settings.homeostatic:
            return self.mean.astype(np.float64)
        return self.mean + self.settings.mean_input * self.balance.astype(np.float64)

    def integer_thresholds(self) -> NDArray[Any]:
        return np.ceil(self._thresholds() * 2.0**self.settings.level_bits).astype(np.int64)

    def set_thresholds(self, sums: NDArray[Any]) -> None:
        self.mean[:] = 0
        # Half a level below: sums are whole, and float32 then has room to round.
        offset = (sums.astype(np.float64) - 0.5) * 2.0**-self.settings.level_bits - self._thresholds()
        self.mean[:] = offset


def state_types(precision: Any) -> dict[str, type]:
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


def initial_state(settings: LayerSettings, generator: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Draw hidden weights uniform in +-init_width, deviations as random weights would give them.

    In fixed point, hidden weights take at least one level to each side.
    """
    types, shapes = state_types(settings.precision), state_shapes(settings)
    state: dict[str, NDArray[Any]] = {name: np.zeros(shapes[name], types[name]) for name in STATE}
    start = generator.uniform(-1.0, 1.0, shapes["hidden"])
    fixed, width = settings.precision != "float", settings.rule.init_width
    if fixed:  # rounded down, so that half of the weights are negative
        levels = np.floor(start * max(1.0, width * settings.full_range)) * settings.unit
        state["hidden"][:] = np.clip(levels, -settings.limit_stored, None)
    else:
        state["hidden"][:] = start * min(width, settings.limit) * settings.full_range
    state["balance"][:] = np.where(state["hidden"] >= 0, 1, -1).sum(axis=0)
    state["deviation"][:] = round(settings.initial_deviation * 2**NEURON_BITS) if fixed else settings.initial_deviation
    return state
