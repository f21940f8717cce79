"""Integers as float64 and back, in vectors: NumPy's own conversions, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from lava_meta.graph.packed import casts

COUNT = 4
NUMBERS = np.random.default_rng(0)


def applied(cast: Any, to: Any) -> Any:
    """A function of an array, cast vector by vector."""

    @intrinsic
    def four(typing: Any, x: Any, at: Any, out: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            source, target = (context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 2))
            kinds = [ir.VectorType(context.get_value_type(array.dtype), COUNT) for array in (x, out)]
            places = [
                builder.bitcast(builder.gep(data, [args[1]]), kind.as_pointer())
                for data, kind in zip((source, target), kinds, strict=True)
            ]
            made = cast(builder, builder.load(places[0], align=8))
            builder.store(made, places[1], align=8)
            return context.get_dummy_value()

        return types.void(x, types.intp, out), codegen

    @njit
    def every(x, out):  # type: ignore[no-untyped-def]
        for at in range(0, x.size, COUNT):
            four(x, at, out)

    def given(x: Any) -> Any:
        whole = np.resize(x, -(-x.size // COUNT) * COUNT)
        out = np.empty(whole.size, to)
        every(whole, out)
        return out[: x.size]

    return given


@pytest.mark.parametrize("bits", [51, 63])
def test_integers_become_the_nearest_numbers(bits: int) -> None:
    most = 2**bits - 1
    x = NUMBERS.integers(-most, most, 4000) >> NUMBERS.integers(0, bits, 4000)
    ends = [0, 1, -1, most, -most, 2**31, -(2**31), 2**32, -(2**32) - 1, most - 2**9, 2**50 + 1, 511 - most]
    x = np.concatenate([x, np.array(ends)])
    np.testing.assert_array_equal(applied(casts.to_doubles, np.float64)(x), x.astype(np.float64))


@pytest.mark.parametrize("bits", [51, 62])
def test_numbers_become_the_nearest_integers(bits: int) -> None:
    scale = 2.0 ** NUMBERS.integers(-3, bits, 4000)
    x = NUMBERS.uniform(-1, 1, 4000) * scale
    halves = NUMBERS.integers(-(2**40), 2**40, 1000) + 0.5
    ends = np.array(
        [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 2.0**31, 2.0**32 - 0.5, 2.0**bits - 2.0 ** max(0, bits - 53)]
    )
    x = np.concatenate([x, halves, ends, -ends])
    expected = np.rint(x).astype(np.int64)
    np.testing.assert_array_equal(applied(casts.to_longs, np.int64)(x), expected)
