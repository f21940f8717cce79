"""An acyclic graph in Lava: one Process, the same integers as its reference implementation."""

from __future__ import annotations

import numpy as np
import pytest
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from published_forms import images, made

import lava_meta
from lava_meta.processes.binary_network.process import BinaryNetwork


@pytest.mark.parametrize("form", ["ReAct", "BinaryNet VGG"])
def test_every_node_in_lava(form: str) -> None:
    model, options = made(form)
    net = lava_meta.convert(model, **options)
    levels = images(form, 70, 3)
    expected = net.graph.activations(levels)
    with net:
        found = net.activations(levels, lanes=16)
        assert np.array_equal(net.predict(levels), net.graph.predict(levels))
    assert all(np.array_equal(found[name], values) for name, values in expected.items())


def test_wired_to_other_processes() -> None:
    model, options = made("DenseNet")
    graph = lava_meta.convert(model, **options).graph
    levels = images("DenseNet", 3, 4)
    pixels = Source(data=levels.reshape(3, 1, -1).transpose(1, 2, 0).astype(np.int32))
    network = BinaryNetwork(graph=graph, lanes=1)
    sink = Sink(shape=(1, graph.n_out), buffer=3)
    pixels.s_out.connect(network.s_in)
    network.out.connect(sink.a_in)
    try:
        network.run(RunSteps(3), Loihi2SimCfg(select_tag="floating_pt"))
        found = sink.data.get()
    finally:
        network.stop()
    assert np.array_equal(found[0].T, graph.sums(levels))
