"""A learner's network inside Lava, as one Process or as one per layer, supervised."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from lava.magma.core.run_configs import Loihi2SimCfg

from lava_meta.online_learning.backend import SNAPSHOT
from lava_meta.online_learning.network import PlasticNetwork
from lava_meta.online_learning.over_time_network import NetworkOverTime
from lava_meta.online_learning.reference import STATE
from lava_meta.processes.binary_network.models import BinaryNetworkModel
from lava_meta.processes.binary_network.process import BinaryNetwork
from lava_meta.processes.error_neurons.process import ErrorNeurons
from lava_meta.processes.labelled_source.process import LabelledSource
from lava_meta.processes.metaplastic_dense.process import MetaplasticDense
from lava_meta.processes.metaplastic_network.process import MetaplasticNetwork
from lava_meta.processes.metaplastic_over_time.process import MetaplasticOverTime
from lava_meta.processes.runtime import Supervised, loggers_unchanged
from lava_meta.processes.shared_memory import shared_array


class LavaEngine:
    """Learns in Lava, in blocks of up to a thousand images, after each of which the network gets a copy of its states.

    form: "fused" runs a `MetaplasticNetwork`; "layers" wires a Process per layer, between which spikes and errors pass;
    "engine" does the same with Lava's learning engine, in several time steps per image.
    A failure in a block leaves the states as they were before it. Raises `RunError` and `RunTimeout`.
    """

    def __init__(self, network: PlasticNetwork, *, lanes: int, timeout: float, form: str = "fused") -> None:
        self._lanes = lanes
        self._states = network.states
        self._block = max(1, SNAPSHOT // lanes) * lanes
        n_in = network.sizes[0] if network.front is None else network.front.n_in
        n_in *= network.steps if isinstance(network, NetworkOverTime) else 1
        self._images = shared_array((self._block, n_in), np.int32)
        self._labels = shared_array((self._block,), np.int32)
        self._shared = [
            {name: shared_array(state[name].shape, state[name].dtype) for name in STATE} for state in network.states
        ]
        for shared, state in zip(self._shared, network.states, strict=True):
            for name in STATE:
                shared[name][:] = state[name]
        build: type[_Fused] | type[_Layers] = _Fused if form == "fused" else _Layers
        with loggers_unchanged():
            self._network = build(replace(network, states=self._shared), self._images, self._labels, lanes)
        tag = "floating_pt" if network.settings[-1].precision == "float" else "fixed_pt"
        config = Loihi2SimCfg(
            select_tag=tag,
            select_sub_proc_model=form == "engine",
            # Its stock form would answer some steps later, and to each image once.
            exception_proc_model_map={BinaryNetwork: BinaryNetworkModel},
        )
        self._run = Supervised(self._network.process, config, timeout, {"pypy_channel_size": 2})
        self._run.__enter__()

    def learn(self, x: np.ndarray, labels: np.ndarray) -> int:
        """Learn integers (n, n_in) with labels (n,), n a multiple of the lanes, and return how many were right."""
        right = 0
        for start in range(0, len(x), self._block):
            count = len(x[start : start + self._block])
            with self._run.calls("learn"):
                self._images[:count] = x[start : start + count]
                self._labels[:count] = labels[start : start + count]
                self._network.rewind()
                self._run.steps(count // self._lanes * self._network.steps)
                right += self._network.right()
                self._network.collect()
                for shared, state in zip(self._shared, self._states, strict=True):
                    for name in STATE:
                        state[name][:] = shared[name]
        return right

    def close(self) -> None:
        """End all actors. Repeatable."""
        self._run.close()


class _Fused:
    """One Process."""

    steps = 1  # time steps per image

    def __init__(self, network: PlasticNetwork, images: np.ndarray, labels: np.ndarray, lanes: int) -> None:
        self._progress = shared_array((2,), np.int64)
        kind = MetaplasticOverTime if isinstance(network, NetworkOverTime) else MetaplasticNetwork
        self.process = kind(
            network=network,
            images=images,
            labels=labels,
            progress=self._progress,
            lanes=lanes,
            name="network",
        )

    def rewind(self) -> None:
        """Begin at the first image again."""
        self._progress[:] = 0

    def right(self) -> int:
        """How many images were classified right since."""
        return int(self._progress[1])

    def collect(self) -> None:
        """The states are where the Process keeps them."""


class _Layers:
    """Source, frozen front, layers and error neurons, each a Process."""

    def __init__(self, network: PlasticNetwork, images: np.ndarray, labels: np.ndarray, lanes: int) -> None:
        last, front = network.settings[-1], network.front
        in_engine = last.engine_steps > 0
        self.steps = last.engine_steps or 1
        self._source = LabelledSource(images=images, labels=labels, lanes=lanes, steps=self.steps, name="source")
        self._error = ErrorNeurons(
            classes=last.n_out,
            inputs=last.n_in,
            kind=last.rule.error,
            precision=last.precision,
            dead_zone=last.rule.dead_zone,
            temperature=last.rule.temperature,
            class_rate=last.rule.class_rate,
            trace=network.states[-1]["trace"],
            lanes=lanes,
            steps=self.steps,
            name="error",
        )
        place = "state" if in_engine else "shared"  # a LearningDense keeps its Vars to itself
        layers = [
            MetaplasticDense(settings=s, lanes=lanes, feedback=direct, name=f"layer {i}", **{place: state})
            for i, (s, state, direct) in enumerate(
                zip(network.settings, network.states, [*network.feedback, None], strict=True), 1
            )
        ]
        self._to_read = list(zip(layers, network.states, strict=True)) if in_engine else []
        spikes = self._source.s_out
        if front is not None:
            frozen = BinaryNetwork(graph=front.graph, lanes=lanes, output=front.name, name="front")
            spikes.connect(frozen.s_in)
            spikes = frozen.out
        for layer in layers:
            spikes.connect(layer.s_in)
            spikes = layer.s_out
        spikes.connect(self._error.s_in)
        self._source.label_out.connect(self._error.label_in)
        self._error.e_out.connect(layers[-1].e_in)
        for i, direct in enumerate(network.feedback):
            (layers[i + 1] if direct is None else self._error).e_out.connect(layers[i].e_in)
        self.process = self._error
        self._used = False
        self._before = 0

    def rewind(self) -> None:
        """Begin at the first image again."""
        if self._used:  # Lava has no Vars before the first step; then the position is 0
            self._before = int(self._error.correct.get()[0])
            self._source.position.set(np.zeros(1))
        self._used = True

    def right(self) -> int:
        """How many images were classified right since."""
        return int(self._error.correct.get()[0]) - self._before

    def collect(self) -> None:
        """Read the states that are not in shared memory, 20 us a value."""
        for layer, state in self._to_read:
            for name in STATE:
                state[name][:] = getattr(layer, name).get()
            # The neurons measured this before the last image.
            state["balance"][:] = np.where(state["hidden"] >= 0, 1, -1).sum(axis=0)
