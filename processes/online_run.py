"""A learner's network inside Lava: source, layers and error neurons, wired and supervised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from lava.magma.core.run_configs import Loihi2SimCfg

from lava_meta.online_learning.engine import State
from lava_meta.online_learning.layers import STATE
from lava_meta.online_learning.settings import LayerSettings
from lava_meta.processes.actors import shared_array
from lava_meta.processes.error_neurons.process import ErrorNeurons
from lava_meta.processes.labelled_source.process import LabelledSource
from lava_meta.processes.metaplastic_dense.process import MetaplasticDense
from lava_meta.processes.runtime import Supervised, loggers_unchanged

_SNAPSHOT = 1000  # images between two copies of what was learned


class LavaEngine:
    """Learns in Lava, in blocks of up to a thousand images, after each of which `states` gets a copy of the layers.

    A failure in a block leaves `states` as they were before it. Raises `RunError` and `RunTimeout`.
    """

    def __init__(
        self,
        settings: Sequence[LayerSettings],
        states: Sequence[State],
        feedback: Sequence[np.ndarray | None],
        lanes: int,
        timeout: float,
    ) -> None:
        self._lanes = lanes
        self._states = states
        self._block = max(1, _SNAPSHOT // lanes) * lanes
        self._images = shared_array((self._block, settings[0].n_in), np.int8)
        self._labels = shared_array((self._block,), np.int32)
        self._shared = [
            {name: shared_array(state[name].shape, state[name].dtype) for name in STATE} for state in states
        ]
        for shared, state in zip(self._shared, states, strict=True):
            for name in STATE:
                shared[name][:] = state[name]
        last = settings[-1]
        with loggers_unchanged():
            self._source = LabelledSource(images=self._images, labels=self._labels, lanes=lanes, name="source")
            self._error = ErrorNeurons(
                classes=last.n_out,
                inputs=last.n_in,
                kind=last.rule.error,
                precision=last.precision,
                dead_zone=last.rule.dead_zone,
                lanes=lanes,
                name="error",
            )
            layers = [
                MetaplasticDense(
                    settings=s, lanes=lanes, state=state, feedback=direct, shared=shared, name=f"layer {i}"
                )
                for i, (s, state, direct, shared) in enumerate(
                    zip(settings, states, [*feedback, None], self._shared, strict=True), 1
                )
            ]
        spikes = self._source.s_out
        for layer in layers:
            spikes.connect(layer.s_in)
            spikes = layer.s_out
        spikes.connect(self._error.s_in)
        self._source.label_out.connect(self._error.label_in)
        self._error.e_out.connect(layers[-1].e_in)
        for i, direct in enumerate(feedback):
            (layers[i + 1] if direct is None else self._error).e_out.connect(layers[i].e_in)
        tag = "floating_pt" if last.precision == "float" else "fixed_pt"
        self._run = Supervised(self._error, Loihi2SimCfg(select_tag=tag), timeout, {"pypy_channel_size": 2})
        self._used = False
        self._correct = 0
        self._run.__enter__()

    def learn(self, x: np.ndarray, labels: np.ndarray) -> int:
        """Learn int8 (n, n_in) with labels (n,), n a multiple of the lanes, and return how many were right."""
        before = self._correct
        for start in range(0, len(x), self._block):
            count = len(x[start : start + self._block])
            self._images[:count] = x[start : start + count]
            self._labels[:count] = labels[start : start + count]
            if self._used:  # Lava has no Vars before the first step; then the position is 0
                self._source.position.set(np.zeros(1))
            self._used = True
            self._run.steps(count // self._lanes)
            for shared, state in zip(self._shared, self._states, strict=True):
                for name in STATE:
                    state[name][:] = shared[name]
        self._correct = int(self._error.correct.get()[0])
        return self._correct - before

    def close(self) -> None:
        """End all actors. Repeatable."""
        self._run.close()
