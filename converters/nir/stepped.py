"""Spiking networks of any form as NIR, both ways: weights, convolutions, pooling, LIF, CubaLIF, LI, CubaLI, recurrence.

    NIR      tau dv/dt = (v_leak - v) + r I              LIF; a spike if v > v_threshold, after which v is v_reset
             tau_syn dI/dt = -I + w_in S                 CubaLIF has this in front of it
    here     v = beta v + gain x + constant              Leaky, reset "zero" without a delay
             s = alpha s + gain x, v = beta v + s        Synaptic

are equal in a simulation with steps of dt by Euler's method if `tau = dt / (1 - beta)`, `r = gain / (1 - beta)`,
`v_leak = constant / (1 - beta)` and `v_reset = 0`; and `tau_syn = dt / (1 - alpha)`, `w_in = gain / (1 - alpha)`. What
goes around a loop arrives one step later.
"""

from __future__ import annotations

import math
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from lava_meta.converters.lowering.values import compressed
from lava_meta.converters.weights import decompose
from lava_meta.errors import ConversionError
from lava_meta.graph.acyclic import INPUT
from lava_meta.graph.conv import Window
from lava_meta.graph.nodes import MOST, Add, Conv, Gather, Linear, Node, Pool, Threshold, weight_of
from lava_meta.graph.spiking_graph import SteppedGraph
from lava_meta.graph.spiking_neurons import Neurons, Recurrent

WITH_MEMORY = (nir.LIF, nir.CubaLIF, nir.LI, nir.CubaLI)
_SILENT = np.float32(3e38)  # a threshold that no potential reaches: LI and CubaLI never fire


# Writing.


def write_stepped(graph: SteppedGraph, time_step: float) -> nir.NIRGraph:
    """The network as an NIR graph, for steps of `time_step` seconds. Raises `ConversionError` naming a layer."""
    nodes: dict[str, nir.NIRNode] = {INPUT: nir.Input(np.array(graph.input_shape))}
    edges: list[tuple[str, str]] = []
    for name, node in graph.nodes.items():
        edges += [(source, _entry(name, node, graph)) for source in node.sources]
        if isinstance(node, Pool) and _pools_spikes(node, graph):
            shape = graph.placed[name].output_shape
            nodes[_entry(name, node, graph)] = _summing(node)
            nodes[name] = nir.Threshold(np.full(shape, 0.5))
            edges.append((_entry(name, node, graph), name))
        elif isinstance(node, Neurons):
            nodes[name] = _neurons(name, node, graph.placed[name].output_shape, time_step)
            if node.recurrent is not None:
                nodes[f"{name}.back"] = _back(name, node, graph.placed[name].output_shape)
                edges += [(name, f"{name}.back"), (f"{name}.back", name)]
        else:
            nodes[name] = _plain(name, node, graph)
    nodes["output"] = nir.Output(np.array(graph.placed[graph.output].output_shape))
    edges.append((graph.output, "output"))
    metadata = {
        "time_step": time_step,
        "max_level": graph.max_level,
        "min_level": graph.min_level,
        "input_shape": np.array(graph.input_shape),
    }
    return nir.NIRGraph(nodes, edges, metadata=metadata)


def _entry(name: str, node: Node, graph: SteppedGraph) -> str:
    """The NIR node that takes what a node gets."""
    return f"{name}.sum" if isinstance(node, Pool) and _pools_spikes(node, graph) else name


def _pools_spikes(node: Pool, graph: SteppedGraph) -> bool:
    """Whether a node takes the greatest of spikes of 0 and 1: whether their sum reaches 1."""
    (source,) = node.sources
    low, high = (graph.min_level, graph.max_level) if source == INPUT else _ends(graph, source)
    return node.how == "max" and (low, high) == (0, 1) and not any(node.window.after)


def _ends(graph: SteppedGraph, name: str) -> tuple[int, int]:
    return graph.placed[name].low, graph.placed[name].high


def _summing(node: Pool) -> nir.NIRNode:
    window = node.window
    return nir.SumPool2d(
        kernel_size=np.array(window.kernel), stride=np.array(window.stride), padding=np.array(window.padding)
    )


def _plain(name: str, node: Node, graph: SteppedGraph) -> nir.NIRNode:
    (shape, *_) = graph.placed[name].input_shapes
    if isinstance(node, Linear) and len(shape) == 1:
        return nir.Linear(node.weight.values.astype(np.float64))
    if isinstance(node, Conv) and not any(node.window.after):
        weight = node.weight.values.astype(np.float64)
        return _convolution(node, shape, weight, np.zeros(len(weight)))
    if isinstance(node, Pool) and node.how == "sum" and not any(node.window.after):
        return _summing(node)
    if isinstance(node, Threshold) and len(node.limits) == 1 and not node.codes[0].any() and (node.codes[1] == 1).all():
        return nir.Threshold(np.broadcast_to(node.limits[0], shape) - 0.5)
    if isinstance(node, Gather) and node.index is None and len(node.out) == 1:
        return nir.Flatten({"input": np.array(shape)}, start_dim=0)
    kind = f"{node.how} pooling" if isinstance(node, Pool) else node.kind
    raise ConversionError(f"{name} ({kind}) has no node in NIR")


def _convolution(node: Conv, shape: tuple[int, ...], weight: NDArray[Any], bias: NDArray[Any]) -> nir.NIRNode:
    """Of maps of this shape; weights (channels, taps)."""
    window = node.window
    return nir.Conv2d(
        input_shape=(shape[1], shape[2]),
        weight=weight.reshape(len(weight), -1, *window.kernel),
        stride=window.stride,
        padding=window.padding,
        dilation=window.dilation,
        groups=node.groups,
        bias=bias,
    )


def _neurons(name: str, node: Neurons, shape: tuple[int, ...], time_step: float) -> nir.NIRNode:
    if node.model not in ("leaky", "synaptic", "rleaky", "rsynaptic"):
        raise ConversionError(f"{name} ({node.model} neurons) has no node in NIR")
    if node.reset != "zero" or node.reset_delay:
        late = ", one step late" if node.reset_delay else ""
        raise ConversionError(
            f"{name} has the reset {node.reset!r}{late}; NIR's neurons go to v_reset with their spike: train with "
            'reset_mechanism="zero" and reset_delay=False'
        )
    whole = {key: np.broadcast_to(value, shape).astype(np.float64) for key, value in node.constants.items()}
    gain, constant = (np.broadcast_to(part, shape).astype(np.float64) for part in (node.gain, node.constant))
    decays = [whole[key] for key in ("alpha", "beta") if key in whole]
    if any((decay == 1).any() for decay in decays):
        raise ConversionError(f"{name} has an alpha or beta of 1, for which NIR has no time constant")
    if (whole["threshold"] < 0).any():
        raise ConversionError(f"{name} has thresholds below 0, over which a neuron lies after its reset")
    left = 1 - whole["beta"]
    common = {"v_threshold": whole["threshold"], "v_reset": np.zeros(shape)}
    if "alpha" not in whole:
        return nir.LIF(tau=time_step / left, r=gain / left, v_leak=constant / left, **common)
    if constant.any():
        raise ConversionError(f"{name} has a bias in front of its synapses, for which CubaLIF has no field")
    rest = 1 - whole["alpha"]
    return nir.CubaLIF(
        tau_syn=time_step / rest,
        tau_mem=time_step / left,
        r=1 / left,
        v_leak=np.zeros(shape),
        w_in=gain / rest,
        **common,
    )


def _back(name: str, node: Neurons, shape: tuple[int, ...]) -> nir.NIRNode:
    """The way back, in units of the neurons' gain, by which they take all that they get."""
    back = node.recurrent
    assert back is not None
    gain = np.broadcast_to(node.gain, shape).astype(np.float64)
    if not gain.all():
        raise ConversionError(f"{name} has neurons with a gain of 0 and recurrent synapses")
    factor, constant = np.broadcast_to(back.gain, shape) / gain, np.broadcast_to(back.constant, shape) / gain
    if back.node is None:
        return nir.Scale(factor)
    if isinstance(back.node, Conv):
        by_channel, bias = (part.reshape(len(part), -1) for part in (factor, constant))
        if any((part != part[:, :1]).any() for part in (by_channel, bias)):
            raise ConversionError(f"{name} has recurrent convolutions with factors of each place, which NIR has not")
        return _convolution(back.node, shape, back.node.weight.values * by_channel[:, :1], bias[:, 0])
    return nir.Affine(back.node.weight.values * factor[:, None], constant)


# Reading.


def read_stepped(
    graph: nir.NIRGraph,
    time_step: float | None,
    max_level: int | None,
    min_level: int | None,
    input_shape: tuple[int, ...] | None,
) -> SteppedGraph:
    """The network of an NIR graph whose neurons remember. Raises `ConversionError` naming a node."""
    time_step = time_step if time_step is not None else graph.metadata.get("time_step")
    level = max_level if max_level is not None else graph.metadata.get("max_level")
    if time_step is None:
        raise ConversionError("the graph has neurons with memory: pass time_step=, the seconds of a time step")
    if level is None:
        raise ConversionError("the graph does not say what it takes: pass max_level= (1 for spikes, or 255)")
    low = int(graph.metadata.get("min_level", 0) if min_level is None else min_level)
    reader = _Reader(graph, float(time_step), (low, int(level)))
    output = reader.read()
    shape = tuple(int(n) for n in input_shape) if input_shape is not None else reader.enters
    try:
        return SteppedGraph(reader.nodes, output, int(level), shape, low)
    except ValueError as error:
        raise ConversionError(str(error)) from error


class _Value:
    """`gain * x + constant` of a node's integers."""

    def __init__(self, name: str, shape: tuple[int, ...], largest: int) -> None:
        ones = (1,) * len(shape)
        self.name, self.shape, self.largest = name, shape, largest
        self.gain, self.constant = np.ones(ones), np.zeros(ones)

    def plain(self, label: str) -> float:
        """The one gain of all, without a constant."""
        gain = float(self.gain.reshape(-1)[0])
        if (self.gain != gain).any() or self.constant.any():
            raise ConversionError(f"{label} follows values with factors of their own: weights come in front of neurons")
        return gain


class _Reader:
    def __init__(self, graph: nir.NIRGraph, time_step: float, levels: tuple[int, int]) -> None:
        self.graph, self.time_step = graph, time_step
        self.nodes: dict[str, Node] = {}
        self._largest = max(abs(level) for level in levels)
        self._values: dict[str, _Value] = {}
        self.enters: tuple[int, ...] = ()

    def read(self) -> str:
        """All nodes in order; the name of the output."""
        backs = self._ways_back()
        before = {
            name: [a for a, b in self.graph.edges if b == name and (a, b) not in backs] for name in self.graph.nodes
        }
        loops = {node for node, _ in backs}
        done: set[str] = set()
        waiting = [name for name in self.graph.nodes if name not in loops]
        while waiting:
            ready = [name for name in waiting if {*before[name]} - loops <= done]
            if not ready:
                raise ConversionError(f"{', '.join(waiting)} stand in loops other than one layer's with itself")
            for name in ready:
                self._take(name, self.graph.nodes[name], [a for a in before[name] if a not in loops], backs)
                done.add(name)
            waiting = [name for name in waiting if name not in done]
        outputs = [name for name, node in self.graph.nodes.items() if isinstance(node, nir.Output)]
        if len(outputs) != 1:
            raise ConversionError(f"the graph has {len(outputs)} outputs; one is read")
        last = self._values[outputs[0]].name
        if not isinstance(self.nodes.get(last), Neurons):
            raise ConversionError(f"the output follows {last}, which are no neurons")
        return last

    def _ways_back(self) -> dict[tuple[str, str], str]:
        """Edges into neurons of nodes that these feed themselves, and the neurons' names."""
        found = {}
        for a, b in self.graph.edges:
            if isinstance(self.graph.nodes[b], WITH_MEMORY):
                feeds = [source for source, target in self.graph.edges if target == a]
                if feeds == [b]:
                    found[a, b] = b
        return found

    def _take(self, name: str, node: Any, sources: list[str], backs: dict[tuple[str, str], str]) -> None:
        label = f"{name} ({type(node).__name__})"
        if isinstance(node, nir.Input):
            self.enters = tuple(int(n) for n in node.output_type["output"])
            self._values[name] = _Value(INPUT, self.enters, self._largest)
            return
        value = self._joined(label, name, [self._values[source] for source in sources])
        if isinstance(node, nir.Output):
            self._values[name] = value
        elif isinstance(node, WITH_MEMORY):
            back = [self.graph.nodes[a] for a, b in backs if b == name]
            self._values[name] = self._neurons(label, name, node, value, back)
        elif isinstance(node, (nir.Affine, nir.Linear)):
            self._values[name] = self._sums(label, name, value, np.asarray(node.weight, np.float64), node, None)
        elif isinstance(node, nir.Conv2d):
            self._values[name] = self._conv(label, name, node, value)
        elif isinstance(node, (nir.SumPool2d, nir.AvgPool2d)):
            self._values[name] = self._pool(name, node, value)
        elif isinstance(node, nir.Threshold):
            self._values[name] = self._threshold(label, name, node, value)
        elif isinstance(node, nir.Flatten):
            made = _Value(name, (math.prod(value.shape),), value.largest)
            gain, constant = (np.broadcast_to(part, value.shape).reshape(-1) for part in (value.gain, value.constant))
            made.gain, made.constant = compressed(gain), compressed(constant)
            self.nodes[name] = Gather((value.name,), made.shape)
            self._values[name] = made
        elif isinstance(node, nir.Scale):
            value.gain = value.gain * np.asarray(node.scale, np.float64)
            value.constant = value.constant * np.asarray(node.scale, np.float64)
            self._values[name] = value
        else:
            raise ConversionError(f"{label} is not supported in a spiking network")

    def _joined(self, label: str, name: str, values: list[_Value]) -> _Value:
        if not values:
            raise ConversionError(f"{label} takes nothing")
        first = values[0]
        if len(values) > 1:
            gains = {value.plain(label) for value in values}
            if len(gains) > 1 or len({value.shape for value in values}) > 1:
                raise ConversionError(f"{label} joins values of several shapes or factors")
            self.nodes[f"{name}.sum"] = Add(tuple(value.name for value in values))
            made = _Value(f"{name}.sum", first.shape, sum(value.largest for value in values))
            made.gain = first.gain
            return made
        made = _Value(first.name, first.shape, first.largest)
        made.gain, made.constant = first.gain, first.constant
        return made

    def _sums(
        self, label: str, name: str, value: _Value, matrix: NDArray[Any], node: Any, window: Window | None
    ) -> _Value:
        gain = value.plain(label)
        if not np.isfinite(matrix).all():
            raise ConversionError(f"{label} has weights that are not finite")
        made = decompose(matrix, value.largest, MOST // 4)
        units = len(matrix)
        weight = weight_of(made.integers)
        if window is None:
            if len(value.shape) != 1 or value.shape[0] != matrix.shape[1]:
                raise ConversionError(f"{label} has weights for {matrix.shape[1]} inputs, and gets {value.shape}")
            self.nodes[name] = Linear((value.name,), weight)
            shape: tuple[int, ...] = (units,)
        else:
            conv = Conv((value.name,), weight, window, int(node.groups))
            self.nodes[name] = conv
            shape = conv.shape([value.shape])
        found = _Value(name, shape, int(np.abs(made.integers).sum(axis=1).max()) * value.largest)
        by_unit = (units, *(1,) * (len(shape) - 1))
        found.gain = (made.unit.reshape(-1) * gain).reshape(by_unit)
        bias = getattr(node, "bias", None)
        if bias is not None:
            found.constant = np.broadcast_to(np.asarray(bias, np.float64), (units,)).reshape(by_unit).copy()
        return found

    def _conv(self, label: str, name: str, node: Any, value: _Value) -> _Value:
        weight = np.asarray(node.weight, np.float64)
        window = _window(label, node, weight.shape)
        return self._sums(label, name, value, weight.reshape(len(weight), -1), node, window)

    def _pool(self, name: str, node: Any, value: _Value) -> _Value:
        window = Window(_pair(node.kernel_size), _pair(node.stride), _pair(node.padding))
        taps = math.prod(window.kernel)
        pool = Pool((value.name,), window, "sum")
        self.nodes[name] = pool
        made = _Value(name, pool.shape([value.shape]), value.largest * taps)
        share = taps if isinstance(node, nir.AvgPool2d) else 1
        made.gain, made.constant = value.gain / share, value.constant * taps / share
        return made

    def _threshold(self, label: str, name: str, node: Any, value: _Value) -> _Value:
        gain = value.plain(label)
        limits = np.floor(np.broadcast_to(np.asarray(node.threshold, np.float64), value.shape) / gain) + 1
        if gain <= 0 or not np.isfinite(limits).all():
            raise ConversionError(f"{label} needs finite thresholds of values with a positive factor")
        bits = np.stack([np.zeros(value.shape, np.int64), np.ones(value.shape, np.int64)])
        self.nodes[name] = Threshold((value.name,), limits[None].astype(np.int64), bits)
        return _Value(name, value.shape, 1)

    def _neurons(self, label: str, name: str, node: Any, value: _Value, back: list[Any]) -> _Value:
        shape, fires = value.shape, isinstance(node, (nir.LIF, nir.CubaLIF))
        cuba = isinstance(node, (nir.CubaLIF, nir.CubaLI))

        def whole(field: str) -> NDArray[Any]:
            found = np.asarray(getattr(node, field), np.float64)
            if found.size not in (1, math.prod(shape)) or not np.isfinite(found).all():
                raise ConversionError(f"{label} has a {field} of shape {found.shape}, not finite numbers of {shape}")
            return np.broadcast_to(found.reshape(shape) if found.size > 1 else found.reshape((1,) * len(shape)), shape)

        if fires and whole("v_reset").any():
            raise ConversionError(f"{label} has a v_reset that is not 0")
        share = self.time_step / whole("tau_mem" if cuba else "tau")
        if (share <= 0).any() or (share > 1).any():
            raise ConversionError(f"{label} has time constants below the time step of {self.time_step:g} s")
        constants = {"beta": 1 - share}
        drive = whole("r") * share
        if cuba:
            quick = self.time_step / whole("tau_syn")
            if (quick <= 0).any() or (quick > 1).any() or whole("v_leak").any():
                raise ConversionError(f"{label} has a tau_syn below the time step, or a v_leak")
            constants["alpha"] = 1 - quick
            drive = drive * whole("w_in") * quick  # the factor of r on the current, taken in front of it
        gain = value.gain * drive
        constant = value.constant * drive + (0 if cuba else whole("v_leak") * share)
        constants["threshold"] = whole("v_threshold") if fires else np.full(shape, _SILENT, np.float64)
        recurrent = None if not back else self._recurrent(label, back, shape, drive)
        model = ("r" if back else "") + ("synaptic" if cuba else "leaky")
        neurons = Neurons(
            (value.name,),
            model,
            _snapped(compressed(np.broadcast_to(gain, shape))),
            _snapped(compressed(np.broadcast_to(constant, shape))),
            {key: compressed(part.astype(np.float32)) for key, part in constants.items()},
            "zero" if fires else "none",
            not fires or model == "rsynaptic",
            recurrent,
        )
        self.nodes[name] = neurons
        return _Value(name, shape, 1)

    def _recurrent(self, label: str, back: list[Any], shape: tuple[int, ...], drive: NDArray[Any]) -> Recurrent:
        (node,) = back[:1]
        kinds = (nir.Scale, nir.Affine, nir.Linear) if len(shape) == 1 else (nir.Scale, nir.Conv2d)
        if len(back) > 1 or not isinstance(node, kinds):
            known = " or ".join(kind.__name__ for kind in kinds)
            raise ConversionError(f"{label} has recurrent synapses other than one {known} of its own")
        if isinstance(node, nir.Scale):
            gain = np.broadcast_to(np.asarray(node.scale, np.float64) * drive, shape)
            return Recurrent(None, _snapped(compressed(gain)), np.zeros((1,) * len(shape)))
        matrix = np.asarray(node.weight, np.float64)
        made = decompose(matrix.reshape(len(matrix), -1), 1, MOST // 4)
        weight = weight_of(made.integers)
        synapses: Linear | Conv = Linear(("self",), weight)
        if isinstance(node, nir.Conv2d):
            synapses = Conv(("self",), weight, _window(label, node, matrix.shape), int(node.groups))
        by_unit = (-1, *(1,) * (len(shape) - 1))
        bias = np.broadcast_to(np.asarray(getattr(node, "bias", 0.0), np.float64), len(matrix)).reshape(by_unit)
        gain, constant = (np.broadcast_to(part * drive, shape) for part in (made.unit.reshape(by_unit), bias))
        return Recurrent(synapses, _snapped(compressed(gain)), _snapped(compressed(constant)))


def _snapped(values: NDArray[Any]) -> NDArray[Any]:
    """Values as float32 has them, where writing and reading in float64 has rounded these."""
    near = values.astype(np.float32).astype(np.float64)
    return np.where(np.abs(near - values) <= 16 * 2.0**-53 * np.abs(values), near, values)


def _window(label: str, node: Any, shape: tuple[int, ...]) -> Window:
    if isinstance(node.padding, str):
        raise ConversionError(f"{label} has the padding {node.padding!r}: give numbers")
    return Window((shape[2], shape[3]), _pair(node.stride), _pair(node.padding), _pair(node.dilation))


def _pair(numbers: Any) -> tuple[int, int]:
    both = [int(number) for number in np.asarray(numbers).reshape(-1)]
    return (both[0], both[0]) if len(both) == 1 else (both[0], both[1])
