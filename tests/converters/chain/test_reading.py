"""The pages on conversion say what the code does: their tables are the code's, their examples run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from lava_meta.converters.chain.reading import SUPPORTED, flat, read, support_table
from lava_meta.errors import ConversionError
from lava_meta.nn import BinaryLinear, Pixels, Sign

DOCS = Path(__file__).parents[3] / "docs"


def test_the_table_of_the_page_is_the_codes() -> None:
    """If this fails, put the output of the function into the page."""
    text = (DOCS / "supported.md").read_text(encoding="utf-8")
    assert support_table() in text
    assert all(f"`{'nn.' if hasattr(nn, kind.__name__) else ''}{kind.__name__}`" in text for kind in SUPPORTED)


def test_nested_modules_have_their_places_and_one_used_twice_stands_twice() -> None:
    sign = Sign()
    inner = nn.Sequential(BinaryLinear(4, 4), sign)
    model = nn.Sequential(Pixels(), inner, nn.Sequential(BinaryLinear(4, 4), sign), BinaryLinear(4, 2))
    assert [name for name, _ in flat(model)] == ["0", "1.0", "1.1", "2.0", "2.1", "3"]
    stages = read(model).stages
    assert [(stage.name, stage.end) for stage in stages] == [
        ("1.0 (BinaryLinear)", 2),
        ("2.0 (BinaryLinear)", 4),
        ("3 (BinaryLinear)", 5),
    ]


def test_a_sequential_with_a_forward_of_its_own_is_read_by_it() -> None:
    class Residual(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + super().forward(x)

    with pytest.raises(
        ConversionError, match=r"1.add \(add\) in the forward of 1 \(Residual\) does not take the value"
    ):
        read(nn.Sequential(Pixels(), Residual(BinaryLinear(4, 4), Sign()), BinaryLinear(4, 2)))
