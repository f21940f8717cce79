"""A `SteppedGraph`, compiled: the same spikes, from the spikes that there are.

Sums of spikes visit active inputs alone (`lava_meta.graph.packed.spiking_loops`); what depends on the image alone goes
through the kernels of networks without time, once for an image that is held. Maps of convolutions lie with their
channels last until neurons take them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.acyclic import INPUT, Placed
from lava_meta.graph.nodes import Conv, Gather, Linear, Node, Pool
from lava_meta.graph.packed import spiking_ahead as ahead
from lava_meta.graph.packed import spiking_loops as loops
from lava_meta.graph.packed import steps as kernels
from lava_meta.graph.packed.held import Held, narrowest, stored_of, to_stored
from lava_meta.graph.packed.spiking_ahead import AllSteps
from lava_meta.graph.packed.spiking_constants import constants_of
from lava_meta.graph.spiking_graph import Run, SteppedGraph
from lava_meta.graph.spiking_neurons import FloatState, State

_Step = Callable[[NDArray[Any]], NDArray[Any]]


class CompiledRun(Run):
    """As `Run`, and `trains`, all time steps at once."""

    def __init__(self, graph: SteppedGraph, form: str = "floating_pt") -> None:
        super().__init__(graph, form)
        self._held: dict[str, NDArray[Any]] = {}  # currents of an image that is held
        self._steps: dict[str, _Step] = {}
        self._last: set[str] = set()  # nodes whose maps have their channels last
        for name, node in graph.nodes.items():
            step = self._step_of(name, node)
            if step is not None:
                self._steps[name] = step
        self._layers = {name: _Layer(state) for name, state in self._states.items() if _Layer.takes(state)}
        whole = form == "floating_pt"
        self._whole = {held: AllSteps.of(graph, held=held) if whole else None for held in (True, False)}

    def trains(self, frames: NDArray[Any], steps: int | None, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """All time steps of frames (frames, n, n_in), from rest; of one frame that is held, with `steps`.

        By layer, uint8 spikes (steps, n, units); by "layer.mem", potentials.
        """
        self.restart()
        whole, length = self._whole[steps is not None], len(frames) if steps is None else steps
        if whole is not None and length <= ahead.MOST_STEPS and {*names} <= {*self.graph.neurons}:
            shape = self.graph.input_shape
            given = {INPUT: ahead.trains_of(frames, shape)} if steps is None else self._timeless_of(frames[0])
            words = whole.trains(given, length)
            return {name: ahead.spikes_of(words[name], length) for name in names}
        rows: list[list[Any]] = []
        for k in range(len(frames) if steps is None else steps):
            spikes = self.step(frames[0] if steps is not None else frames[k], held=steps is not None)
            rows.append([self._wanted(name, spikes) for name in names])
        self.restart()
        return {name: np.stack([row[i] for row in rows]) for i, name in enumerate(names)}

    def _timeless_of(self, frame: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """What depends on the input alone, by node, (n, *shape)."""
        values = {INPUT: frame.reshape(-1, *self.graph.input_shape)}
        for name, node in self.graph.nodes.items():
            if name in self.graph.timeless:
                values[name] = self._computed(name, [values[source] for source in node.sources])
        return {name: self._first(name, value) for name, value in values.items()}

    def _wanted(self, name: str, spikes: dict[str, NDArray[Any]]) -> NDArray[Any]:
        if name in spikes:
            return spikes[name].astype(np.uint8)
        return self.potential(name.removesuffix(".mem")).astype(np.float32)

    def _computed(self, name: str, sources: list[NDArray[Any]]) -> NDArray[Any]:
        step = self._steps.get(name)
        if step is not None:
            return step(sources[0])
        given = self.graph.nodes[name].sources
        return super()._computed(name, [self._first(*pair) for pair in zip(given, sources, strict=True)])

    def _fired(self, name: str, sums: NDArray[Any]) -> NDArray[Any]:
        source = self.graph.nodes[name].sources[0]
        sums = self._first(source, sums)
        layer = self._layers.get(name)
        if layer is None:
            return super()._fired(name, sums)
        held = self._held if source in self._timeless else {}
        if name not in held:
            held[name] = layer.current(sums)
        return layer.step(held[name])

    def restart(self) -> None:
        super().restart()
        self._held = {}

    def _first(self, name: str, value: NDArray[Any]) -> NDArray[Any]:
        """A value with its channels first."""
        return value.transpose(0, 3, 1, 2) if name in self._last else value

    def _step_of(self, name: str, node: Node) -> _Step | None:
        layer = self.graph.placed[name]
        source = node.sources[0]
        if isinstance(node, Linear) and len(layer.output_shape) == 1 and self._is_spikes(source):
            return _rows(layer, node)
        if isinstance(node, Conv) and node.groups == 1 and self._is_spikes(source):
            self._last.add(name)
            return _scattered(layer, node)
        if isinstance(node, Pool) and node.how == "max" and node.window.padding == (0, 0):
            plain = node.window.dilation == (1, 1) and not any(node.window.after)
            if plain and source in self._last:
                self._last.add(name)
            if plain:
                return _pooled(layer, node) if source in self._last else _pooled_first(layer, node)
        if isinstance(node, (Linear, Conv)) and source == INPUT:
            step = _timeless(layer, (self.graph.min_level, self.graph.max_level))
            if step is not None and len(layer.output_shape) == 3:
                self._last.add(name)
            return step
        if isinstance(node, Gather) and node.index is None and source not in self._last:
            return lambda x: x.reshape(len(x), *node.out)
        return None

    def _is_spikes(self, name: str) -> bool:
        """Whether a value holds 0 and 1, with its channels first."""
        if name in self._last:
            return False
        low, high = (
            (self.graph.min_level, self.graph.max_level)
            if name == INPUT
            else (self.graph.placed[name].low, self.graph.placed[name].high)
        )
        return (low, high) == (0, 1)


def _rows(layer: Placed, node: Linear) -> _Step:
    values = node.weight.values
    weight: NDArray[Any] = np.ascontiguousarray(values.T.astype(ahead.sum_type(values)))

    def step(x: NDArray[Any]) -> NDArray[Any]:
        out = np.empty((len(x), layer.n_out), weight.dtype)
        loops.add_rows(np.ascontiguousarray(x).view(np.uint8) if x.dtype == bool else x, weight, out)
        return out

    return step


def _scattered(layer: Placed, node: Conv) -> _Step:
    units, down, across = layer.output_shape
    window, weight = node.window, ahead.laid_out(layer, node)
    reach = loops.reach_of(weight, window, stored_of(layer.input_shapes[0])[:2]) if ahead.side_by_side(node) else None

    def step(x: NDArray[Any]) -> NDArray[Any]:
        out = np.empty((len(x), down, across, units), weight.dtype)
        spikes = np.ascontiguousarray(x).view(np.uint8) if x.dtype == bool else x
        if reach is not None:
            loops.scatter_rows(spikes.reshape(*spikes.shape[:2], -1), reach, out.reshape(-1))
        else:
            loops.scatter(spikes, weight, window.stride, window.padding, window.dilation, out)
        return out

    return step


def _pooled(layer: Placed, node: Pool) -> _Step:
    channels, down, across = layer.output_shape

    def step(x: NDArray[Any]) -> NDArray[Any]:
        out = np.empty((len(x), down, across, channels), x.dtype)
        loops.greatest(x, node.window.kernel, node.window.stride, out)
        return out

    return step


def _pooled_first(layer: Placed, node: Pool) -> _Step:
    """Of maps with their channels first: the greatest of the maps that each place of the kernel sees."""
    _, down, across = layer.output_shape
    (rows, columns), (below, beside) = node.window.kernel, node.window.stride

    def step(x: NDArray[Any]) -> NDArray[Any]:
        seen = [
            x[:, :, a : a + below * (down - 1) + 1 : below, b : b + beside * (across - 1) + 1 : beside]
            for a in range(rows)
            for b in range(columns)
        ]
        out = seen[0].copy()
        for other in seen[1:]:
            np.maximum(out, other, out=out)
        return out

    return step


def _timeless(layer: Placed, levels: tuple[int, int]) -> _Step | None:
    summed = kernels.sums_of(layer, levels, signs=False)
    if summed is None:
        return None
    kernel = summed.step(layer)
    stored = stored_of(layer.input_shapes[0])
    kind = np.uint8 if levels[0] == 0 and levels[1] < 256 else narrowest(*levels)

    def step(x: NDArray[Any]) -> NDArray[Any]:
        held = Held(stored, integers=to_stored(x).astype(kind, order="C"))
        found = kernel([held]).integers
        return found if len(layer.output_shape) == 3 else found.reshape(len(x), *layer.output_shape)

    return step


class _Layer:
    """The neurons of one layer, whose state they share with its `FloatState`."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._constants = constants_of(state.node, lambda value: np.broadcast_to(value, state.spikes.shape[1:]))

    @staticmethod
    def takes(state: State) -> bool:
        """Whether there is a loop for these neurons."""
        return isinstance(state, FloatState) and state.node.model in loops.STATES

    def current(self, sums: NDArray[Any]) -> NDArray[Any]:
        """float32 currents (n, units) of integers."""
        gain, constant = self._constants.gain, self._constants.constant
        current = np.empty((len(sums), len(gain)), np.float32)
        loops.currents(np.ascontiguousarray(sums).reshape(current.shape), gain, constant, current)
        return current

    def step(self, current: NDArray[Any]) -> NDArray[Any]:
        """Spikes (n, *shape) of a step."""
        state, c = self._state, self._constants
        spikes = np.empty(current.shape, bool)
        v = state.states["mem"].reshape(current.shape)
        gates = c.threshold, c.reset, c.delayed
        if c.synaptic:
            s = state.states["syn"].reshape(current.shape)
            loops.synaptic(current, c.alpha, c.beta, *gates, s, v, spikes)
        else:
            loops.leaky(current, c.beta, *gates, v, spikes)
        state.spikes = spikes.reshape(state.spikes.shape)
        return state.spikes
