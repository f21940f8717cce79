"""On real MNIST: every hidden sign and every class of all 10,000 test images, for each norm, in Lava.

Runs wherever a data folder is found (tests/conftest.py says where).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lava_meta
from lava_meta.converters.chain.folding import prepare
from lava_meta.converters.parity.chain import model_activations
from lava_meta.errors import DataError
from lava_meta.nn import use_statistics


@pytest.fixture(scope="module")
def mnist() -> lava_meta.Dataset:
    try:
        return lava_meta.load_dataset("mnist")
    except DataError as missing:
        pytest.skip(str(missing))


@pytest.mark.lava
@pytest.mark.parametrize("norm", ["fixed", "batch", "layer"])
def test_all_mnist_test_images_layer_by_layer(norm: str, mnist: lava_meta.Dataset) -> None:
    few = lava_meta.Dataset(mnist.name, mnist.train.take(range(10_000)), mnist.test)
    scenario = lava_meta.permuted_tasks(few, 1, seed=0, first_identity=True)
    options = {"statistics": "stored"} if norm == "batch" else {}
    model = lava_meta.BinaryMLP.for_images(few.train, (512, 512), norm, seed=0, **options)  # type: ignore[arg-type]
    lava_meta.train(model, scenario, lava_meta.TrainSettings(epochs=1, batch_size=100, m=4.0), progress=False)
    use_statistics(model, "stored")
    model.eval()
    net = lava_meta.convert(model)

    with torch.inference_mode():
        expected = model_activations(prepare(model), mnist.test.x.double())
    with net:
        found = net.activations(mnist.test.x, lanes=250)
        classes = net.predict(mnist.test.x, lanes=250)
    mismatches = {name: int((found[name] != expected[name]).sum()) for name in ("hidden1", "hidden2")}
    mismatches["readout"] = int((classes != expected["readout"].argmax(axis=1)).sum())
    assert mismatches == {"hidden1": 0, "hidden2": 0, "readout": 0}
    assert found["hidden1"].shape == (10_000, 512)
    # A network that has learned, not one whose outputs agree because they are constant.
    assert np.mean(classes == mnist.test.y.numpy()) > 0.8
