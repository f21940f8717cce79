"""A converted network between a source and its sinks: batches of pixels in, integers of the wanted layers out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.run_configs import Loihi2SimCfg

from lava_meta.graph import AcyclicGraph, Graph
from lava_meta.graph.packed.compiled import output_types
from lava_meta.io.memory import require_memory
from lava_meta.loihi.stock import latencies, plan
from lava_meta.loihi.stock.acyclic import map_acyclic
from lava_meta.processes.binary_network.process import StreamedNetwork
from lava_meta.processes.layered_network.process import LayeredNetwork
from lava_meta.processes.ring import Ring
from lava_meta.processes.runtime import Supervised, loggers_unchanged
from lava_meta.processes.stock_network.process import StockNetwork
from lava_meta.processes.stream.process import PixelSource, Sink, Source

# The most that travels in one message of the packed form, where a time step is not more by itself:
MESSAGE_BYTES = 2**18  # larger arrays are new memory each time, whose first touch costs more than to fill it
MESSAGE_OPERATIONS = 2**29  # about a millisecond, many times what waking an actor costs


class StreamingRun:
    """Lava's processes for one `graph`, running from `start` to `close`, through which any number of sets can pass.

    `names` are the layers whose output is wanted (`hidden1`, ..., `readout`, or
    nodes by name). Form `packed` computes on packed bits in
    one actor, from ring to ring; in the forms `floating_pt` and `fixed_pt` each layer is a Process of its own, between
    a source and sinks; in the form `stock` each is made of stock Processes, and `lanes` is 1.
    """

    def __init__(self, graph: Graph, lanes: int, names: tuple[str, ...], form: str, timeout: float) -> None:
        stock = form == "stock"
        if stock and lanes != 1:
            raise ValueError(f"lanes is {lanes}; stock Processes take one image a time step")
        self.lanes = lanes
        self.names = names
        # How many time steps after its image each layer answers.
        delays = latencies(plan(graph)) if stock else {}
        self._delays = {name: delays.get(name, 0) for name in names}
        self._spikes = {name for name in names if stock and name != "readout"}  # sent instead of signs or levels
        self._coded = map_acyclic(graph).coded if stock and isinstance(graph, AcyclicGraph) else {}
        self._takes_spikes = stock and graph.signs
        units = {name: layer.n_out for name, layer in graph.named_layers()}
        units |= {name: coded.step.size for name, coded in self._coded.items()}
        types = output_types(graph)
        pixels = graph.dtype if form == "packed" or graph.dtype == np.uint8 else np.dtype(np.int32)
        self._rows = lanes * (_steps_a_message(graph, lanes) if form == "packed" else 1)
        _check_memory(graph, self._rows, [units[name] for name in names], form)
        self._inlet = Ring((self._rows, graph.n_in), pixels)
        self._outlets = {
            # A stock neuron's spike may be any value above 0.
            name: Ring((self._rows, units[name]), np.int32 if stock and name != "readout" else types[name])
            for name in names
        }
        with loggers_unchanged():
            if form == "packed":
                network: AbstractProcess = StreamedNetwork(
                    graph=graph, lanes=lanes, inlet=self._inlet, outlets=self._outlets, name="network"
                )
            else:
                network = self._layered(graph, stock=stock)
        # Every step is awaited by all models, so a channel never holds more than one batch.
        tag = "fixed_pt" if form in ("fixed_pt", "stock") else "floating_pt"
        config = Loihi2SimCfg(select_tag=tag, select_sub_proc_model=stock)
        self._run = Supervised(network, config, timeout, {"pypy_channel_size": 2})

    def _layered(self, graph: Graph, *, stock: bool) -> LayeredNetwork | StockNetwork:
        """The layers, with a source before them and a sink behind each wanted one."""
        if stock and isinstance(graph, AcyclicGraph):
            network: LayeredNetwork | StockNetwork = StockNetwork(graph=graph, name="network")
        else:
            network = LayeredNetwork(graph=graph, lanes=self.lanes, name="network")
        kind = PixelSource if self._inlet.dtype == np.uint8 else Source
        kind(ring=self._inlet, name="pixels").s_out.connect(network.s_in)
        for name, ring in self._outlets.items():
            network.port(name).connect(Sink(ring=ring, name=f"{name} sink").a_in)
        return network

    def start(self) -> None:
        """Compile and start. Raises `RunError`."""
        self._run.__enter__()

    def close(self) -> None:
        """End all actors. Repeatable."""
        self._run.close()

    def stream(self, pixels: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
        """Send `pixels` (n, n_in) through and yield, message by message, (count, units) of every wanted layer.

        A reader that does not read to the end must `close` the run. Raises `RunError`, `RunTimeout`.
        """
        delay = max(self._delays.values())
        self._run.start(-(-len(pixels) // self.lanes) + delay)
        last = -(-len(pixels) // self._rows) - 1
        messages = last + 1 + delay
        sent = 0
        early: dict[str, deque[np.ndarray]] = {name: deque() for name in self.names}
        for number in range(messages):
            # As many messages are on their way as the rings have slots, so that no ring is ever full.
            while sent < min(messages, number + self._inlet.slots):
                start = min(sent, last) * self._rows  # the last one again while its answer is on its way
                self._inlet.put(self._as_taken(pixels[start : start + self._rows]), self._run.check)
                sent += 1
            for name, ring in self._outlets.items():
                array = ring.get(self._run.check)
                if number >= self._delays[name]:
                    early[name].append(array)
            if number >= delay:
                count = min(self._rows, len(pixels) - (number - delay) * self._rows)
                yield {name: self._as_values(name, early[name].popleft()[:count]) for name in self.names}
        self._run.wait()

    def _as_taken(self, pixels: np.ndarray) -> np.ndarray:
        return pixels > 0 if self._takes_spikes else pixels

    def _as_values(self, name: str, array: np.ndarray) -> np.ndarray:
        if name in self._coded:
            return self._coded[name].values(array)
        return np.where(array > 0, 1, -1).astype(np.int8) if name in self._spikes else array


def _check_memory(graph: Graph, rows: int, outputs: list[int], form: str) -> None:
    """Raises `TooLargeError` if the rings and the weights of this form do not fit."""
    layers = [layer for _, layer in graph.named_layers()]
    synapses = sum(row["synapses"] for row in graph.summary())
    # Packed bits once more as the kernels have them; else a weight is 4 bytes, and a bit on its way to them.
    weights = sum(row["bits"] for row in graph.summary()) // 8 if form == "packed" else 5 * synapses
    widest = max(layer.n_in + layer.n_out for layer in layers)
    rings = 4 * rows * (4 * graph.n_in + 4 * sum(outputs)) + 8 * min(rows, 256) * widest
    require_memory(
        weights + rings, f"Running this network with {rows} images at a time", "take fewer lanes, or a smaller network"
    )


def _steps_a_message(graph: Graph, lanes: int) -> int:
    """How many time steps' images travel together, so that waking an actor costs little beside computing them."""
    operations = sum(row["operations"] for row in graph.summary())
    widest = max(2 * graph.n_in, 8 * graph.n_out, *(layer.n_out for _, layer in graph.named_layers()))
    return max(1, min(MESSAGE_OPERATIONS // max(1, operations), MESSAGE_BYTES // widest) // lanes)
