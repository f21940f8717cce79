"""On real MNIST: all 10,000 test images through stock Processes, layer by layer, for each norm.

Runs wherever a data folder is found, in minutes: `make test-slow`.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("lava.magma")

import lava_meta
from lava_meta.converters import LavaNetwork
from lava_meta.errors import DataError
from lava_meta.nn import use_statistics

pytestmark = [pytest.mark.lava, pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("norm", ["fixed", "batch", "layer"])
def test_all_mnist_test_images_step_for_step(norm: str) -> None:
    try:
        mnist = lava_meta.load_dataset("mnist")
    except DataError as missing:
        pytest.skip(str(missing))
    scenario = lava_meta.permuted_tasks(mnist, 1, seed=0, first_identity=True)
    options = {"statistics": "stored"} if norm == "batch" else {}
    model = lava_meta.BinaryMLP.for_images(mnist.train, (256, 256), norm, seed=0, **options)  # type: ignore[arg-type]
    lava_meta.train(model, scenario, lava_meta.TrainSettings(epochs=1, batch_size=100, m=4.0), progress=False)
    use_statistics(model, "stored")
    net = lava_meta.convert(model.eval())
    expected = net.activations(mnist.test.x, lanes=250)

    stock = LavaNetwork(net.graph, form="stock")
    with stock:
        found = stock.activations(mnist.test.x)
    mismatches = {name: int((found[name] != expected[name]).sum()) for name in expected}
    accuracy = np.mean(net.graph.readout.classes(found["readout"]) == mnist.test.y.numpy())
    print(f"{norm}: {mismatches}, accuracy {100 * accuracy:.2f} %")
    assert mismatches == {"hidden1": 0, "hidden2": 0, "readout": 0}
    assert found["readout"].shape == (10_000, 10)
    assert accuracy > 0.9  # a network that has learned
