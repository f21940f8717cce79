"""BiMU and MESU in the training loop."""

from dataclasses import replace

import pytest
import torch

from lava_meta.data import Dataset, load_dataset
from lava_meta.data.scenarios import permuted_tasks
from lava_meta.nn import BayesianMLP, BinaryMLP
from lava_meta.training import TrainSettings, train
from lava_meta.training.methods import MESU, BiMU

DIGITS = load_dataset("digits")
SMALL = Dataset("small", DIGITS.train.take(range(110), "train"), DIGITS.test.take(range(50), "test"))
CASES = [
    ("bernoulli", BiMU(lr=5.0, lr_max=0.02, likelihood=20.0, prior=4.0)),
    ("gaussian", MESU(lr=1.6, lr_deviation=2.0, prior=0.3, clip=0.4)),
]


def net(weights, draws=2):
    return BayesianMLP.for_images(DIGITS.train, [32], weights, draws=draws, seed=0)


@pytest.mark.parametrize(("case", "short", "long"), [(CASES[0], 30.0, 1e3), (CASES[1], 3e3, 1e6)])
def test_old_tasks_decay_with_the_window(case, short, long):
    """The papers' own study of N: a short window forgets the first task, a long one keeps it."""
    weights, method = case
    scenario = permuted_tasks(DIGITS, 2, seed=0)
    settings = TrainSettings(epochs=4, batch_size=20, m=0.0, evaluate="task")
    kept = {}
    for window in (short, long):
        changed = replace(method, window=window)
        values = train(net(weights), scenario, settings, method=changed, progress=False, threads=1).matrix.values
        assert values[1, 0] > 0.75
        kept[window] = values[2, 0]
    assert kept[long] > kept[short] + 0.2


class Stop(Exception):
    pass


@pytest.mark.parametrize(("weights", "method"), CASES)
def test_a_stopped_run_goes_on_to_the_same_result(weights, method, tmp_path):
    class StopsAfter(torch.nn.Module):
        def __init__(self, steps):
            super().__init__()
            self.net, self.steps = net(weights), steps

        def forward(self, x):
            self.steps -= self.training
            if self.steps < 0:
                raise Stop
            return self.net(x)

    def run(model, out, **options):
        settings = TrainSettings(epochs=2, m=0.0)
        return train(model, permuted_tasks(SMALL, 2, 0), settings, out, method=method, progress=False, **options)

    want = run(StopsAfter(10**9), tmp_path / "whole")
    with pytest.raises(Stop):
        run(StopsAfter(10), tmp_path / "stopped")
    assert run(StopsAfter(10**9), tmp_path / "stopped", resume=True).history == want.history
    files = ("checkpoint.safetensors", "metrics.csv", "settings.json")
    assert all((tmp_path / "stopped" / f).read_bytes() == (tmp_path / "whole" / f).read_bytes() for f in files)


def test_names_what_is_wrong():
    with pytest.raises(ValueError, match=r"no BernoulliLinear.*'bernoulli'"):
        BiMU().start(net("gaussian"))
    with pytest.raises(ValueError, match="no GaussianLinear"):
        MESU().start(BinaryMLP((4, 2)))
    with pytest.raises(ValueError, match="lr_max"):
        BiMU(lr_max=0)
    with pytest.raises(ValueError, match="prior"):
        MESU(prior=-1)
