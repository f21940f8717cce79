"""Learning networks wired by hand: three layers, an encoder of one's own in front, and parts that break."""

from __future__ import annotations

from itertools import pairwise

import lava_toys as toys
import numpy as np
import pytest
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.source import RingBuffer

from lava_meta.converters.online import online
from lava_meta.errors import ConversionError, RunError
from lava_meta.online_learning import LayerSettings, OnlineRule
from lava_meta.online_learning.backend import LocalEngine
from lava_meta.online_learning.network import PlasticNetwork
from lava_meta.online_learning.reference import STATE, initial_state
from lava_meta.processes.error_neurons.process import ErrorNeurons
from lava_meta.processes.labelled_source.process import LabelledSource
from lava_meta.processes.metaplastic_dense.process import MetaplasticDense
from lava_meta.processes.metaplastic_network.process import MetaplasticNetwork
from lava_meta.processes.runtime import Supervised, loggers_unchanged
from lava_meta.processes.shared_memory import shared_array

pytestmark = pytest.mark.lava
RULE = OnlineRule(lr=0.05)
SIZES = (12, 8, 6, 3)


def layer_settings() -> list[LayerSettings]:
    widths = list(pairwise(SIZES))
    return [
        LayerSettings(n_in, n_out, i == len(widths) - 1, rule=RULE, seed=i, input_mean=0.0 if i else 0.4)
        for i, (n_in, n_out) in enumerate(widths)
    ]


def states_of(settings: list[LayerSettings]) -> list[dict[str, np.ndarray]]:
    return [initial_state(s, np.random.default_rng(s.seed)) for s in settings]


def shared_states(settings: list[LayerSettings]) -> list[dict[str, np.ndarray]]:
    shared = []
    for state in states_of(settings):
        shared.append({name: shared_array(state[name].shape, state[name].dtype) for name in STATE})
        for name in STATE:
            shared[-1][name][:] = state[name]
    return shared


def grey(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 200, (n, SIZES[0])).astype(np.int16), generator.integers(0, SIZES[-1], n)


def network(trouble: str = "", at: int = 0) -> tuple[ErrorNeurons, list[dict[str, np.ndarray]]]:
    """Grey images, the user's encoder, three layers and errors; the states, in memory that outlives a failure."""
    settings = layer_settings()
    shared = shared_states(settings)
    images, labels = grey(60)
    with loggers_unchanged():
        source, error = LabelledSource(images=images, labels=labels), ErrorNeurons(classes=3, inputs=6)
        encoder = toys.BrighterThanMean(SIZES[0], trouble, at, name="encoder")
        layers = [MetaplasticDense(settings=s, shared=state) for s, state in zip(settings, shared, strict=True)]
    source.s_out.connect(encoder.a_in)
    out = encoder.s_out
    for layer in layers:
        out.connect(layer.s_in)
        out = layer.s_out
    out.connect(error.s_in)
    source.label_out.connect(error.label_in)
    error.e_out.connect(layers[2].e_in)
    layers[2].e_out.connect(layers[1].e_in)
    layers[1].e_out.connect(layers[0].e_in)
    return error, shared


def reference(count: int) -> list[dict[str, np.ndarray]]:
    """The states after `count` of the same images, encoded in numpy."""
    images, labels = grey(60)
    spikes = (images > images.mean(axis=1, keepdims=True)).astype(np.int8)
    states = states_of(layer_settings())
    LocalEngine(PlasticNetwork(layer_settings(), states, [None, None])).learn(spikes[:count], labels[:count])
    return states


def assert_same(first: list[dict[str, np.ndarray]], second: list[dict[str, np.ndarray]]) -> None:
    for a, b in zip(first, second, strict=True):
        for name in STATE:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_three_layers_behind_an_encoder_of_ones_own_equal_the_twin_to_the_bit(nothing_left) -> None:
    error, shared = network()
    with Supervised(error, Loihi2SimCfg(select_tag="fixed_pt")) as run:
        run.steps(60)
    assert_same(shared, reference(60))


@pytest.mark.parametrize("trouble", ["raise before", "exit"])
def test_an_encoder_that_breaks_ends_the_run_and_what_was_learned_is_kept(trouble, nothing_left) -> None:
    error, shared = network(trouble, at=31)
    with Supervised(error, Loihi2SimCfg(select_tag="fixed_pt")) as run:
        run.steps(20)
        assert_same(shared, reference(20))
        with pytest.raises(RunError, match="encoder"):
            run.steps(40)
    assert_same(shared, reference(30))


def test_an_error_that_is_not_a_number_ends_the_run_with_its_layer(nothing_left) -> None:
    errors = np.zeros((1, 3, 5))
    errors[0, 1, 3] = np.nan
    with loggers_unchanged():
        layer = MetaplasticDense(settings=LayerSettings(4, 3, True, "float"))
        RingBuffer(data=np.ones((1, 4, 5), int)).s_out.connect(layer.s_in)
        RingBuffer(data=errors).s_out.connect(layer.e_in)
    with (
        pytest.raises(RunError, match="error of the readout is not a finite number after 3 images"),
        Supervised(layer, Loihi2SimCfg(select_tag="floating_pt")) as run,
    ):
        run.steps(5)


def test_a_network_in_one_process_says_that_its_images_are_exhausted(nothing_left) -> None:
    settings = [LayerSettings(4, 2, True)]
    images, labels, progress = (
        shared_array((6, 4), np.int32),
        shared_array((6,), np.int32),
        shared_array((2,), np.int64),
    )
    with loggers_unchanged():
        process = MetaplasticNetwork(
            network=PlasticNetwork(settings, shared_states(settings), []),
            images=images,
            labels=labels,
            progress=progress,
            lanes=2,
        )
    with Supervised(process, Loihi2SimCfg(select_tag="fixed_pt")) as run:
        run.steps(3)
        assert progress.tolist()[0] == 6
        with pytest.raises(RunError, match="there are 6 images, and step 4 wants 8"):
            run.steps(1)


def test_weights_and_feedback_that_are_not_binary_are_refused() -> None:
    from torch import nn

    from lava_meta.nn import Pixels, Sign

    with pytest.raises(ConversionError, match=r"On-line learning takes chains of binary layers.*\(linear\)"):
        online(nn.Sequential(Pixels(), nn.Linear(12, 8), Sign(), nn.Linear(8, 3)).eval())
    with pytest.raises(ValueError, match="other than -1, 0 and 1"):
        MetaplasticDense(settings=LayerSettings(4, 3), feedback=np.full((2, 3), 0.5))
