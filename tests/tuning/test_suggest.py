"""What is tried next: the first three trials, then the peak of a curve that is known; from the arguments alone."""

import numpy as np
import pytest
import torch

from lava_meta.tuning.suggest import Searched, suggest
from lava_meta.tuning.trial import Trial

pytest.importorskip("optuna")


def searched_for(best, trials, search=("m",), seed=0):
    """Trials on a curve with its peak where m * lr is `best`, with the width and noise of docs/results/rules.md."""
    noise = np.random.default_rng(seed)
    found = []
    values = {"m": 10.0, "lr": 0.01}
    for _ in range(trials):
        if found:
            (values,) = suggest(found, Searched(search, seed), 1)
        off = np.log(values["m"] * values["lr"] / best)
        found.append(Trial(values, 90 - min(50.0, 28 * off**2) + noise.normal(), (), 1.0))
    return found


def test_begins_with_twice_and_half_of_the_first():
    first = Trial({"m": 10.0, "lr": 0.01}, 80.0, (), 1.0)
    assert suggest([first], Searched(), 2) == [{"m": 20.0, "lr": 0.01}, {"m": 5.0, "lr": 0.01}]


@pytest.mark.parametrize("best", [0.04, 0.27])
def test_finds_the_peak(best):
    found = max(searched_for(best, 10), key=lambda trial: trial.accuracy).values
    assert found["m"] * found["lr"] == pytest.approx(best, rel=0.3)  # 2 points


def test_the_rate_goes_with_m():
    found = searched_for(0.2, 9, ("m", "lr"))
    assert {trial.values["lr"] for trial in found[:3]} == {0.01}
    tried = [trial.values for trial in found]
    assert all(0.0025 <= values["lr"] <= 0.04 for values in tried)
    assert all(0.1 / 6.01 <= values["m"] * values["lr"] <= 0.601 for values in tried)
    assert len({values["lr"] for values in tried}) > 2


def test_every_choice_is_tried_beside_what_is_best_by_numbers():
    searched = Searched(("m", "grow"), 0, {"grow": ("whole", "gated")})
    first = Trial({"m": 10.0, "lr": 0.01, "grow": "whole"}, 80.0, (), 1.0)
    assert suggest([first], searched, 3)[2] == {"m": 10.0, "lr": 0.01, "grow": "gated"}


def test_follows_from_the_arguments_alone():
    trials = searched_for(0.2, 4)
    first = suggest(trials, Searched(), 2)
    torch.rand(3)
    assert suggest(trials, Searched(), 2) == first


@pytest.mark.parametrize(
    ("search", "says"),
    [
        ((), "it must have m"),
        (("lr",), "search is lr; it must have m"),
        (("m", "decay"), "names 'decay'; what can be searched is m, lr"),
    ],
)
def test_refuses_what_cannot_be_searched(search, says):
    with pytest.raises(ValueError, match=says):
        Searched(search)
