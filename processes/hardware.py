"""A network in its stock form on a Loihi 2 chip, through Intel's extension of Lava. Never run on one: see the docs.

A chip's runtime is Intel's, so the run is Lava's own and not supervised. Between Processes in Python and those on the
chip stand the adapters of Intel's extension, as in its published examples.
"""

from __future__ import annotations

import importlib

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2HwCfg
from lava.proc.io.sink import RingBuffer as Recorder
from lava.proc.io.source import RingBuffer as Player

from lava_meta.graph import BinaryGraph
from lava_meta.processes.layered_network.process import LayeredNetwork
from lava_meta.stock import latencies, plan


def sums_on_chip(graph: BinaryGraph, pixels: np.ndarray) -> np.ndarray:
    """The readout's sums, int64 (n, classes), of `pixels` (n, n_in), one image a time step."""
    adapters = importlib.import_module("lava.proc.embedded_io.spike")
    delay = latencies(plan(graph))["readout"]
    steps = len(pixels) + delay
    sent = pixels > 0 if graph.signs else pixels
    film = np.concatenate([sent, np.repeat(sent[-1:], delay, axis=0)]).astype(np.int32)
    network = LayeredNetwork(graph=graph, name="network")
    player = Player(data=film.T[None])
    recorder = Recorder(shape=network.out.shape, buffer=steps)
    before = adapters.PyToNxAdapter(shape=network.s_in.shape)
    behind = adapters.NxToPyAdapter(shape=network.out.shape)
    player.s_out.connect(before.inp)
    before.out.connect(network.s_in)
    network.out.connect(behind.inp)
    behind.out.connect(recorder.a_in)
    try:
        network.run(
            condition=RunSteps(num_steps=steps),
            run_cfg=Loihi2HwCfg(select_tag="fixed_pt", select_sub_proc_model=True),
        )
        sums = recorder.data.get()[0].T[delay:]
    finally:
        network.stop()
    return sums.astype(np.int64)
