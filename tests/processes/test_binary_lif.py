"""A spiking layer wired to one's own Processes: runs on without a restart, and refuses what are not spikes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("lava.magma")

from lava.magma.core.run_configs import Loihi2SimCfg

from lava_meta.errors import RunError
from lava_meta.graph.bits import pack
from lava_meta.graph.spiking import FloatLIF, LIFLayer
from lava_meta.processes.binary_lif.process import BinaryLIF
from lava_meta.processes.ring import Ring
from lava_meta.processes.runtime import Supervised
from lava_meta.processes.stream.process import Sink, Source

pytestmark = pytest.mark.lava


def layer() -> LIFLayer:
    rng = np.random.default_rng(1)
    return LIFLayer(pack(rng.random((7, 5)) < 0.5), 5, np.full(7, 0.9, np.float32), np.full(7, 1.5, np.float32))


def run(frames: np.ndarray, **options) -> np.ndarray:
    inlet, outlet = Ring(frames.shape[1:], np.int32, len(frames)), Ring((len(frames[0]), 7), np.uint8, len(frames))
    source, neurons, sink = (
        Source(ring=inlet),
        BinaryLIF(layer=layer(), lanes=len(frames[0]), **options),
        Sink(ring=outlet),
    )
    source.s_out.connect(neurons.s_in)
    neurons.s_out.connect(sink.a_in)
    with Supervised(neurons, Loihi2SimCfg(select_tag="floating_pt"), timeout=30) as running:
        for frame in frames:
            inlet.put(frame)
        running.steps(len(frames))
        return np.stack([outlet.get(running.check) for _ in frames])


def test_neurons_run_on_or_start_anew():
    frames = np.random.default_rng(2).integers(0, 2, (12, 3, 5))
    weight = layer().weight.T
    for steps in (None, 5):
        neurons, expected = FloatLIF(layer()), []
        for i, frame in enumerate(frames):
            if steps and i % steps == 0:
                neurons.restart()
            expected.append(neurons.step(frame @ weight))
        assert np.array_equal(run(frames, steps=steps), expected)


@pytest.mark.parametrize("value", [-1, 2])
def test_what_is_not_a_spike_ends_the_run(value):
    with pytest.raises(RunError, match=r"inputs run from .* this layer takes 0 to 1"):
        run(np.full((1, 1, 5), value))


def test_wrong_fields_are_refused():
    good = layer()
    for change, reason in (
        ({"n_in": 70}, "bits are"),
        ({"beta": np.full(7, 1.1, np.float32)}, "beta runs from"),
        ({"beta": np.full(7, 0.9)}, "beta must be finite float32"),
        ({"threshold": np.full(6, 1, np.float32)}, "threshold must be finite"),
        ({"gain": 0.0}, "gain is 0"),
        ({"reset": "hard"}, "reset is 'hard'"),
    ):
        with pytest.raises(ValueError, match=reason):
            LIFLayer(**{**vars(good), **change})
    for options, reason in (({"lanes": 0}, "lanes is 0"), ({"steps": 0}, "steps is 0")):
        with pytest.raises(ValueError, match=reason):
            BinaryLIF(layer=good, **options)
