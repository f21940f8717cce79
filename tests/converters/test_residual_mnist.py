"""A trained residual network on real MNIST: all 10,000 test images in Lava, every class, with binary and real ends.

Runs wherever a data folder is found, in minutes: `make test-slow`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("lava.magma")

import lava_meta
from lava_meta.data.scenarios import dataset_sequence
from lava_meta.errors import DataError
from lava_meta.experiments.common.experiment import find
from lava_meta.experiments.residual import ResidualSettings, conv_network
from lava_meta.nn import use_statistics

pytestmark = [pytest.mark.lava, pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("ends", ["binary", "real"])
def test_all_mnist_test_images(ends: str) -> None:
    try:
        mnist = lava_meta.load_dataset("mnist")
    except DataError as missing:
        pytest.skip(str(missing))
    settings: ResidualSettings = replace(find("residual_usps").scales["medium"], ends=(ends,), statistics="stored")
    scenario = dataset_sequence([mnist])
    model = conv_network(settings, scenario, seed=0)
    lava_meta.train(model, scenario, lava_meta.TrainSettings(epochs=1, batch_size=100, m=20.0), progress=False)
    use_statistics(model, "stored")
    net = lava_meta.convert(model.eval(), input_shape=(1, 28, 28))
    assert net.parity.exact
    with torch.no_grad():
        double = [model.double()(part.double()).argmax(1).numpy() for part in mnist.test.x.split(500)]
    with net:
        classes = net.predict(mnist.test.x, lanes=50)
    reference = net.graph.predict(mnist.test.x)
    equal = int((classes == np.concatenate(double)).sum())
    accuracy = np.mean(classes == mnist.test.y.numpy())
    print(
        f"{ends} ends: accuracy {100 * accuracy:.2f} %; {equal} equal classes; ties of the self-check {net.parity.ties}"
    )
    assert len(classes) == 10_000
    assert np.array_equal(classes, reference)
    assert equal == 10_000
    assert accuracy > 0.9
