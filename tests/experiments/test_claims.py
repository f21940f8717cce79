"""What the seeds say of a claim, against tables of Student's t and numbers worked by hand."""

import math

import numpy as np
import pytest

from lava_meta.experiments.common.claims import Claim, Verdict, between, both, interval, judge, opposite
from lava_meta.experiments.common.experiment import Measurement, Results, find, names
from lava_meta.experiments.common.report import claim_table
from lava_meta.experiments.common.settings import changed

H, F, U, ONE, NOT = Verdict.HOLDS, Verdict.FAILS, Verdict.UNDECIDED, Verdict.ONE_SEED, Verdict.NOT_RUN


def results(**arms) -> Results:
    return Results({label: [Measurement({"ACC": value}) for value in values] for label, values in arms.items()})


def test_the_interval_by_hand():
    """1, 2, 3: mean 2, deviation 1, t(0.975, 2) = 4.3027: 2 -+ 4.3027 / sqrt(3)."""
    assert interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)
    assert interval([5.0] * 4) == (5.0, 5.0)
    assert all(map(math.isnan, interval([1.0])))


@pytest.mark.parametrize(
    ("values", "above", "verdict"),
    [
        ([3.0, 3.1, 2.9], 0.0, H),
        ([-3.0, -3.1, -2.9], 0.0, F),
        ([9.0, 1.0, 2.0], 0.0, U),  # mean 4, but one seed makes it
        ([9.0], 0.0, ONE),
        ([3.0, math.nan, 3.0], 0.0, NOT),
        ([], 0.0, NOT),
        ([-1.0, -1.1, -0.9], -3.0, H),
    ],
)
def test_a_bound(values, above, verdict):
    assert judge(values, above) is verdict


def test_between_bounds_and_together():
    assert between([0.1, -0.1, 0.0], -2, 2) is H
    assert between([5.0, 5.1, 5.2], -2, 2) is F
    assert between([0.0, 3.0, -3.0], -2, 2) is U
    assert both(H, H) is H
    assert both(H, U) is U
    assert both(ONE, H) is ONE
    assert both(U, F) is F
    assert [opposite(verdict) for verdict in (H, F, U, ONE)] == [F, H, U, ONE]


def test_the_right_verdict_as_often_as_it_says():
    """Two equal arms are told apart in 5 % of the experiments, half of them each way."""
    draw = np.random.default_rng(0)
    verdicts = [judge(draw.normal(size=3), 0.0) for _ in range(4000)]
    for wrong in (H, F):
        assert 0.017 < verdicts.count(wrong) / 4000 < 0.033


def test_arms_are_paired_by_seed():
    """A spread that both arms share takes nothing away: 10 to 50 from seed to seed, always 2 apart."""
    found = results(ours=[12.0, 32.1, 51.9], theirs=[10.0, 30.0, 50.0])
    assert found.above("ours", "theirs", "ACC") is H
    assert found.above("theirs", "ours", "ACC") is F
    assert found.above("ours", "theirs", "ACC", by=5.0) is F
    assert found.above("ours", "other", "ACC") is NOT
    said = found.apart("ACC", "theirs", "ours")
    assert said == "ACC: theirs 30.0 ± 20.0, ours 32.0 ± 20.0; ours less theirs: +2.0 (+1.8 to +2.2)"


def test_one_seed_is_shown_and_not_judged():
    one = results(ours=[90.0], theirs=[10.0])
    assert one.above("ours", "theirs", "ACC") is ONE
    assert one.apart("ACC", "theirs", "ours") == "ACC: theirs 10.0, ours 90.0"
    table = claim_table([Claim("better", "90", one.above("ours", "theirs", "ACC"))])
    assert table[-1] == "| better | 90 | one seed: not judged |"


@pytest.mark.parametrize("name", names())
def test_small_runs_have_three_seeds_and_titles_name_their_data(name):
    experiment = find(name)
    small = experiment.scales["small"]
    assert small.seeds >= 3
    title = experiment.titled(small)
    assert "{" not in title
    data = getattr(small, "data", None)
    if data == "digits":
        assert "digits" in title
        assert "MNIST" not in title
    elif data == "tinted":
        assert title.startswith("tinted Fashion-MNIST")
        assert "CIFAR" not in title
    if data is not None and name != "online_fashion":  # its data are always the same two
        assert "CIFAR-10" in experiment.titled(changed(small, data="cifar10"))


@pytest.mark.parametrize(
    ("arms", "said", "verdict"),
    [
        (("m = 0", "m = 4", "m = 8"), "ACC: m = 0 60.0 ± 1.0, m = 8 80.0 ± 1.0", H),
        (("lasting, m = 0", "lasting, m = 4"), "ACC: lasting, m = 0 60.0 ± 1.0, lasting, m = 4 70.0 ± 1.0", H),
        (("plain", "lasting, m = 4"), "ACC: plain 60.0 ± 1.0, lasting, m = 4 70.0 ± 1.0", H),
        (("lasting, m = 4",), "ACC: lasting, m = 0 not run, lasting, m = 4 60.0 ± 1.0", NOT),
        (("m = 0", "lasting, m = 4"), "ACC: m = 0 60.0 ± 1.0, m > 0 not run", NOT),
        (("ewc",), "ACC: m = 0 not run, m > 0 not run", NOT),
    ],
)
def test_claims_name_the_arms_that_they_compare(arms, said, verdict):
    """By which rule they are, where it is another than the metaplastic one; the arms run gain ten points each."""
    experiment, first = find("permuted_mnist"), [59.0, 60.0, 61.0]
    found = results(**{arm: [value + 10 * place for value in first] for place, arm in enumerate(arms)})
    claim = experiment.claims(experiment.scales["small"], found)[0]
    assert claim.measured.startswith(said)
    assert claim.verdict is verdict
