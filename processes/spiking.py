"""A spiking network between a source and its sinks: frames in, the spikes of the wanted layers out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from lava.magma.core.run_configs import Loihi2SimCfg

from lava_meta.processes.binary_lif.process import BinaryLIF
from lava_meta.processes.ring import Ring
from lava_meta.processes.runtime import Supervised, loggers_unchanged
from lava_meta.processes.stream.process import Sink, Source
from lava_meta.spiking import SpikingGraph


def stream_spikes(
    graph: SpikingGraph, frames: np.ndarray, lanes: int, names: tuple[str, ...], form: str, timeout: float
) -> Iterator[dict[str, np.ndarray]]:
    """Run `graph` in Lava on `frames` (steps, n, n_in); yield `lanes` inputs at a time, uint8 (steps, count, units).

    The neurons start anew with each batch. Lava's processes start with the first batch and end with the iterator.
    Raises `RunError`, `RunTimeout`.
    """
    steps, total, _ = frames.shape
    inlet = Ring((lanes, graph.n_in), np.int32)
    outlets = {name: Ring((lanes, layer.n_out), np.uint8) for name, layer in graph.named_layers() if name in names}
    with loggers_unchanged():
        source = Source(ring=inlet, name="frames")
        port = source.s_out
        first = {"max_level": graph.max_level, "offset": graph.offset}
        for name, layer in graph.named_layers():
            process = BinaryLIF(layer=layer, lanes=lanes, steps=steps, name=name, **first)
            port.connect(process.s_in)
            if name in outlets:
                process.s_out.connect(Sink(ring=outlets[name], name=f"{name} sink").a_in)
            port, first = process.s_out, {}
    # Every step is awaited by all models, so a channel never holds more than one frame.
    with Supervised(source, Loihi2SimCfg(select_tag=form), timeout, {"pypy_channel_size": 2}) as run:
        starts = range(0, total, lanes)
        moments = [(start, step) for start in starts for step in range(steps)]
        run.start(len(moments))
        sent = 0
        for start in starts:
            parts: dict[str, list[np.ndarray]] = {name: [] for name in outlets}
            for step in range(steps):
                # As many frames are on their way as the rings have slots, so that no ring is ever full.
                now = start // lanes * steps + step
                for begin, moment in moments[sent : now + inlet.slots]:
                    inlet.put(frames[moment, begin : begin + lanes], run.check)
                    sent += 1
                for name, ring in outlets.items():
                    parts[name].append(ring.get(run.check)[: total - start])
            yield {name: np.stack(part) for name, part in parts.items()}
        run.wait()
