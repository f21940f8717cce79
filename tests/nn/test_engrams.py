"""Units that each task draws: what learns, what is kept, and what is deployed."""

import numpy as np
import pytest
import torch

import lava_meta
from lava_meta.data import load_dataset
from lava_meta.data.scenarios import permuted_tasks
from lava_meta.nn import BinaryMLP, Engrams, select_task
from lava_meta.training import train
from lava_meta.training.model_file import load_model, save_model

DIGITS = load_dataset("digits")


def network(activation: str = "sign", norm: str = "fixed") -> BinaryMLP:
    return BinaryMLP.for_images(DIGITS.train, [60, 60], norm, activation=activation, engrams=0.4, seed=0)


def test_each_task_draws_its_own_share():
    module = Engrams(20_000, 0.3, seed=5)
    masks = []
    for task in (0, 1, 1000):
        module.select_task(task)
        masks.append(module.mask.clone())
    for mask in masks:
        assert abs(mask.float().mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 20_000)
    assert abs((masks[0] & masks[1]).float().mean() - 0.09) < 5 * np.sqrt(0.09 * 0.91 / 20_000)
    module.select_task(1)
    assert torch.equal(module.mask, masks[1])
    assert torch.equal(Engrams(20_000, 0.3, seed=5).mask, masks[0])
    assert Engrams(7, 1e-6, seed=0).mask.sum() == 1


def test_synapses_outside_the_engram_are_not_touched():
    model = network()
    before = [layer.weight.detach().clone() for layer in model.binary_layers().values()]
    train(model, permuted_tasks(DIGITS, 1, 0), m=0.0, epochs=1, weight_decay=0.0, progress=False)
    first, second = (module.mask for module in model if isinstance(module, Engrams))
    changed = [layer.weight != old for layer, old in zip(model.binary_layers().values(), before, strict=True)]
    assert not changed[0][~first].any()
    assert not changed[1][~second].any()
    assert not changed[1][:, ~first].any()
    assert not changed[2][:, ~second].any()
    assert changed[2][:, second].any(0).all()


@pytest.mark.parametrize(("activation", "norm"), [("sign", "fixed"), ("abs_step", "layer")])
def test_the_network_of_each_task_converts(activation, norm, tmp_path):
    model = network(activation, norm).eval()
    path = tmp_path / "model.safetensors"
    select_task(model, 2)
    save_model(model, path)
    images = DIGITS.test.x[:200]
    answers = []
    for task in (0, 2):
        select_task(model, task)
        net = lava_meta.convert(model, task=task)
        assert not any(net.parity.mismatches.values())
        with torch.no_grad():
            expected = model.double()(images.double()).argmax(1)
        model.float()
        assert np.array_equal(net.graph.predict(images.numpy()), expected)
        answers.append(expected)
    assert not torch.equal(*answers)
    again = load_model(path).eval()
    with torch.no_grad():
        assert torch.equal(again(images).argmax(1), answers[1])


def test_keeps_more_than_all_units_for_all_tasks():
    tasks = permuted_tasks(DIGITS, 3, 0)
    options = {"m": 0.0, "epochs": 4, "batch_size": 50, "lr": 0.0025, "evaluate": "task", "progress": False}
    shared = BinaryMLP.for_images(DIGITS.train, [256], seed=0)
    own = BinaryMLP.for_images(DIGITS.train, [256], engrams=0.3, seed=0)
    assert train(own, tasks, **options).matrix.acc() > train(shared, tasks, **options).matrix.acc() + 0.1


def test_refuses():
    with pytest.raises(ValueError, match="units is 0"):
        Engrams(0)
    with pytest.raises(ValueError, match=r"share is 0; it must lie in \(0, 1\]"):
        Engrams(4, 0)
    with pytest.raises(ValueError, match="counted from 0"):
        Engrams(4).select_task(-1)
    with pytest.raises(ValueError, match=r"share is 1\.5"):
        BinaryMLP((4, 3, 2), engrams=1.5)
