"""A spiking network between a source and its sinks: frames in, the spikes of the wanted layers out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from lava.magma.core.run_configs import Loihi2SimCfg

from lava_meta.graph.spiking import SpikingGraph
from lava_meta.graph.spiking_graph import SteppedGraph
from lava_meta.io.memory import require_memory
from lava_meta.loihi.stock import latencies
from lava_meta.loihi.stock.stepped import period
from lava_meta.processes.binary_lif.process import BinaryLIF
from lava_meta.processes.ring import Ring
from lava_meta.processes.runtime import Supervised, loggers_unchanged
from lava_meta.processes.spiking_network.process import StreamedSpikes
from lava_meta.processes.stock_network.process import StockNetwork
from lava_meta.processes.stream.process import Sink, Source


def stream_spikes(
    graph: SpikingGraph | SteppedGraph,
    frames: np.ndarray,
    lanes: int,
    names: tuple[str, ...],
    form: str,
    timeout: float,
) -> Iterator[dict[str, np.ndarray]]:
    """Run `graph`, a Process per layer, on `frames` (steps, n, n_in); yield uint8 (steps, lanes, units) by layer.

    The neurons start again with each batch. Lava's processes start with the first batch and end with the iterator.
    In the form `stock`, `lanes` is 1; a `SteppedGraph` has this form here alone. Raises `RunError`, `RunTimeout`.
    """
    steps, total, _ = frames.shape
    stock = form == "stock"
    inlet = Ring((lanes, graph.n_in), np.int32)
    outlets = {name: Ring((lanes, layer.n_out), np.uint8) for name, layer in graph.named_layers() if name in names}
    if isinstance(graph, SteppedGraph):
        source, delays, every = _wired_stock(graph, inlet, outlets, steps)
    else:
        source, every = _wired(graph, inlet, outlets, steps, stock=stock), steps
        # A stock layer answers one time step after its input.
        delays = {name: i if stock else 0 for i, (name, _) in enumerate(graph.named_layers(), 1)}
    delay = max(delays[name] for name in names)
    # Every step is awaited by all models, so a channel never holds more than one frame.
    config = Loihi2SimCfg(select_tag="fixed_pt" if stock else form, select_sub_proc_model=stock)
    with Supervised(source, config, timeout, {"pypy_channel_size": 2}) as run:
        moments = [(start, min(step, steps - 1)) for start in range(0, total, lanes) for step in range(every)]
        moments += moments[-1:] * delay  # what enters while the last answers are on their way does not matter
        run.start(len(moments))
        sent = 0
        spikes: dict[str, list[np.ndarray]] = {name: [] for name in outlets}
        for now in range(len(moments)):
            # As many frames are on their way as the rings have slots, so that no ring is ever full.
            while sent < min(len(moments), now + inlet.slots):
                begin, moment = moments[sent]
                inlet.put(frames[moment, begin : begin + lanes], run.check)
                sent += 1
            for name, ring in outlets.items():
                answer = ring.get(run.check)
                if now >= delays[name]:
                    spikes[name].append(answer)
            answered = now - delay + 1
            if answered > 0 and answered % every == 0:
                count = total - (answered // every - 1) * lanes
                yield {name: np.stack(answers[:steps])[:, :count] for name, answers in spikes.items()}
                spikes = {name: answers[every:] for name, answers in spikes.items()}
        run.wait()


def stream_stepped(
    graph: SteppedGraph,
    frames: np.ndarray,
    steps: int | None,
    lanes: int,
    names: tuple[str, ...],
    form: str,
    timeout: float,
) -> Iterator[dict[str, np.ndarray]]:
    """Run `graph` in Lava on `frames` (frames, n, n_in), or on one held for `steps`; yield `lanes` inputs at once.

    `names` are layers, for their spikes uint8 (steps, count, units), or "layer.mem", for their potentials, float32.
    Lava's process starts with the first batch and ends with the iterator. Raises `RunError`, `RunTimeout`.
    """
    count, total, n_in = frames.shape
    length = count if steps is None else steps
    units = {name: graph.placed[name.removesuffix(".mem")].n_out for name in names}
    outputs = lanes * length * sum(units.values()) * 5
    require_memory(
        4 * (lanes * count * n_in + outputs), f"{lanes} inputs of {length} steps at once", "take fewer lanes"
    )
    inlet = Ring((lanes, count, n_in), frames.dtype)
    outlets = {
        name: Ring((lanes, length, units[name]), np.float32 if name.endswith(".mem") else np.uint8) for name in names
    }
    with loggers_unchanged():
        network = StreamedSpikes(graph=graph, form=form, steps=length, inlet=inlet, outlets=outlets, name="network")
    starts = range(0, total, lanes)
    with Supervised(network, Loihi2SimCfg(), timeout, {"pypy_channel_size": 2}) as run:
        run.start(len(starts))
        sent = 0
        for number in range(len(starts)):
            while sent < min(len(starts), number + inlet.slots):
                part = frames[:, starts[sent] : starts[sent] + lanes]
                inlet.put(np.ascontiguousarray(part.swapaxes(0, 1)), run.check)
                sent += 1
            yield {name: ring.get(run.check).swapaxes(0, 1) for name, ring in outlets.items()}
        run.wait()


def _wired(graph: SpikingGraph, inlet: Ring, outlets: dict[str, Ring], steps: int, *, stock: bool) -> Source:
    """The layers' Processes between a source and the sinks of the wanted ones; the source stands for all of them."""
    lanes = inlet.shape[0]
    with loggers_unchanged():
        source = Source(ring=inlet, name="frames")
        port = source.s_out
        first = {"max_level": graph.max_level, "offset": graph.offset}
        for i, (name, layer) in enumerate(graph.named_layers()):
            process = BinaryLIF(layer=layer, lanes=lanes, steps=steps, delay=i if stock else 0, name=name, **first)
            port.connect(process.s_in)
            if name in outlets:
                process.s_out.connect(Sink(ring=outlets[name], name=f"{name} sink").a_in)
            port, first = process.s_out, {}
    return source


def _wired_stock(
    graph: SteppedGraph, inlet: Ring, outlets: dict[str, Ring], steps: int
) -> tuple[Source, dict[str, int], int]:
    """Stock Processes likewise; after how many time steps each layer answers, and how many there are for an input."""
    with loggers_unchanged():
        source = Source(ring=inlet, name="frames")
        network = StockNetwork(graph=graph, steps=steps, name="network")
        source.s_out.connect(network.s_in)
        for name, ring in outlets.items():
            network.port(name).connect(Sink(ring=ring, name=f"{name} sink").a_in)
    return source, latencies(network.layers), period(graph, steps)
