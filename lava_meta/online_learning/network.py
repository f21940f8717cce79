"""The network that learns: settings and state of every layer, and the fixed signs of its feedback."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph import BinaryGraph, DenseLayer, GroupNorm, Readout
from lava_meta.io.memory import require_memory
from lava_meta.online_learning.encoding import Encoding, Front
from lava_meta.online_learning.forms import make_layer
from lava_meta.online_learning.neurons import LAYER_NORM_EPSILON, State
from lava_meta.online_learning.options import LearnerOptions, check_plastic
from lava_meta.online_learning.reference import Layer, initial_state
from lava_meta.online_learning.settings import LayerSettings

_BYTES_A_SYNAPSE = 24  # while it is made: draws in float64, and what becomes of them


@dataclass(eq=False)
class PlasticNetwork:
    """Layers that learn, from the first to the readout. What runs it works in place on `states`.

    feedback: for each hidden layer a matrix (classes, units) of signs through which it sees the readout's error
        directly, or None to pass errors down through the binary weights.
    front: frozen layers of a converted network below the first.
    """

    settings: list[LayerSettings]
    states: list[State]
    feedback: list[NDArray[Any] | None]
    front: Front | None = None

    @classmethod
    def drawn(cls, sizes: Sequence[int], options: LearnerOptions, encoding: Encoding) -> PlasticNetwork:
        """A new network, drawn from the seed: layers' seeds, then initial states, then feedback signs.

        Raises ValueError for options that do not fit these layers, TooLargeError if they do not fit in memory.
        """
        front = encoding if isinstance(encoding, Front) else None
        generator = np.random.default_rng([options.seed, 0])
        settings = _settings(sizes, options, encoding, generator)
        direct = options.feedback == "direct"
        synapses = sum(n_in * n_out for n_in, n_out in pairwise(sizes))
        require_memory(
            _BYTES_A_SYNAPSE * (synapses + (sizes[-1] * sum(sizes[1:-1]) if direct else 0)),
            f"A learner of {'-'.join(map(str, sizes))}",
            "make it smaller",
        )
        states = [initial_state(layer, generator) for layer in settings]
        signs = np.array([-1, 1], np.float32 if options.precision == "float" else np.int8)
        feedback = [
            generator.choice(signs, (sizes[-1], layer.n_out)) if direct else None  # one after the other
            for layer in settings[:-1]
        ]
        return cls(settings, states, feedback, front)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs of the first layer that learns, and the units of each layer."""
        return (self.settings[0].n_in, *(layer.n_out for layer in self.settings))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the layers: `hidden1`, `hidden2`, ..., counted from the first of the front, and `readout`."""
        return layer_names(len(self.settings), self.front)

    @property
    def plastic(self) -> tuple[str, ...]:
        """The names of the layers whose synapses learn."""
        return tuple(name for name, layer in zip(self.names, self.settings, strict=True) if not layer.frozen)

    @property
    def spiking(self) -> bool:
        """Whether units of it send spikes, 0 and 1."""
        return any(layer.spiking for layer in self.settings)

    @property
    def divisive(self) -> bool:
        """Whether units of it have thresholds that follow the spread of each image's inputs."""
        return any(layer.divisive for layer in self.settings)

    @property
    def hidden(self) -> list[NDArray[Any]]:
        """Copies of each layer's hidden weights (units, inputs): int16 levels, or stored units of a device; float32."""
        return [np.ascontiguousarray(state["hidden"].T) for state in self.states]

    @property
    def limits(self) -> list[float]:
        """Largest |h| of each layer, in the units of `hidden`."""
        return [
            layer.limit if layer.precision == "float" and not layer.engine_steps else layer.limit_stored
            for layer in self.settings
        ]

    def fit_inputs(self, encoding: Encoding) -> bool:
        """Set the first layer's thresholds for inputs of this encoding; False if they already are."""
        first = replace(self.settings[0], input_mean=encoding.input_mean, max_level=encoding.levels)
        changed = first != self.settings[0]
        self.settings[0] = first
        return changed

    def graph(self) -> BinaryGraph:
        """The binary network that the hidden weights stand for now. It takes encoded images: spikes are levels 0, 1.

        Its units send signs s. Of a spike a = (s + 1) / 2, so sum_j w_j a_j = (sum_j w_j s_j + sum_j w_j) / 2. A
        two-sided unit becomes two, one for each edge, of which at most one spikes.

        A layer norm becomes a `GroupNorm`, which decides from the same whole sums.

        Raises ConversionError for units whose thresholds follow the spread of the image's inputs.
        """
        layers = [make_layer(*layer) for layer in zip(self.settings, self.states, strict=True)]
        hidden: tuple[DenseLayer, ...] = ()
        edges = 0  # of each spiking unit below
        for layer in layers[:-1]:
            hidden += (_signs(layer, edges),)
            edges = layer.settings.edges
        last = layers[-1]
        halves = {"scale": np.full(last.settings.n_out, 0.5), "offset": edges * last.balance / 2} if edges else {}
        readout = Readout.from_weights(np.tile(last.hidden.T >= 0, max(1, edges)), **halves)
        if self.front is not None:
            graph = self.front.graph
            return replace(graph, layers=(*graph.layers[: self.front.depth], *hidden), readout=readout)
        return BinaryGraph(hidden, readout, self.settings[0].max_level, (self.settings[0].n_in,))

    @contextmanager
    def unchanged_on_failure(self) -> Iterator[None]:
        """A block that learns: what stops it leaves the states as they were before."""
        before = [{name: values.copy() for name, values in state.items()} for state in self.states]
        try:
            yield
        except BaseException:
            for state, values in zip(self.states, before, strict=True):
                for name, value in values.items():
                    state[name][:] = value
            raise


def _signs(layer: Layer, edges: int) -> DenseLayer:
    """A layer as units of signs, above units of so many edges, each of which became one; 0 of units of signs."""

    def moved(sums: NDArray[np.int64]) -> NDArray[np.int64]:
        return 2 * sums - edges * layer.balance if edges else sums

    weight = np.tile(layer.hidden.T >= 0, max(1, edges))
    if layer.settings.layer_norm:
        own = layer.settings.edges
        return DenseLayer.from_weights(
            np.tile(weight, (own, 1)), np.zeros(own * len(weight)), norm=_layer_norm(layer, edges)
        )
    upper = moved(layer.neurons.integer_thresholds())
    if not layer.settings.two_sided:
        return DenseLayer.from_weights(weight, upper)
    lower = np.minimum(moved(layer.neurons.lower_thresholds()), upper - 1)  # what is at both edges spikes once
    polarity = np.repeat([1, -1], len(weight))
    return DenseLayer.from_weights(np.tile(weight, (2, 1)), np.concatenate([upper, -lower]), polarity)


def _layer_norm(layer: Layer, edges: int) -> GroupNorm:
    """The norm of a layer's units, twice if they have two edges, of which the lower one is that of the negated sum.

    Above units of so many edges what it norms is twice the sum of spikes.
    """
    own, units = layer.settings.edges, layer.settings.n_out
    return GroupNorm(
        groups=1,
        gain=np.repeat([1.0, -1.0][:own], units),
        bias=np.full(own * units, -layer.neurons.norm_edge),
        epsilon=LAYER_NORM_EPSILON * (4 if edges else 1),
        origin=Fraction(-1 if edges else 0),
        row=np.tile(edges * layer.balance.astype(np.int64), own if edges else 0),
    )


def check_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    """Inputs and units of a network as integers. Raises ValueError for others."""
    if len(sizes) < 2 or any(isinstance(n, bool) or int(n) != n or n < 1 for n in sizes) or sizes[-1] < 2:
        raise ValueError(f"sizes is {list(sizes)}; give inputs, hidden units if any, and at least two classes")
    return tuple(int(n) for n in sizes)


def layer_names(layers: int, front: Front | None = None) -> tuple[str, ...]:
    """Names of so many layers that learn above a frozen front."""
    depth = 0 if front is None else front.depth
    return (*(f"hidden{i + depth}" for i in range(1, layers)), "readout")


def _settings(
    sizes: Sequence[int], options: LearnerOptions, encoding: Encoding, generator: np.random.Generator
) -> list[LayerSettings]:
    """Of each layer, with a seed that is drawn."""
    in_engine = options.form == "engine"
    if in_engine and (options.lanes > 1 or (options.feedback != "direct" and len(sizes) > 2)):
        raise ValueError(
            "the learning engine sees one image at a time and passes no error down: give lanes=1 and, with hidden "
            "layers, feedback='direct'"
        )
    names = layer_names(len(sizes) - 1, encoding if isinstance(encoding, Front) else None)
    plastic = check_plastic(options.plastic, names)
    learning = [name for name in plastic if name != "readout"]
    if options.rule.error == "prototype":
        if learning:
            raise ValueError(
                f"error='prototype' tells hidden layers nothing, and {', '.join(learning)} would learn: give "
                "plastic=('readout',)"
            )
        if len(sizes) == 2 and encoding.input_mean:
            raise ValueError("error='prototype' averages signs, and the readout sees pixels: give hidden units")
    return [
        LayerSettings(
            n_in,
            n_out,
            readout=name == "readout",
            precision=options.precision,
            rule=options.rule,
            seed=int(generator.integers(2**32)),
            input_mean=encoding.input_mean if i == 0 else options.rule.hidden_mean,
            device=options.device,
            max_level=encoding.levels if i == 0 else 1,
            frozen=name not in plastic,
            engine_steps=len(sizes) + 3 if in_engine else 0,
        )
        for i, (n_in, n_out, name) in enumerate(zip(sizes[:-1], sizes[1:], names, strict=True))
    ]
