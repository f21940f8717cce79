"""A readout of which only the classes of the task at hand are compared."""

import pytest
import torch
from torch import nn

from lava_meta.data import load_dataset
from lava_meta.data.scenarios import split_classes
from lava_meta.nn import BinaryMLP, TaskBatchNorm, TaskHeads
from lava_meta.training import train

DIGITS = load_dataset("digits")
PAIRS = [(0, 1), (2, 3), (4, 5)]


def test_loss_and_decision_are_those_of_the_classes_of_the_task_alone():
    network = nn.Linear(6, 5)
    x, y = torch.randn(20, 6), torch.tensor([1, 4] * 10)
    model = TaskHeads(network, [(0, 2, 3), (1, 4)])
    model.select_task(1)
    loss = nn.functional.cross_entropy(model(x), y)
    own = network(x)[:, [1, 4]]
    assert torch.equal(loss, nn.functional.cross_entropy(own, (y == 4).long()))
    assert torch.equal(model(x).argmax(1), torch.tensor([1, 4])[own.argmax(1)])
    loss.backward()
    assert network.weight.grad[[0, 2, 3]].abs().max() == 0
    assert network.weight.grad[[1, 4]].abs().min() > 0


def test_norms_inside_follow_the_task():
    model = TaskHeads(nn.Sequential(nn.Linear(3, 4), TaskBatchNorm(4, tasks=2)), [(0, 1), (2, 3)])
    model.select_task(1)
    assert model.network[1].task == 1


def test_training_asks_for_them_and_knowing_the_task_helps():
    scenario = split_classes(DIGITS, PAIRS, head="task")
    network = BinaryMLP.for_images(DIGITS.train, [64], seed=0)
    with pytest.raises(ValueError, match=r"train lava_meta.nn.TaskHeads\(model, scenario.heads\)"):
        train(network, scenario, m=8.0, progress=False)
    model = TaskHeads(network, scenario.heads)
    known = train(model, scenario, m=8.0, epochs=5, evaluate="task", progress=False).matrix
    network = BinaryMLP.for_images(DIGITS.train, [64], seed=0)
    unknown = train(network, split_classes(DIGITS, PAIRS), m=8.0, epochs=5, evaluate="task", progress=False).matrix
    assert known.acc() > 0.8 > unknown.acc() + 0.2


def test_refuses():
    with pytest.raises(ValueError, match="at least one"):
        TaskHeads(nn.Linear(2, 2), [(0,), ()])
    with pytest.raises(ValueError, match=r"the network has classes 0..2, the head of this task \[1, 3\]"):
        TaskHeads(nn.Linear(2, 3), [(1, 3)])(torch.zeros(1, 2))
