"""How sure a network is: draws by the written probability, measures against torch's, and images that it cannot know."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lava_meta.data import load_dataset
from lava_meta.experiments.online_uncertainty import auc, calibration
from lava_meta.online_learning import Learner, OnlineRule, Prediction
from lava_meta.online_learning.uncertainty import _drawn


def learned(precision: object = 8) -> Learner:
    rule = OnlineRule.sparse(lr=0.05)
    learner = Learner([64, 200, 10], rule, precision=precision, backend="kernels", max_level=16)  # type: ignore[arg-type]
    learner.fit(load_dataset("digits").train)
    return learner


@pytest.mark.parametrize("precision", [8, "float"])
def test_signs_flip_with_the_written_probability(precision: object) -> None:
    learner = learned(precision)
    before = [{name: values.copy() for name, values in state.items()} for state in learner.states]
    flipped, expected = [], []
    for seed in range(20):
        drawn = _drawn(learner.net, np.random.default_rng(seed), width=0.3)
        h, limit = learner.states[0]["hidden"], learner.net.limits[0]
        flipped.append((drawn.states[0]["hidden"] >= 0) != (h >= 0))
        expected.append(0.5 * np.exp(-np.abs(h) / (0.3 * limit)))
    share, size = np.mean(flipped, axis=0), np.abs(h) / limit
    for low in (0.0, 0.2, 0.4, 0.6):
        near = (size >= low) & (size < low + 0.2)
        assert near.sum() > 200
        assert share[near].mean() == pytest.approx(expected[0][near].mean(), abs=0.01)
    for state, was in zip(learner.states, before, strict=True):
        for name, values in was.items():
            np.testing.assert_array_equal(state[name], values)


def test_without_flips_it_is_the_network_itself() -> None:
    learner, x = learned(), load_dataset("digits").test.x
    said = learner.predict(x, uncertainty=True, samples=2, width=0.0)
    np.testing.assert_array_equal(said.classes, learner.predict(x))
    np.testing.assert_allclose(said.disagreement, 0.0, atol=1e-12)
    entropy = torch.distributions.Categorical(torch.from_numpy(said.probabilities)).entropy()
    np.testing.assert_allclose(said.entropy, entropy.numpy(), atol=1e-6)  # torch clamps probabilities


def test_it_knows_digits_from_shuffled_ones_and_where_it_errs() -> None:
    learner, digits = learned(), load_dataset("digits")
    shuffled = digits.test.permuted(np.random.default_rng(0).permutation(64))
    known, other = (learner.predict(images.x, uncertainty=True) for images in (digits.test, shuffled))
    assert auc(known.entropy, other.entropy) > 0.8
    assert auc(known.disagreement, other.disagreement) > 0.7
    right = known.classes == digits.test.y.numpy()
    assert auc(known.entropy[right], known.entropy[~right]) > 0.8
    assert (known.disagreement > -1e-12).all()
    assert (known.disagreement <= known.entropy + 1e-12).all()


def test_samples_and_widths_that_are_none_are_refused() -> None:
    learner = Learner([64, 10], backend="kernels", input_mean=0.3)
    for options in ({"samples": 0}, {"width": -1.0}):
        with pytest.raises(ValueError, match=r"give a sample or more, and a width of 0 or more"):
            learner.predict(np.zeros((1, 64), np.uint8), uncertainty=True, **options)  # type: ignore[call-overload]


def test_area_and_calibration_of_known_cases() -> None:
    assert auc(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == 1.0
    assert auc(np.array([1.0, 3.0]), np.array([1.0, 2.0])) == pytest.approx((0.5 + 0 + 1 + 0) / 4)
    p = np.array([[0.8, 0.2]] * 10)
    labels = np.array([0] * 6 + [1] * 4)  # sure by 0.8, right in 0.6
    error, rows = calibration(Prediction(np.zeros(10, np.int64), p, p[:, 0], p[:, 0]), labels)
    assert error == pytest.approx(0.2)
    assert rows == [[pytest.approx(0.8), 0.6, 1.0]]
