"""Numbers of which values are whole multiples."""

from __future__ import annotations

import numpy as np
import pytest

from lava_meta.converters.functions.lattices import Steps, codes_of, multiples_of


def steps(first: float, *after: float) -> Steps:
    count = len(after)
    return Steps(np.array([first]), np.zeros(count, np.int64), np.arange(1, count + 1), np.array(after))


@pytest.mark.parametrize("unit", [1.0, 1 / 3, 0.1 + 0.2, 2.0**-20])
def test_multiples_but_for_rounding(unit: float) -> None:
    noise = 1 + 4e-16
    found = multiples_of(steps(-3 * unit, unit * noise, 2 * unit, 5 * unit / noise), flat=False)
    assert found is not None
    np.testing.assert_allclose(found[0], unit, rtol=1e-12)
    codes = codes_of(np.array([-3 * unit, unit * noise]), found[0])
    assert codes is not None
    assert codes.tolist() == [-3, 1]


@pytest.mark.parametrize("others", [(1.0, 0.7, 0.5), (0.05, 0.03)])
def test_one_value_far_above_all_others_does_not_make_zeros_of_them(others: tuple[float, ...]) -> None:
    """As the reciprocal of a length that is at least 1e-12 has them."""
    assert multiples_of(steps(1e12, *others), flat=False) is None
    assert codes_of(np.array([1e12, *others]), np.array([1e12])) is None
