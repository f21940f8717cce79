"""Sums of packed signs over windows, counted by words or by tables of four bits: PyTorch's own convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

from lava_meta.graph.bits import pack, unpack
from lava_meta.graph.conv import Window
from lava_meta.graph.packed import nibbles
from lava_meta.graph.packed.sums import SignSums
from lava_meta.jit import compiles_for

LANES, SIDE = 2, 5
WAYS = [False, pytest.param(True, marks=pytest.mark.skipif(not compiles_for("avx2"), reason="needs AVX2"))]


@pytest.mark.parametrize("fours", WAYS)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("inputs", [1, 7, 8, 9, 32, 60, 64, 65, 200])
@pytest.mark.parametrize("units", [1, 31, 32, 33, 64, 130])
def test_windows_of_signs(monkeypatch: Any, fours: bool, groups: int, inputs: int, units: int) -> None:
    monkeypatch.setattr(nibbles, "USED", fours)
    rng = np.random.default_rng([units, inputs, groups])
    kernel = (3, 2) if inputs < 100 else (1, 1)
    window = Window(kernel, stride=(1, 2), padding=(kernel[0] // 2, 0))
    positive = rng.random((groups * units, inputs, *kernel)) < 0.5
    x = rng.random((LANES, SIDE, SIDE, groups * inputs)) < 0.5
    kernel_sums = SignSums(positive, window, (SIDE, SIDE), groups)
    signs = [torch.from_numpy(2.0 * array - 1) for array in (x.transpose(0, 3, 1, 2), positive)]
    expected = conv2d(*signs, stride=window.stride, padding=window.padding, groups=groups).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(kernel_sums.sums(pack(x)), expected)
    if groups == 1:
        limits = rng.integers(-5, 6, (1, units))
        low, high = (rng.random((1, units)) < share for share in (0.2, 0.8))
        fired = unpack(kernel_sums.signs(pack(x), kernel_sums.firing(limits, low, high)), units)
        np.testing.assert_array_equal(fired > 0, np.where(expected >= limits, high, low))


def test_counts_of_more_than_a_byte(monkeypatch: Any) -> None:
    """All signs differ: 4 of each table, 65,000 of a window."""
    monkeypatch.setattr(nibbles, "USED", compiles_for("avx2"))
    inputs = nibbles.MOST // 8 * 8
    kernel = SignSums(np.ones((3, inputs, 1, 1), bool), Window((1, 1)), (2, 2))
    np.testing.assert_array_equal(kernel.sums(pack(np.zeros((1, 2, 2, inputs), bool))), -inputs)


@pytest.mark.parametrize("fours", [False, True])
@pytest.mark.parametrize(("inputs", "kind"), [(2**15 - 2, np.int16), (2**15 - 1, np.int32)])
def test_sums_of_16_bits_and_limits_beyond(monkeypatch: Any, inputs: int, kind: type, fours: bool) -> None:
    """The greatest sum and the least, with limits that they reach, miss by one, and never meet."""
    monkeypatch.setattr(nibbles, "USED", fours and compiles_for("avx2"))
    kernel = SignSums(np.ones((7, inputs, 1, 1), bool), Window((1, 1)), (2, 2))
    signs = np.ones((2, 2, 2, inputs), bool)
    signs[1] = False
    sums = kernel.sums(pack(signs))
    assert sums.dtype == kind
    np.testing.assert_array_equal(sums, np.broadcast_to(np.array([inputs, -inputs]).reshape(2, 1, 1, 1), (2, 2, 2, 7)))
    limits = np.array([[inputs, inputs + 1, 10**9, -inputs, 1 - inputs, -inputs - 1, -(10**9)]])
    firing = kernel.firing(limits, np.zeros((1, 7), bool), np.ones((1, 7), bool))
    np.testing.assert_array_equal(unpack(kernel.signs(pack(signs), firing), 7), sums >= limits)
