"""Binary synapses that learn, with their threshold neurons."""

from __future__ import annotations

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from lava_meta.online_learning.reference import STATE, initial_state
from lava_meta.online_learning.settings import LayerSettings


class MetaplasticDense(AbstractProcess):
    """A dense layer of binary weights w = sign(h) that learns from an error, one value per neuron.

    The equations are those of `lava_meta.online_learning.reference`. In one time step the layer takes its inputs, sends
    its outputs, takes the error that came of them, passes it down, and steps its hidden weights: there is no delay
    between an image and what is learned from it.

    Ports, for `lanes` images per time step:

    - `s_in` (lanes, n_in), int32: -1, 0 or 1, or levels 0 .. `settings.max_level`.
    - `s_out` (lanes, n_out), int32: signs; of a readout, its sums.
    - `e_in` (lanes, n_out), or (lanes, classes) with `feedback`.   `e_out` (lanes, n_in).   float32 in floating point;
      in fixed point int32, with 128 for 1.0. Both `s_in` and `e_in` must be connected.

    Vars, all readable and writable between runs: `hidden` (n_in, n_out), one row an input; `deviation`, `mean`, `trace`
    (n_out,), the units' scales, homeostatic thresholds and mean errors, with 12 fraction bits in fixed point;
    `balance` (n_out,), the sums of binary weights, which follow `hidden`; `images` (1,), how many have been learned;
    `learning_rate` (1,); `consolidation_range` (1,), which stretches the gate to f(|h| / (limit * range));
    `learning` (1,): 0 stops all learning.

    With `settings.engine_steps` the synapses are those of a stock `LearningDense`, chosen by a run configuration with
    select_sub_proc_model=True: an image is then shown for so many time steps, errors are not passed down, and `hidden`
    holds the tags (`lava_meta.online_learning.learning_engine.layer`).

    settings: sizes, rule, precision and seed. The tag of the run configuration must fit: "fixed_pt" for bits,
    "floating_pt" for "float". state: where it starts, by default drawn from the seed. feedback: fixed matrix
    (classes, n_out) of signs through which the layer sees the readout's error directly. shared: arrays from
    `shared_memory.shared_array`, in the shapes of the state, which the running layer then uses as its own.
    """

    def __init__(
        self,
        *,
        settings: LayerSettings,
        lanes: int = 1,
        state: dict[str, np.ndarray] | None = None,
        feedback: np.ndarray | None = None,
        shared: dict[str, np.ndarray] | None = None,
        name: str | None = None,
    ) -> None:
        start = shared or state or initial_state(settings, np.random.default_rng(settings.seed))
        super().__init__(settings=settings, feedback=feedback, shared=shared, state=start, name=name)
        if lanes < 1:
            raise ValueError(f"lanes is {lanes}; a time step takes at least one image")
        if feedback is not None and (feedback.ndim != 2 or feedback.shape[1] != settings.n_out):
            raise ValueError(f"feedback has shape {feedback.shape}; it is (classes, {settings.n_out})")
        if feedback is not None and settings.precision != "float" and not np.isin(feedback, (-1, 0, 1)).all():
            raise ValueError("feedback holds values other than -1, 0 and 1; in fixed point it is a matrix of signs")
        errors = settings.n_out if feedback is None else feedback.shape[0]
        self.s_in = InPort(shape=(lanes, settings.n_in))
        self.s_out = OutPort(shape=(lanes, settings.n_out))
        self.e_in = InPort(shape=(lanes, errors))
        self.e_out = OutPort(shape=(lanes, settings.n_in))
        for part in STATE:
            # A shared layer starts from its shared memory: no need to send the values element by element.
            init = np.zeros(1) if shared is not None else start[part]
            setattr(self, part, Var(shape=start[part].shape, init=init))
        self.learning_rate = Var(shape=(1,), init=settings.rule.lr)
        self.consolidation_range = Var(shape=(1,), init=1.0)
        self.learning = Var(shape=(1,), init=1)
