"""`lava_meta.tune` on digits: what it trains and tests on, and what comes out."""

import os
from dataclasses import replace

import pytest
import torch

import lava_meta
from lava_meta.cli.train_config import TrainConfig
from lava_meta.data import Dataset, load_dataset
from lava_meta.data.scenarios import permuted_tasks, stream_of_subsets
from lava_meta.io.config import changed, read_config
from lava_meta.nn import BinaryMLP
from lava_meta.rule import Linear
from lava_meta.training import TrainSettings, train
from lava_meta.training.proposal import propose_m
from lava_meta.training.settings import RELATIVE_M
from lava_meta.tuning.models import on_held_out

pytest.importorskip("optuna")
DIGITS = load_dataset("digits")
FEW = Dataset("few", DIGITS.train.take(range(200)), DIGITS.test.take(range(50)))
SETTINGS = TrainSettings(epochs=2, batch_size=20)


def make():
    return BinaryMLP.for_images(FEW.train, [16], seed=0)


@pytest.mark.parametrize("scenario", [permuted_tasks(FEW, 2, 0), stream_of_subsets(FEW, 4, 0)])
def test_trials_see_training_images_only_and_each_in_one_place(scenario):
    apart = on_held_out(scenario, 0.2, seed=0)
    for task, test in enumerate(apart.tests):
        of_task = [index for index, of in enumerate(scenario.task_of) if of == task]
        learned = torch.cat([apart.train[index].x for index in of_task])
        given = torch.cat([scenario.train[index].x for index in of_task])
        together = torch.cat([learned, test.x]).flatten(1)
        assert len(test) == pytest.approx(0.2 * len(given), rel=0.2)
        assert sorted(map(tuple, together.tolist())) == sorted(map(tuple, given.flatten(1).tolist()))


def test_a_trial_is_a_training_and_test_images_do_not_matter(tmp_path):
    scenario = permuted_tasks(FEW, 2, 0)
    found = lava_meta.tune(make, scenario, tmp_path / "a", SETTINGS, trials=3, say=lambda line: None)
    m = propose_m(2 * 8, 0.005, 2)
    assert [trial.values["m"] for trial in found.trials] == [m, 2 * m, m / 2]
    by_hand = train(make(), on_held_out(scenario, 0.2, 0), replace(SETTINGS, m=m), progress=False)
    assert found.trials[0].accuracy == pytest.approx(100 * by_hand.matrix.acc(), abs=1e-3)
    blank = replace(FEW, test=replace(FEW.test, x=torch.zeros_like(FEW.test.x)))
    other = lava_meta.tune(make, permuted_tasks(blank, 2, 0), tmp_path / "b", SETTINGS, trials=3, say=lambda line: None)
    assert [trial.accuracy for trial in other.trials] == [trial.accuracy for trial in found.trials]


def test_the_settings_that_it_gives(tmp_path):
    found = lava_meta.tune(make, FEW, tmp_path, SETTINGS, m=4.0, trials=2, held_out=0.5, say=lambda line: None)
    assert found.trials[0].values == {"m": 4.0, "lr": 0.005}
    # Half of the images are half of the steps: m * (lr * steps)**0.8 stays.
    assert found.settings.m == pytest.approx(found.best.values["m"] * 0.5**0.8, rel=0.01)
    assert replace(found.settings, m=None) == SETTINGS
    config = changed(TrainConfig(), read_config(tmp_path / "config.yaml"))
    assert config.training == found.settings
    assert str(found).splitlines()[2].startswith(f"| {1 + found.trials.index(found.best)} |")


def test_an_m_in_medians_stays_what_it_is_for_more_steps(tmp_path):
    settings = replace(SETTINGS, relative=True)
    found = lava_meta.tune(make, FEW, tmp_path, settings, trials=1, held_out=0.5, say=lambda line: None)
    assert found.best.values["m"] == found.settings.m == RELATIVE_M


def test_a_trial_under_way_goes_on_from_its_checkpoint(tmp_path):
    whole = lava_meta.tune(make, FEW, tmp_path / "whole", SETTINGS, trials=1, say=lambda line: None)
    epochs = []

    class Stopping(BinaryMLP):
        def train(self, mode=True):
            if mode and type(self) is Stopping:
                epochs.append(1)
                if len(epochs) == 3:
                    raise KeyboardInterrupt
            return super().train(mode)

    def stopping():
        model = make()
        model.__class__ = Stopping
        return model

    with pytest.raises(KeyboardInterrupt, match="0 of 1 trials are kept"):
        lava_meta.tune(stopping, FEW, tmp_path / "stopped", SETTINGS, trials=1, say=lambda line: None)
    assert [file for _, _, files in os.walk(tmp_path / "stopped") for file in files if file.startswith("checkpoint")]
    again = lava_meta.tune(stopping, FEW, tmp_path / "stopped", SETTINGS, trials=1, resume=True, say=lambda line: None)
    assert again.trials[0].accuracy == whole.trials[0].accuracy


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"consolidation": Linear(1.0)}, "tune searches one m"),
        ({"m": (1.0, 2.0)}, "tune searches one m"),
        ({"m": 0.0}, "with none or one above 0"),
        ({"held_out": 0.0}, r"held_out is 0\.0; it must be between 0 and 1"),
        ({"trials": 0}, "trials is 0"),
    ],
)
def test_refuses(tmp_path, options, says):
    with pytest.raises(ValueError, match=says):
        lava_meta.tune(make, FEW, tmp_path / "out", SETTINGS, **options)
    assert not (tmp_path / "out").exists()
