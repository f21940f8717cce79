"""The proposed metaplasticity: its equation, against measured sweeps, and as the default of training."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lava_meta import propose_m
from lava_meta.data import Dataset, load_dataset
from lava_meta.data.scenarios import all_together, permuted_tasks, split_classes, stream_of_subsets
from lava_meta.nn import BinaryConvNet, BinaryMLP
from lava_meta.rule import Linear
from lava_meta.training import TrainSettings, train
from lava_meta.training.proposal import has_convolutions, has_new_classes, norm_of

DIGITS = load_dataset("digits")
FEW = Dataset("few", DIGITS.train.take(range(100)), DIGITS.test.take(range(50)))


def test_the_equation():
    assert propose_m(steps=290, lr=0.005, tasks=3) == pytest.approx(60 * 4.35**-0.8, rel=0.05) == 19.0
    assert propose_m(290, 0.005, 3) == propose_m(870, 0.005)
    assert propose_m(1, 1e-6) == 60.0
    assert propose_m(np.int64(290), np.float32(0.005), 3) == 19.0
    assert propose_m(290, 0.005, 3, norm="layer") == 19.0
    assert (
        propose_m(480, 0.005, 2) == propose_m(480, 0.005, 2, norm="layer") == pytest.approx(52 * 4.8**-0.45, rel=0.05)
    )
    assert propose_m(192, 0.005, 2, convolutions=True) == pytest.approx(36 * 1.92**-0.8, rel=0.05)
    assert propose_m(192, 0.005, 2, norm="batch", convolutions=True) == propose_m(384, 0.005, norm="batch")
    assert propose_m(480, 0.005, 2, norm="batch") == propose_m(960, 0.005, norm="batch")
    assert propose_m(1150, 0.005, norm="batch") == pytest.approx(60 * 5.75**-0.55, rel=0.05)
    assert propose_m(230, 0.005, norm="batch", new_classes=True) == pytest.approx(105 * 1.15**-0.57, rel=0.05)


# Best m of sweeps on held-out images: steps per task, lr, tasks, best m (docs/results/rules.md, docs/results/paper.md).
@pytest.mark.parametrize(
    ("steps", "lr", "tasks", "best"),
    [
        (115, 0.005, 3, 42),  # digits
        (230, 0.005, 10, 8.4),
        (460, 0.00125, 5, 25),
        (920, 0.0025, 2, 34),
        (201, 0.005, 5, 12),  # MNIST, 20,000 images
        (603, 0.0025, 3, 18),
        (480, 0.005, 2, 26),  # MNIST, then Fashion-MNIST, 20,000 images each
        (1620, 0.005, 3, 6),  # MNIST, all images
        (1620, 0.0025, 3, 10),
        (1620, 0.00125, 10, 6),
        (12000, 0.00025, 3, 7),
    ],
)
def test_it_lies_where_sweeps_found_the_best(steps, lr, tasks, best):
    assert 0.65 <= best / propose_m(steps, lr, tasks) <= 2.0


# With batch norm, and of classes one after the other: steps of all tasks, lr, best m (docs/results/rules.md).
@pytest.mark.parametrize(
    ("steps", "lr", "options", "best"),
    [
        (1150, 0.005, {"norm": "batch"}, 30),  # digits, 5 permuted tasks
        (1440, 0.005, {"norm": "batch"}, 13),  # MNIST, 3 permuted tasks
        (144000, 0.005, {"norm": "batch"}, 1.35),  # the paper's
        (1160, 0.005, {"new_classes": True}, 40),  # digits, 5 and 5 classes
        (232, 0.005, {"new_classes": True}, 100),
        (240, 0.0025, {"new_classes": True}, 170),
        (230, 0.005, {"new_classes": True, "norm": "batch"}, 90),
    ],
)
def test_it_lies_there_with_other_norms_and_new_classes_too(steps, lr, options, best):
    assert 0.65 <= best / propose_m(steps, lr, **options) <= 2.0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((0, 0.005), "steps is 0"),
        ((2.5, 0.005), r"steps is 2\.5"),
        ((True, 0.005), "steps is True"),
        ((10, 0.0), r"lr is 0\.0"),
        ((10, float("nan")), "lr is nan"),
        ((10, float("inf")), "lr is inf"),
        ((10, 0.005, 0), "tasks is 0"),
    ],
)
def test_names_what_is_out_of_range(arguments, says):
    with pytest.raises(ValueError, match=says):
        propose_m(*arguments)


def test_norms_that_are_known():
    with pytest.raises(ValueError, match="norm is 'group'; choose one of 'fixed', 'layer', 'batch'"):
        propose_m(10, 0.005, norm="group")


@pytest.mark.parametrize(
    ("module", "norm"),
    [
        (BinaryMLP([4, 3, 2]), "fixed"),
        (BinaryMLP([4, 3, 2], "layer"), "fixed"),
        (BinaryMLP([4, 3, 2], "batch"), "batch"),
        (torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)), "batch"),
    ],
)
def test_the_norm_of_a_model(module, norm):
    assert norm_of(module) == norm


def test_convolutions_of_a_model():
    assert has_convolutions(BinaryConvNet((1, 8, 8), [2], 2))
    assert has_convolutions(torch.nn.Conv1d(1, 1, 3))
    assert not has_convolutions(BinaryMLP([4, 3, 2]))


def test_new_classes_are_those_that_no_other_task_has_and_that_are_compared_with_theirs():
    groups = ((0, 1, 2), (3, 4), (5, 6))
    assert has_new_classes(split_classes(FEW, groups))
    assert not has_new_classes(split_classes(FEW, groups, head="task"))
    assert not has_new_classes(permuted_tasks(FEW, 2, 0))
    assert not has_new_classes(stream_of_subsets(FEW, 3, 0))


class TestDefault:
    def test_counts_the_steps_of_every_part(self):
        settings = TrainSettings(epochs=4, batch_size=30)
        assert settings.m is None
        assert settings.for_scenario(permuted_tasks(FEW, 2, 0)).m == propose_m(4 * 4, settings.lr, 2)
        assert settings.for_scenario(stream_of_subsets(FEW, 3, 0)).m == propose_m(4 * (2 + 2 + 2), settings.lr)
        together = all_together(permuted_tasks(FEW, 2, 0))  # one task, and two tests
        assert settings.for_scenario(together).m == propose_m(4 * 7, settings.lr)

    def test_what_was_chosen_stays(self):
        scenario = permuted_tasks(FEW, 2, 0)
        for settings in (TrainSettings(m=0.0), TrainSettings(m=(1.0, 2.0)), TrainSettings(consolidation=Linear(1.0))):
            assert settings.for_scenario(scenario) is settings

    def test_takes_the_norm_and_the_classes(self):
        settings = TrainSettings(epochs=4, batch_size=30)
        scenario, steps = permuted_tasks(FEW, 2, 0), 2 * 4 * 4
        batch = BinaryMLP.for_images(FEW.train, [8], "batch", tasks=2)
        assert settings.for_scenario(scenario, batch).m == propose_m(steps, settings.lr, norm="batch")
        split = split_classes(FEW, ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9)))
        images = sum(-(-len(part) // 30) for part in split.train)
        assert settings.for_scenario(split).m == propose_m(4 * images, settings.lr, new_classes=True)

    def test_not_for_sgd(self):
        with pytest.raises(ValueError, match="m is not given, and none is proposed for sgd"):
            TrainSettings(optimizer="sgd")
        assert TrainSettings(optimizer="sgd", consolidation=Linear(1.0)).m is None

    def test_an_optimizer_before_m_is_chosen(self):
        with pytest.raises(ValueError, match="m is not chosen yet"):
            TrainSettings().make_optimizer(torch.nn.Linear(2, 2))

    def test_training_takes_it_says_it_and_resumes_with_it(self, tmp_path, capsys):
        scenario = permuted_tasks(FEW, 2, seed=0)
        model = BinaryMLP.for_images(FEW.train, [16], seed=0)
        result = train(model, scenario, TrainSettings(epochs=1), tmp_path / "new")
        want = propose_m(2, 0.005, 2)
        assert result.settings.m == want
        assert f"m = {want}, proposed" in capsys.readouterr().err
        again = train(model, scenario, TrainSettings(epochs=1, m=want), tmp_path / "new", resume=True, progress=False)
        assert again.history == result.history

    def test_a_run_that_began_with_another_default_goes_on_with_it(self, tmp_path):
        """Folders of earlier versions hold m = 8."""
        scenario = permuted_tasks(FEW, 2, seed=0)
        settings = TrainSettings(epochs=1, m=8.0)
        made = [BinaryMLP.for_images(FEW.train, [16], seed=0) for _ in range(2)]
        first = train(made[0], scenario, settings, tmp_path / "old", progress=False)
        after = train(made[1], scenario, replace(settings, m=None), tmp_path / "old", resume=True, progress=False)
        assert after.settings.m == 8.0
        assert after.history == first.history
