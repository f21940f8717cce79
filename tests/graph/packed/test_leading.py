"""Signs from products in float32 beside the exact sums, with limits that the sums reach or miss by 1."""

from __future__ import annotations

import numpy as np
import pytest

from lava_meta.graph.bits import unpack
from lava_meta.graph.conv import Window
from lava_meta.graph.packed.leading import LeadingProducts
from lava_meta.graph.packed.planes import PlaneSums


@pytest.mark.parametrize("units", [1, 2, 70])
@pytest.mark.parametrize("bits", [18, 40])
@pytest.mark.parametrize("window", [Window((1, 1)), Window((3, 2), stride=(2, 1), padding=(1, 0)), Window((5, 6))])
def test_signs_are_those_of_the_exact_sums(window: Window, bits: int, units: int) -> None:
    rng = np.random.default_rng(bits)
    weight = rng.integers(-(2**bits), 2**bits, (units, 3, *window.kernel))
    x = rng.integers(-1000, 1000, (4, 5, 6, 3)).astype(np.int16)
    assert LeadingProducts.fits(weight, 1000)
    kernel = LeadingProducts(weight, window, (5, 6), 1000)
    views = window.views(x.astype(np.int64).transpose(0, 3, 1, 2))
    exact = np.einsum("nchwij,ucij->nhwu", views, weight)
    np.testing.assert_array_equal(kernel.sums(x), exact)
    # The limits of a place are its sums in one image, which another is unlikely to reach, and these moved by 1.
    for moved in (-1, 0, 1):
        limits = exact[1].reshape(-1, units) + moved
        below = rng.random(limits.shape) < 0.3
        signs = unpack(kernel.signs(x, kernel.firing(limits, below, ~below)), units)
        reached = exact.reshape(4, -1, units) >= limits
        np.testing.assert_array_equal(signs.reshape(reached.shape) > 0, np.where(reached, ~below, below))


@pytest.mark.parametrize("units", [1, 2, 70])
@pytest.mark.parametrize("low", [0, -128])
@pytest.mark.parametrize("window", [Window((1, 1)), Window((3, 2), stride=(2, 1), padding=(1, 0))])
def test_signs_from_leading_digits_are_those_of_the_exact_sums(window: Window, low: int, units: int) -> None:
    rng = np.random.default_rng(units)
    weight = rng.integers(-(2**40), 2**40, (units, 3, *window.kernel))
    x = rng.integers(low, low + 256, (4, 5, 6, 3))
    kernel = PlaneSums(weight, window, (5, 6), low=low)
    exact = np.einsum("nchwij,ucij->nhwu", window.views(x.transpose(0, 3, 1, 2)), weight)
    for moved in (0, 1):
        limits = exact[1].reshape(-1, units) + moved
        below = rng.random(limits.shape) < 0.3
        signs = unpack(kernel.signs((x - low).astype(np.uint8), kernel.firing(limits, below, ~below)), units)
        reached = exact.reshape(4, -1, units) >= limits
        np.testing.assert_array_equal(signs.reshape(reached.shape) > 0, np.where(reached, ~below, below))


def test_what_does_not_fit() -> None:
    one = np.full((1, 4, 1, 1), 2**30)
    assert LeadingProducts.fits(one, 2**24 - 1)
    assert not LeadingProducts.fits(one, 2**24), "float32 would round what comes in"
    assert not LeadingProducts.fits(one >> 29, 255), "float32 holds these sums exactly"
    assert not LeadingProducts.fits(one << 20, 2**20), "sums and bounds pass 62 bits"
