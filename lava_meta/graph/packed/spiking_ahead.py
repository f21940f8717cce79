"""Spiking networks without recurrence on all time steps of their inputs at once, layer by layer and image by image.

The spikes of a neuron over time are a word, its train: bit k is the spike in step k. What a layer sends needs nothing
of the layers behind it, so all its trains are made before the next layer's, and an image's sums and potentials stay in
the nearest caches. Sums are linear:

    sums_t = sum of S_w over the trains w with a spike in step t,   S_w: the sums of all neurons whose train is w

Neurons that are set to 0 with their spike have a train per period if their current stays the same, so there are few;
each neuron is then summed once instead of once a spike. Where trains are many, spikes are added up step by step.

Words lie with their channels last, (n, rows, columns, channels); of neurons in a row there is one place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.acyclic import INPUT, Placed
from lava_meta.graph.conv import Window
from lava_meta.graph.nodes import Conv, Gather, Linear, Node, Pool
from lava_meta.graph.packed import aligned, spiking_periods
from lava_meta.graph.packed import spiking_loops as loops
from lava_meta.graph.packed.held import stored_of, to_stored
from lava_meta.graph.packed.spiking_constants import Constants, constants_of
from lava_meta.graph.spiking_graph import SteppedGraph
from lava_meta.graph.spiking_neurons import Neurons
from lava_meta.jit import njit

MOST_STEPS = 64  # a train is a word
_MOST_TRAINS = 32
_MOST_BYTES = 2**19  # of the sums of several steps
_SLOTS = 256  # of a table of trains
_NEAREST = 2**15  # bytes of the nearest cache

Words = NDArray[Any]  # uint32, or uint64 of more than 32 steps
_Stage = Callable[[dict[str, Words], int], Words]


class AllSteps:
    """A network of which every node is known here; `of` says whether it is."""

    def __init__(self, graph: SteppedGraph, stages: Mapping[str, _Stage]) -> None:
        self._graph, self._stages = graph, stages

    @classmethod
    def of(cls, graph: SteppedGraph, *, held: bool) -> AllSteps | None:
        """The network on images that are held, or on frames of spikes.

        None if it is recurrent, joins what several layers send, or has neurons or poolings of other kinds.
        """
        known = graph.timeless if held else frozenset[str]()
        trains = {INPUT} if not held and (graph.min_level, graph.max_level) == (0, 1) else set[str]()
        sums: set[str] = set()  # whose neurons compute them
        stages: dict[str, _Stage] = {}
        for name, node in graph.nodes.items():
            source, placed = node.sources[0], graph.placed[name]
            if name in known:
                continue
            if isinstance(node, Neurons) and node.model in loops.STATES and source in known | sums:
                stages[name] = _fired(graph, name) if source in sums else _fired_by_held(placed, source)
                trains.add(name)
            elif (source in trains and _is_summed(node, placed)) or (
                source in sums and isinstance(graph.nodes[source], Conv) and _is_pooled(node)
            ):
                sums.add(name)
            elif source in trains and isinstance(node, Pool) and node.how == "max" and _is_pooled(node):
                stages[name] = _pooled(node)
                trains.add(name)
            elif source in trains and isinstance(node, Gather) and node.index is None:
                stages[name] = _reshaped(node)
                trains.add(name)
            else:
                return None
        return cls(graph, stages)

    def trains(self, given: Mapping[str, NDArray[Any]], steps: int) -> dict[str, Words]:
        """By neurons, their trains. Given are integers (n, *shape) of what is known, or `trains_of` the input."""
        values = dict(given)
        for name, stage in self._stages.items():
            values[name] = stage(values, steps)
        return {name: values[name] for name in self._graph.neurons}


def trains_of(frames: NDArray[Any], shape: tuple[int, ...]) -> Words:
    """Frames of spikes (steps, n, n_in) of this shape as trains."""
    words: Words = np.zeros(frames.shape[1:], _word(len(frames)))
    for step, frame in enumerate(frames):
        words |= frame.astype(words.dtype) << words.dtype.type(step)
    return np.ascontiguousarray(to_stored(words.reshape(len(words), *shape)))


def spikes_of(trains: Words, steps: int) -> NDArray[np.uint8]:
    """Spikes (steps, n, units), in the order of the graph."""
    ordered = np.ascontiguousarray(trains.transpose(0, 3, 1, 2)).reshape(len(trains), -1)
    spikes = np.empty((steps, *ordered.shape), np.uint8)
    for step in range(steps):
        np.bitwise_and(ordered >> ordered.dtype.type(step), 1, out=spikes[step], casting="unsafe")
    return spikes


def _word(steps: int) -> type:
    return np.uint32 if steps <= 32 else np.uint64


def sum_type(values: NDArray[Any]) -> type:
    """The type in which sums of 0 to all weights (units, fan_in) of each unit fit."""
    largest = int(np.abs(values.astype(np.int64)).sum(axis=1).max())
    return np.int16 if largest < 2**15 else np.int32 if largest < 2**31 else np.int64


def laid_out(layer: Placed, node: Conv) -> NDArray[Any]:
    """The weights of a convolution, (channels, down, across, units)."""
    values = node.weight.values
    weight = values.reshape(layer.output_shape[0], layer.input_shapes[0][0], *node.window.kernel)
    return np.ascontiguousarray(weight.transpose(1, 2, 3, 0).astype(sum_type(values)))


# Which nodes are known.


def side_by_side(node: Conv) -> bool:
    """Whether the places that see a spike lie side by side along the rows."""
    return node.window.stride[1] == node.window.dilation[1] == 1


def _is_summed(node: Node, placed: Placed) -> bool:
    if isinstance(node, Conv):
        return node.groups == 1 and side_by_side(node)
    return isinstance(node, Linear) and len(placed.output_shape) == 1


def _is_pooled(node: Node) -> bool:
    """Whether every place of the windows lies inside."""
    if not isinstance(node, Pool):
        return False
    window = node.window
    return window.padding == window.after == (0, 0) and window.dilation == (1, 1)


# Stages.


def _pooled(node: Pool) -> _Stage:
    """The greatest of spikes is one of them."""
    (down, across), (below, beside) = node.window.kernel, node.window.stride

    def stage(values: dict[str, Words], steps: int) -> Words:
        words = values[node.sources[0]]
        rows, columns = (words.shape[1] - down) // below + 1, (words.shape[2] - across) // beside + 1
        seen = [
            words[:, a : a + below * (rows - 1) + 1 : below, b : b + beside * (columns - 1) + 1 : beside]
            for a in range(down)
            for b in range(across)
        ]
        together: Words = np.bitwise_or.reduce(seen)
        return together

    return stage


def _reshaped(node: Gather) -> _Stage:
    def stage(values: dict[str, Words], steps: int) -> Words:
        words = values[node.sources[0]].transpose(0, 3, 1, 2)
        return np.ascontiguousarray(to_stored(words.reshape(len(words), *node.out)))

    return stage


def _constants_of(placed: Placed) -> Constants:
    """In the order in which their words lie."""
    assert isinstance(placed.node, Neurons)
    return constants_of(placed.node, lambda value: to_stored(np.broadcast_to(value, placed.output_shape)[None]))


def _silent(n: int, placed: Placed, steps: int) -> Words:
    """Trains without a spike, to be filled."""
    return np.zeros((n, *stored_of(placed.output_shape)), _word(steps))


def _fired_by_held(placed: Placed, source: str) -> _Stage:
    """Of neurons whose current is the same in every step."""
    neurons = _constants_of(placed)
    periodic = _is_periodic(neurons)

    @cache
    def periods(steps: int) -> tuple[NDArray[Any], Words]:
        least = spiking_periods.least_currents(neurons.beta[0], neurons.threshold[0], steps)
        return least, spiking_periods.trains(steps, _word(steps))

    def stage(values: dict[str, Any], steps: int) -> Words:
        sums = np.ascontiguousarray(to_stored(values[source].reshape(-1, *placed.output_shape)))
        words = _silent(len(sums), placed, steps)
        flat = (len(sums), len(neurons.gain))
        if periodic:
            constants = neurons.gain, neurons.constant
            spiking_periods.fire(sums.reshape(flat), *constants, *periods(steps), words.reshape(flat))
        else:
            _fire_by_held(sums.reshape(flat), steps, neurons, words.reshape(flat))
        return words

    return stage


def _is_periodic(neurons: Constants) -> bool:
    """Whether a spike leaves each neuron as it began, and all of them are alike."""
    beta, threshold = neurons.beta, neurons.threshold
    alike = bool((beta == beta[0]).all() and (threshold == threshold[0]).all())
    return alike and not neurons.synaptic and neurons.reset == loops.ZERO and beta[0] >= 0 and threshold[0] >= 0


def _fired(graph: SteppedGraph, name: str) -> _Stage:
    """Of neurons behind sums of trains, and perhaps a pooling of these."""
    fired, source = graph.placed[name], graph.nodes[name].sources[0]
    neurons = _constants_of(fired)
    kernel, stride, greatest = (1, 1), (1, 1), True
    before = graph.nodes[source]
    if isinstance(before, Pool):
        kernel, stride, greatest = before.window.kernel, before.window.stride, before.how == "max"
        source = before.sources[0]
    node, placed = graph.nodes[source], graph.placed[source]
    entering = stored_of(placed.input_shapes[0])
    if isinstance(node, Conv):
        reach, extent = loops.reach_of(laid_out(placed, node), node.window, entering[:2]), placed.output_shape[1:]
    else:
        assert isinstance(node, Linear)
        values, extent = node.weight.values, (1, 1)
        weight: NDArray[Any] = values.T[:, None, None].astype(sum_type(values))
        beyond = -len(values) % (aligned.LINE // weight.itemsize)  # units beside, so that whole lines are added
        reach = loops.reach_of(np.pad(weight, ((0, 0), (0, 0), (0, 0), (0, beyond))), Window((1, 1)), (1, 1))
    sums, map_bytes = reach.weight.dtype, reach.size * reach.weight.itemsize

    def stage(values: dict[str, Words], steps: int) -> Words:
        words = values[node.sources[0]]
        out = _silent(len(words), fired, steps)
        block = max(1, min(steps, _NEAREST // map_bytes))
        blocks = max(1, min(-(-steps // block), _MOST_BYTES // (block * map_bytes)))
        _fire(
            words.reshape(len(words), -1, entering[2]),
            steps,
            reach,
            aligned.empty(blocks * block * reach.size, sums),
            aligned.empty(_MOST_TRAINS * reach.size, sums),
            (*extent, kernel, stride, greatest),
            np.empty((block, *stored_of(fired.output_shape)), sums if greatest else np.int64),
            neurons,
            out.reshape(len(words), -1),
        )
        return out

    return stage


# Loops.


@njit(cache=True, nogil=True)
def _advance(currents: Any, first: int, neurons: Any, s: Any, v: Any, words: Any) -> None:
    """Steps `first`, ... of an image's neurons, by currents (steps, units); their spikes become bits of their words."""
    alpha, beta, threshold = neurons.alpha, neurons.beta, neurons.threshold
    synaptic, reset, delayed = neurons.synaptic, neurons.reset, neurons.delayed
    for k in range(len(currents)):
        bit = words.dtype.type(1) << words.dtype.type(first + k)
        if synaptic:
            for j in range(len(words)):
                s[j], v[j], fires = loops.synaptic_at(
                    s[j], v[j], currents[k, j], alpha[j], beta[j], threshold[j], reset, delayed
                )
                words[j] |= bit if fires else words.dtype.type(0)
        else:
            for j in range(len(words)):
                v[j], fires = loops.leaky_at(v[j], currents[k, j], beta[j], threshold[j], reset, delayed)
                words[j] |= bit if fires else words.dtype.type(0)


@njit(cache=True, nogil=True)
def _fire_by_held(sums: Any, steps: int, neurons: Any, words: Any) -> None:
    current = np.empty((1, words.shape[1]), np.float32)
    s, v = np.empty(words.shape[1], np.float32), np.empty(words.shape[1], np.float32)
    for n in range(len(words)):
        s[:] = 0
        v[:] = 0
        loops.currents(sums[n : n + 1], neurons.gain, neurons.constant, current)
        for step in range(steps):
            _advance(current, step, neurons, s, v, words[n])


@njit(cache=True, nogil=True)
def _numbered(trains: Any, known: Any, numbers: Any) -> int:
    """The number of each neuron's train among those that there are, 0 of the silent; how many, or -1 for too many."""
    slots = np.full(_SLOTS, -1, np.int64)
    known[0], slots[0], found = 0, 0, 1
    for place in range(trains.shape[0]):
        for channel in range(trains.shape[1]):
            word = trains[place, channel]
            slot = np.int64((np.uint64(word) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(56))
            while slots[slot] >= 0 and known[slots[slot]] != word:
                slot = (slot + 1) % _SLOTS
            if slots[slot] < 0:
                if found == len(known):
                    return -1
                known[found] = word
                slots[slot] = found
                found += 1
            numbers[place, channel] = slots[slot]
    return found


@njit(cache=True, nogil=True)
def _sum_each(numbers: Any, found: int, reach: Any, order: Any, each: Any) -> None:
    """The sums of the neurons of each number from 1 on; where these are many, one after the other.

    They then stay in the nearest cache.
    """
    weight, width, rows, seen, size = reach
    begins = np.empty(1, np.int64)
    each[size : found * size] = 0
    if found * size * each.itemsize <= _NEAREST:
        for place in range(numbers.shape[0]):
            for channel in range(numbers.shape[1]):
                begins[0] = numbers[place, channel] * size
                if begins[0]:
                    loops.add_neuron(place, channel, weight, width, rows, seen, each, begins, 1)
        return
    behind = np.zeros(found, np.int64)
    for place in range(numbers.shape[0]):
        for channel in range(numbers.shape[1]):
            behind[numbers[place, channel]] += 1
    for k in range(1, found):
        behind[k] += behind[k - 1]
    first = behind[0]
    for place in range(numbers.shape[0] - 1, -1, -1):
        for channel in range(numbers.shape[1] - 1, -1, -1):
            number = numbers[place, channel]
            behind[number] -= 1
            order[behind[number], 0], order[behind[number], 1] = place, channel
    for m in range(first, len(order)):
        place, channel = order[m, 0], order[m, 1]
        begins[0] = numbers[place, channel] * size
        loops.add_neuron(place, channel, weight, width, rows, seen, each, begins, 1)


@njit(cache=True, nogil=True)
def _sum_all(trains: Any, first: int, steps: int, reach: Any, total: Any) -> None:
    """The sums of so many steps, spike by spike."""
    weight, width, rows, seen, size = reach
    begins = np.empty(8 * trains.itemsize, np.int64)
    total[:] = 0
    one, begin = trains.dtype.type(1), trains.dtype.type(first)
    most = ~trains.dtype.type(0) if steps >= 8 * trains.itemsize else (one << trains.dtype.type(steps)) - one
    for place in range(trains.shape[0]):
        for channel in range(trains.shape[1]):
            word = trains[place, channel] >> begin & most
            spikes = 0
            while word:
                begins[spikes] = loops.first_bit(word) * size
                word &= word - one
                spikes += 1
            loops.add_neuron(place, channel, weight, width, rows, seen, total, begins, spikes)


@njit(cache=True, nogil=True)
def _sum_trains(known: Any, first: int, steps: int, size: int, each: Any, total: Any) -> None:
    """The sums of so many steps, of those of the neurons of each train."""
    total[: steps * size] = 0
    for k in range(1, len(known)):
        for step in range(steps):
            if known[k] >> np.uint64(first + step) & np.uint64(1):
                loops.sum_line(total, step * size, total, step * size, each, k * size, size)


@njit(cache=True, nogil=True)
def _fire(
    trains: Any,
    steps: int,
    reach: Any,
    total: Any,
    each: Any,
    pool: Any,
    pooled: Any,
    neurons: Any,
    words: Any,
) -> None:
    rows, columns, kernel, stride, greatest = pool
    size, block = words.shape[1], len(pooled)
    maps, taken = total.reshape(-1, rows, columns, reach.size // (rows * columns)), pooled.reshape(block, size)
    known, numbers = np.empty(_MOST_TRAINS, np.uint64), np.empty(trains.shape[1:], np.int32)
    order = np.empty((numbers.size, 2), np.int32)
    currents, s, v = np.empty((block, size), np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    for n in range(len(words)):
        found = _numbered(trains[n], known, numbers)
        if found >= 0:
            _sum_each(numbers, found, reach, order, each)
        s[:] = 0
        v[:] = 0
        for first in range(0, steps, block):
            count = min(block, steps - first)
            begin = 0 if found >= 0 else first % len(maps)
            if found >= 0:
                _sum_trains(known[:found], first, count, reach.size, each, total)
            elif begin == 0:
                _sum_all(trains[n], first, len(maps), reach, total)
            if greatest:
                loops.greatest(maps[begin : begin + count], kernel, stride, pooled[:count])
            else:
                loops.summed(maps[begin : begin + count], kernel, stride, pooled[:count])
            loops.currents(taken[:count], neurons.gain, neurons.constant, currents[:count])
            _advance(currents[:count], first, neurons, s, v, words[n])
